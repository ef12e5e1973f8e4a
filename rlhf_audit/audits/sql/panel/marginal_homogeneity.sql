/*
id = "marginal_homogeneity"
question = "Do two raters who judged the same items give each label equally often?"
severity = "warning"
reads = ["items", "ratings", "pair_answers"]
grain = "one pair of raters, `rater/rater` (of another panel, see agreement, `rater/rater:panel`); with three labels or more also the pair by three other tests, `rater/rater Stuart-Maxwell`, `… Bhapkar`, `… Bowker`"
n_min = 10
n_counts = "items that the two answered differently"
value = "of all items that both rated, the share that the one rated higher less the share that the other did, without sign (Stuart-Maxwell, Bhapkar: the largest difference of a label's share; Bowker: of two mirrored cells)"
flag = "the pair itself, or its Stuart-Maxwell row: the value reaches the threshold and q <= .01; the other two are printed, never flagged"
estimator = "marginal_homogeneity"
caveats = [
  "q must be .01 (ours) where other audits take .05: the tests are of many differences and few answers, where their p is too small.",
  "Who of the two is the higher is read from severity: raters differ in level more often than not, and a rater who is far from all makes as many pairs as there are raters.",
  "Of two labels Stuart-Maxwell and Bowker are the same test as that of the pair, and Bhapkar's is n X / (n - X) of its X: one row says all.",
  "The interval of the largest of several differences holds whichever of them is the largest (Bonferroni): it is wider than that of one difference looked at alone.",
  "A panel of more than `max_labels` different labels is left out.",
]
references = ["Stuart 1955", "Maxwell 1970", "Bhapkar 1966", "Bowker 1948", "Bishop, Fienberg and Holland 1975 (rater bias, as in R's irr)"]

[params.threshold]
type = "float"
default = 0.05
meaning = "difference that matters"

[params.max_labels]
type = "int"
default = 10
meaning = "most different labels of a panel, at most 100 (ours)"

[test]
distribution = "given"
rate = 0.01
hypothesis = "the two raters give each label equally often"
family = "test"
*/
WITH panels AS (  -- items are numbered panel by panel
  SELECT
    row_number() OVER (ORDER BY kind, objective) AS panel, kind, objective, min(item) AS first_item, max(item) AS last_item,
    CASE
      WHEN kind = 'rating' AND coalesce(objective, 'correct') = 'correct' THEN ''
      WHEN kind = 'rating' THEN concat(':', objective)
      WHEN coalesce(objective, 'correct') = 'correct' THEN concat(':', kind)
      ELSE concat(':', kind, ' ', objective)
    END AS suffix
  FROM items
  GROUP BY kind, objective
),
members AS (
  SELECT panel, suffix, panels.kind, panels.objective, count(DISTINCT value) AS n_labels
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  GROUP BY panel, suffix, panels.kind, panels.objective
),
cells AS (  -- the contingency table of each pair; pair_answers has none of more than 100 labels
  SELECT
    panel, a, b, value_a AS va, value_b AS vb, CAST(sum(n) AS BIGINT) AS c
  FROM pair_answers
    JOIN members ON members.kind = pair_answers.kind AND members.objective IS NOT DISTINCT FROM pair_answers.objective
  WHERE n_labels <= least($max_labels, 100)
  GROUP BY panel, a, b, value_a, value_b
)
SELECT
  CAST(cells.panel AS INTEGER) AS panel,
  dense_rank() OVER (ORDER BY a, b) AS pair,
  concat(a, '/', b, suffix) AS subject,
  va AS label_a,
  vb AS label_b,
  c
FROM cells JOIN members USING (panel)
