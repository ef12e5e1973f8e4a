/*
id = "pairwise_kappa"
question = "Which raters agree with which, and does somebody agree with nobody?"
severity = "warning"
reads = ["items", "ratings", "pair_answers"]
grain = "one pair of raters, `rater/rater`; and one rater over all pairs; ratings of `correct` under the plain name, another panel (see agreement) as `rater:objective`, `rater/rater:comparison`"
n_min = 20
n_counts = "items that both rated (a rater: summed over the pairs that have enough)"
value = "Cohen's kappa of the pair (a rater: the median over the pairs that have enough)"
flag = "a rater only: the median lies more than `mads` median absolute deviations below the panel's median, and q <= .05; pairs are printed, never flagged"
caveats = [
  "Two raters cannot be told apart: with one pair nobody is flagged.",
  "Kappa is low where nearly all answers are the same; see agreement for the prevalence paradox.",
  "A rater's z uses the larger of the own and the panel's median standard error, and treats the pairs of a rater as one (conservative; ours).",
  "Labels are compared as equal or not; a panel of more than `max_labels` different labels is left out.",
  "A constant rater has kappa 0 with everybody; see constant_rater. Of several answers of a rater to an item the last counts.",
  "Where all answers agree the formula has nothing to go by, and the interval no width: that is no certainty.",
]
references = ["Cohen 1960", "Fleiss, Cohen and Everitt 1969 (the standard error)"]

[params.mads]
type = "float"
default = 2.0
meaning = "distance below the panel's median, in median absolute deviations, that matters"

[params.max_labels]
type = "int"
default = 100
meaning = "most different labels of a panel whose pairs are compared, at most 100 (ours)"

[test]
distribution = "normal"
hypothesis = "the rater's median kappa equals the panel's (raters only)"
family = "panel"
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
used AS (
  SELECT panel, rater_id, value, count(*) AS n_used
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  GROUP BY panel, rater_id, value
),
members AS (
  SELECT panel, suffix, panels.kind, panels.objective, count(DISTINCT value) AS n_labels
  FROM used JOIN panels USING (panel)
  GROUP BY panel, suffix, panels.kind, panels.objective
),
cells AS (  -- the contingency table of each pair; pair_answers has none of more than 100 labels
  SELECT
    panel, a, b, value_a AS va, value_b AS vb, CAST(sum(n) AS BIGINT) AS c
  FROM pair_answers
    JOIN members ON members.kind = pair_answers.kind AND members.objective IS NOT DISTINCT FROM pair_answers.objective
  WHERE n_labels <= least($max_labels, 100)
  GROUP BY panel, a, b, value_a, value_b
),
margins AS (
  SELECT panel, a, b, label, CAST(sum(c_a) AS BIGINT) AS c_a, CAST(sum(c_b) AS BIGINT) AS c_b
  FROM (
    SELECT panel, a, b, va AS label, c AS c_a, 0 AS c_b FROM cells
    UNION ALL
    SELECT panel, a, b, vb, 0, c FROM cells
  ) AS sides
  GROUP BY panel, a, b, label
),
chance AS (
  SELECT panel, a, b, CAST(sum(c_a) AS BIGINT) AS n, CAST(sum(c_a * c_b) AS DOUBLE) AS hits
  FROM margins
  GROUP BY panel, a, b
),
weighed AS (  -- far: of both labels of a cell, how often the *other* rater of the pair gave them; a whole number
  SELECT
    cells.panel, cells.a, cells.b, va, vb, c, first.c_b + second.c_a AS far
  FROM cells JOIN margins AS first ON first.panel = cells.panel AND first.a = cells.a AND first.b = cells.b AND first.label = va
    JOIN margins AS second ON second.panel = cells.panel AND second.a = cells.a AND second.b = cells.b AND second.label = vb
),
totals AS (
  SELECT
    panel, a, b,
    CAST(sum(CASE WHEN va = vb THEN c ELSE 0 END) AS DOUBLE) AS same,
    CAST(sum(CASE WHEN va = vb THEN c * far ELSE 0 END) AS DOUBLE) AS same_far,
    CAST(sum(c * far * far) AS DOUBLE) AS all_far
  FROM weighed
  GROUP BY panel, a, b
),
kappas AS (  -- po, pe: shares of equal labels, observed and by chance
  SELECT
    panel, a, b, n, same / n AS po, hits / n / n AS pe, same_far, all_far,
    (same / n - hits / n / n) / nullif(1 - hits / n / n, 0) AS kappa
  FROM totals JOIN chance USING (panel, a, b)
),
pairs AS (
  SELECT
    panel, a, b, n, kappa,
    sqrt(greatest(po - 2 * (1 - kappa) * same_far / n / n + pow((1 - kappa) / n, 2) * all_far / n
      - pow(po - 2 * (1 - kappa) * pe, 2), 0) / n) / nullif(1 - pe, 0) AS se
  FROM kappas
),
sides AS (
  SELECT panel, a AS rater_id, n, kappa, se FROM pairs
  UNION ALL
  SELECT panel, b, n, kappa, se FROM pairs
),
medians AS (
  SELECT panel, rater_id, CAST(sum(n) AS BIGINT) AS n, median(kappa) AS kappa, median(se) AS se
  FROM sides
  WHERE n >= $n_min AND kappa IS NOT NULL
  GROUP BY panel, rater_id
),
usual AS (SELECT panel, median(se) AS usual_se FROM pairs WHERE n >= $n_min AND kappa IS NOT NULL GROUP BY panel),
centre AS (SELECT panel, median(kappa) AS middle FROM medians GROUP BY panel),
spread AS (
  SELECT panel, any_value(middle) AS middle, median(abs(kappa - middle)) AS mad
  FROM medians JOIN centre USING (panel)
  GROUP BY panel
),
report AS (
  SELECT concat(a, '/', b, suffix) AS subject, panel, n, kappa, se, NULL AS statistic, FALSE AS low, n_labels
  FROM pairs JOIN members USING (panel)
  UNION ALL
  SELECT
    concat(rater_id, suffix), panel, coalesce(n, 0), kappa, se,
    CASE
      WHEN greatest(se, usual_se) > 0 THEN (kappa - middle) / greatest(se, usual_se)
      WHEN kappa < middle THEN CAST('-Infinity' AS DOUBLE)
    END,
    kappa < middle - $mads * mad, n_labels
  FROM (SELECT DISTINCT panel, rater_id FROM used) AS active
    JOIN members USING (panel)
    LEFT JOIN medians USING (panel, rater_id) LEFT JOIN usual USING (panel) LEFT JOIN spread USING (panel)
)
SELECT
  subject,
  n,
  kappa AS value,
  kappa - 1.959963984540054 * se AS lower,
  CASE WHEN kappa + 1.959963984540054 * se > 1 THEN 1 ELSE kappa + 1.959963984540054 * se END AS upper,
  statistic,
  panel,
  coalesce(low AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n_labels > least($max_labels, 100) THEN 'too many different labels'
    WHEN n < $n_min THEN 'insufficient'
    WHEN kappa IS NULL THEN 'all answers are the same'
    WHEN low THEN 'agrees less than the panel'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
