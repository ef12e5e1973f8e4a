/*
id = "gold_accuracy"
question = "How often is each rater right where the right label is known, and how often is the panel?"
severity = "warning"
reads = ["gold", "items", "ratings"]
grain = "one rater (of another panel than ratings of `correct`, see agreement, `rater:panel`); and for the panel `all answers`, `majority` (the label that most gave, of a tie the higher) and `Dawid-Skene` (the likeliest label, see truth_inference). No row where no right label is known"
n_min = 20
n_counts = "the rater's ratings of items whose right label is known (of the panel: such items; for majority and Dawid-Skene with enough ratings)"
value = "share of answers that are right, where the right label is known"
flag = "a rater: the others' share on all such items, and on the same items, is above the value by the threshold or more, and q <= .05"
estimator = "gold_accuracy"
caveats = [
  "Right labels are those of a column `gold` in ratings taken in by `import --format ratings`. They are somebody's judgement too: where many raters contradict one, look at it first.",
  "p is of the others' share on all items; the items may be harder than those of others. So the others must be more often right on the very same items as well, and the note says where they are not.",
  "A label is right only if it equals the known one: of an ordered scale a near miss is as wrong as a far one.",
  "The interval of all answers is over items, with these raters given.",
  "A panel of more than `max_labels` different labels is left out.",
]
references = ["Wilson 1927 (the interval)", "Snow, O'Connor, Jurafsky and Ng 2008 (majority against gold)", "Dawid and Skene 1979"]

[params.threshold]
type = "float"
default = 0.1
meaning = "smallest difference from the others that matters (ours)"

[params.min_ratings]
type = "int"
default = 3
meaning = "fewest ratings of an item from which a label is inferred"

[params.max_labels]
type = "int"
default = 10
meaning = "most different labels of a panel (ours)"

[params.max_steps]
type = "int"
default = 300
meaning = "steps of EM after which it ends even where it still gains 1e-9 or more (ours)"

[test]
distribution = "given"
hypothesis = "the rater is right as often as the others are (exact binomial)"
family = "panel"
*/
WITH golden AS (
  SELECT items.item, gold.value AS gold
  FROM items JOIN gold ON gold.episode_id = items.episode_id AND gold.step = items.step
  WHERE items.kind = 'rating' AND gold.value IS NOT NULL
),
panels AS (  -- items are numbered panel by panel
  SELECT
    row_number() OVER (ORDER BY kind, objective) AS panel, min(items.item) AS first_item, max(items.item) AS last_item,
    count(gold) AS n_gold,
    CASE
      WHEN kind = 'rating' AND coalesce(objective, 'correct') = 'correct' THEN ''
      WHEN kind = 'rating' THEN concat(':', objective)
      WHEN coalesce(objective, 'correct') = 'correct' THEN concat(':', kind)
      ELSE concat(':', kind, ' ', objective)
    END AS suffix
  FROM items LEFT JOIN golden ON golden.item = items.item
  GROUP BY kind, objective
),
active AS (  -- so that each name is handed over once
  SELECT panel, suffix, first_item, last_item, rater_id, min(item) AS named_at
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  WHERE n_gold > 0
  GROUP BY panel, suffix, first_item, last_item, rater_id
),
numbered AS (SELECT *, row_number() OVER (ORDER BY panel, rater_id) AS rater FROM active)
SELECT
  CAST(panel AS INTEGER) AS panel,
  CAST(rater AS INTEGER) AS rater,
  CAST(ratings.item AS INTEGER) AS item,
  value,
  gold,
  CASE WHEN ratings.item = named_at THEN ratings.rater_id END AS rater_id,
  CASE WHEN ratings.item = named_at THEN suffix END AS suffix
FROM ratings JOIN numbered ON numbered.rater_id = ratings.rater_id AND ratings.item BETWEEN first_item AND last_item
  LEFT JOIN golden ON golden.item = ratings.item
