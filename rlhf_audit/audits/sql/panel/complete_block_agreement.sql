/*
id = "complete_block_agreement"
question = "How far do raters who all judged the same items rank and scale them alike?"
severity = "warning"
reads = ["items", "ratings"]
grain = "one coefficient over the items of a panel (see agreement) that all its raters rated: `Kendall W` (corrected for ties) and Shrout and Fleiss's `ICC(1,1)` (any raters, one rating), `ICC(2,1)` (these, of many), `ICC(3,1)` (these only, levels apart) and `(·,k)`, of the mean of all"
n_min = 5
n_counts = "items that all raters of the panel rated, two raters at least"
value = "the coefficient: 1 is perfect"
flag = "ICC(2,1) below the threshold; the others are printed beside it and never flagged"
estimator = "complete_block_agreement"
caveats = [
  "Where no item was rated by every rater, as in a crowd, there is nothing to compute, and no row.",
  "The intervals are those of normally distributed ratings; of two labels they are rough.",
  "An ICC is low where the items hardly differ, however well the raters agree.",
]
references = ["Shrout and Fleiss 1979", "McGraw and Wong 1996", "Kendall and Babington Smith 1939", "Koo and Li 2016 (below .5 is poor)"]

[params.threshold]
type = "float"
default = 0.5
meaning = "ICC(2,1) below it is called poor (Koo and Li)"
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
crowd AS (SELECT panel, count(DISTINCT rater_id) AS r FROM ratings JOIN panels ON item BETWEEN first_item AND last_item GROUP BY panel),
active AS (  -- so that each name is handed over once; only items that all have rated
  SELECT panel, suffix, r, first_item, last_item, rater_id, min(item) AS named_at
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item JOIN crowd USING (panel)
  WHERE m = r AND r >= 2
  GROUP BY panel, suffix, r, first_item, last_item, rater_id
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
WHERE m = r
