/*
id = "item_controversy"
question = "On which items do the raters disagree most, and more than their usual errors explain?"
severity = "info"
reads = ["items", "ratings"]
grain = "one item, `item <name>`: of each panel (see agreement) the `top` share that is disputed most, and never more than `max_rows`; and the panel itself, `all items`"
n_min = 3
n_counts = "ratings of the item (the panel: items with enough of them)"
value = "chance that two ratings of the item differ (the panel: the mean)"
flag = "listed, and more answers differ than the raters' confusion matrices make likely whichever label is true, q <= .01 over all items of the panel"
estimator = "item_controversy"
caveats = [
  "q must be .01 (ours) where other audits take .05: a log has thousands of items, and one of them by chance.",
  "Only the most disputed items are rows, so that a report of a million items stays readable; p is corrected for all of them.",
  "Items equally disputed are taken by their numbers, ten times as many as are listed, and of those the ones whose truth is least clear.",
  "An item's interval is Wilson's, as if its m ratings were m / 2 separate pairs, rounded down: the bound for all pairs of them (Hoeffding 1963). It is wide, for the ratings are few; and who lists the most disputed items lists chance as well.",
  "Where EM was stopped by `max_steps` every note of the panel says so: its margins and p may still move.",
  "The note gives the entropy of the labels in bits, the margin between the two likeliest true labels (Dawid-Skene), and for three labels or more Sarle's bimodality, above .555 for more than one peak.",
  "A disputed item may be a bad question, not a fault of the raters. A panel of more than `max_labels` different labels is left out.",
]
references = ["Dawid and Skene 1979", "Sarle's bimodality coefficient: SAS/STAT 1990", "Aroyo and Welty 2015, Truth is a lie", "Wilson 1927; Hoeffding 1963, Journal of the American Statistical Association 58:13, section 5 (the interval)"]

[params.top]
type = "float"
default = 0.05
meaning = "share of the items that is listed"

[params.max_rows]
type = "int"
default = 100
meaning = "most items listed of a panel (ours)"

[params.max_labels]
type = "int"
default = 10
meaning = "most different labels of a panel (ours)"

[params.max_steps]
type = "int"
default = 60
meaning = "steps of EM after which it ends even where it still gains 1e-9 or more (ours)"

[test]
distribution = "given"
rate = 0.01
hypothesis = "the item has one true label and the raters err as often as they do elsewhere"
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
  WHERE m >= $n_min
  GROUP BY panel, suffix, first_item, last_item, rater_id
),
counts AS (
  SELECT panel, item, m, value, count(*) AS n_ik
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  WHERE m >= $n_min
  GROUP BY panel, item, m, value
),
same AS (SELECT panel, item, m, CAST(sum(n_ik * (n_ik - 1)) AS BIGINT) AS n_same FROM counts GROUP BY panel, item, m),
ranked AS (  -- the most disputed, equally disputed ones by their numbers
  SELECT item, row_number() OVER (PARTITION BY panel ORDER BY CAST(n_same AS DOUBLE) / (m * (m - 1)), item) AS place
  FROM same
),
candidates AS (SELECT item, name FROM ranked JOIN items USING (item) WHERE place <= 10 * $max_rows),
numbered AS (SELECT *, row_number() OVER (ORDER BY panel, rater_id) AS rater FROM active)
SELECT
  CAST(panel AS SMALLINT) AS panel,
  CAST(rater AS INTEGER) AS rater,
  CAST(item AS INTEGER) AS item,
  value,
  CASE WHEN item = named_at THEN ratings.rater_id END AS rater_id,
  CASE WHEN item = named_at THEN suffix END AS suffix,
  name
FROM ratings JOIN numbered ON numbered.rater_id = ratings.rater_id AND item BETWEEN first_item AND last_item
  LEFT JOIN candidates USING (item)
WHERE m >= $n_min
