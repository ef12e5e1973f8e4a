/*
id = "pairwise_kappa"
question = "Which raters agree with which, and does somebody agree with nobody?"
severity = "warning"
reads = ["usable_for_audit"]
grain = "one pair of raters, `rater/rater`; and one rater over all pairs"
n_min = 20
n_counts = "items that both rated (a rater: summed over the pairs that have enough)"
value = "Cohen's kappa of the pair (a rater: the median over the pairs that have enough)"
flag = "a rater only: the median lies more than `mads` median absolute deviations below the panel's median, and q <= .05; pairs are printed, never flagged"
caveats = [
  "Two raters cannot be told apart: with one pair nobody is flagged.",
  "Kappa is low where nearly all answers are the same; see agreement for the prevalence paradox.",
  "A rater's z uses the larger of the own and the panel's median standard error, and treats the pairs of a rater as one (conservative; ours).",
  "A constant rater has kappa 0 with everybody; see constant_rater. Of several ratings of an item by one rater the last counts.",
]
references = ["Cohen 1960", "Fleiss, Cohen and Everitt 1969 (the standard error)"]

[params.mads]
type = "float"
default = 2.0
meaning = "distance below the panel's median, in median absolute deviations, that matters"

[test]
distribution = "normal"
hypothesis = "the rater's median kappa equals the panel's (raters only)"
*/
WITH ratings AS (
  SELECT rater_id, item, objective, max_by(value, (session_n, "row")) AS value
  FROM usable_for_audit
  WHERE kind = 'rating' AND value IS NOT NULL
  GROUP BY rater_id, item, objective
),
cells AS (  -- the contingency table of each pair
  SELECT x.rater_id AS a, y.rater_id AS b, x.value AS va, y.value AS vb, count(*) AS c
  FROM ratings AS x JOIN ratings AS y
    ON x.item = y.item AND x.objective = y.objective AND x.rater_id < y.rater_id
  GROUP BY x.rater_id, y.rater_id, x.value, y.value
),
margins_a AS (SELECT a, b, va AS value, CAST(sum(c) AS BIGINT) AS c_a FROM cells GROUP BY a, b, va),
margins_b AS (SELECT a, b, vb AS value, CAST(sum(c) AS BIGINT) AS c_b FROM cells GROUP BY a, b, vb),
by_chance AS (
  SELECT a, b, sum(c_a * c_b) AS hits
  FROM margins_a JOIN margins_b USING (a, b, value)
  GROUP BY a, b
),
shares AS (  -- po, pe: shares of equal labels, observed and by chance
  SELECT
    a, b, CAST(sum(c) AS BIGINT) AS n,
    coalesce(sum(c) FILTER (WHERE va = vb), 0) / sum(c) AS po,
    coalesce(any_value(hits), 0) / (sum(c) * sum(c)) AS pe
  FROM cells LEFT JOIN by_chance USING (a, b)
  GROUP BY a, b
),
kappas AS (
  SELECT *, (po - pe) / nullif(1 - pe, 0) AS kappa
  FROM shares
),
terms AS (  -- of the variance, one a cell: each label's share with the *other* rater of the pair
  SELECT
    cells.a, cells.b, n, kappa, po, pe,
    c / n * pow(CASE WHEN va = vb THEN 1 ELSE 0 END
      - (1 - kappa) * (coalesce(mb.c_b, 0) / n + coalesce(ma.c_a, 0) / n), 2) AS term
  FROM cells JOIN kappas ON cells.a = kappas.a AND cells.b = kappas.b
    LEFT JOIN margins_b AS mb ON mb.a = cells.a AND mb.b = cells.b AND mb.value = cells.va
    LEFT JOIN margins_a AS ma ON ma.a = cells.a AND ma.b = cells.b AND ma.value = cells.vb
),
pairs AS (
  SELECT
    a, b, n, kappa,
    sqrt(greatest(sum(term ORDER BY term) - pow(po - 2 * (1 - kappa) * pe, 2), 0) / n) / nullif(1 - pe, 0) AS se
  FROM terms
  GROUP BY a, b, n, kappa, po, pe
),
sides AS (
  SELECT a AS rater_id, n, kappa, se FROM pairs
  UNION ALL
  SELECT b, n, kappa, se FROM pairs
),
medians AS (
  SELECT rater_id, CAST(sum(n) AS BIGINT) AS n, median(kappa) AS kappa, median(se) AS se
  FROM sides
  WHERE n >= $n_min AND kappa IS NOT NULL
  GROUP BY rater_id
),
centre AS (
  SELECT median(kappa) AS middle, (SELECT median(se) FROM pairs WHERE n >= $n_min AND kappa IS NOT NULL) AS usual_se
  FROM medians
),
panel AS (
  SELECT any_value(middle) AS middle, any_value(usual_se) AS usual_se, median(abs(kappa - middle)) AS mad
  FROM medians CROSS JOIN centre
),
report AS (
  SELECT concat(a, '/', b) AS subject, n, kappa, se, NULL AS statistic, FALSE AS low
  FROM pairs
  UNION ALL
  SELECT
    rater_id, coalesce(n, 0), kappa, se,
    CASE
      WHEN greatest(se, usual_se) > 0 THEN (kappa - middle) / greatest(se, usual_se)
      WHEN kappa < middle THEN CAST('-Infinity' AS DOUBLE)
    END,
    kappa < middle - $mads * mad
  FROM (SELECT DISTINCT rater_id FROM ratings) LEFT JOIN medians USING (rater_id) CROSS JOIN panel
)
SELECT
  subject,
  n,
  kappa AS value,
  kappa - 1.959963984540054 * se AS lower,
  CASE WHEN kappa + 1.959963984540054 * se > 1 THEN 1 ELSE kappa + 1.959963984540054 * se END AS upper,
  statistic,
  coalesce(low AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN kappa IS NULL THEN 'all answers are the same'
    WHEN low THEN 'agrees less than the panel'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
