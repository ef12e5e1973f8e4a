/*
id = "truth_inference"
question = "How often does each rater say what is probably true?"
severity = "warning"
reads = ["items", "ratings"]
grain = "one rater, over the items of a panel (see agreement; another than ratings of `correct` as `rater:panel`) that have enough ratings; and one label, `label x`"
n_min = 30
n_counts = "ratings that count (a label: items)"
value = "the rater's accuracy: the chance that an answer is the true label, by the rater's confusion matrix and the labels' prevalence (a label: its prevalence)"
flag = "accuracy not surely higher (its interval reaches down to it) than the prevalence of the commonest label, which somebody reaches who never looks, and below the panel's median with q <= .05"
estimator = "truth_inference"
caveats = [
  "The lower end of the interval is compared (ours): of those who answer at random half come out a little above the prevalence.",
  "Nobody knows the truth: it is what the raters say, each weighed by how they agree with the others. Where most of them err in the same way, the error is called true.",
  "The model takes answers to be independent given the true label: copied answers make each other look right.",
  "The interval of a rater takes the others' confusion matrices as given.",
  "Items with fewer than `min_ratings` ratings are left out; so is a panel of more than `max_labels` different labels.",
]
references = ["Dawid and Skene 1979", "Varadhan and Roland 2008 (the acceleration)"]

[params.min_ratings]
type = "int"
default = 3
meaning = "fewest ratings of an item"

[params.max_labels]
type = "int"
default = 10
meaning = "most different labels of a panel (ours)"

[params.max_steps]
type = "int"
default = 300
meaning = "steps of EM after which it ends even where it still gains 1e-9 or more (ours)"

[test]
distribution = "normal"
hypothesis = "the rater's accuracy is the panel's median"
family = "panel"
*/
WITH panels AS (  -- items are numbered panel by panel
  SELECT
    row_number() OVER (ORDER BY kind, objective) AS panel, min(item) AS first_item, max(item) AS last_item,
    CASE
      WHEN kind = 'rating' AND coalesce(objective, 'correct') = 'correct' THEN ''
      WHEN kind = 'rating' THEN concat(':', objective)
      WHEN coalesce(objective, 'correct') = 'correct' THEN concat(':', kind)
      ELSE concat(':', kind, ' ', objective)
    END AS suffix
  FROM items
  GROUP BY kind, objective
),
active AS (  -- so that each name is handed over once
  SELECT panel, suffix, first_item, last_item, rater_id, min(item) AS named_at
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  WHERE m >= $min_ratings
  GROUP BY panel, suffix, first_item, last_item, rater_id
),
numbered AS (SELECT *, row_number() OVER (ORDER BY panel, rater_id) AS rater FROM active)
SELECT
  CAST(panel AS SMALLINT) AS panel,
  CAST(rater AS INTEGER) AS rater,
  CAST(item AS INTEGER) AS item,
  value,
  CASE WHEN item = named_at THEN ratings.rater_id END AS rater_id,
  CASE WHEN item = named_at THEN suffix END AS suffix
FROM ratings JOIN numbered ON numbered.rater_id = ratings.rater_id AND item BETWEEN first_item AND last_item
WHERE m >= $min_ratings
