/*
id = "drift"
question = "Does a rater grow more lenient, or more severe, as the work goes on?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 100
n_counts = "items of the rater that somebody else rated too"
value = "slope of (own label - mean of the others' labels) on the rater's own order, times the range: label units from first to last"
flag = "|value| and its distance from the panel's median value both reach the threshold, and q <= .01"
caveats = [
  "q must be .01 (ours) where other audits take .05: on a scale of several labels the threshold lies within the noise of 200 answers.",
  "A straight line: a rater who tires and recovers may show none.",
  "Where all rate the same items in the same order, one drifting rater bends the others the other way: so the distance from the panel's median must reach the threshold too (ours). With two raters nobody can tell which of them drifts.",
  "The order is that of sessions in the ledger, then of rows in the session; pauses do not count.",
  "Everything is relative to the panel: where half of it shares a bias, the other half may be flagged.",
]
references = ["ordinary least squares of the leave-one-out residual on order, and its t"]

[params.threshold]
type = "float"
default = 0.35
meaning = "smallest |value| that matters, in label units (ours)"

[test]
distribution = "student"
rate = 0.01
hypothesis = "the slope is 0"
*/
WITH residuals AS (  -- t: 1 for the first of those that somebody else rated too
  SELECT rater_id, e, row_number() OVER (PARTITION BY rater_id ORDER BY t) AS t
  FROM ratings
  WHERE kind = 'rating' AND e IS NOT NULL
),
sums AS (
  SELECT
    rater_id, count(*) AS n,
    CAST(sum(CAST(e AS DECIMAL(38, 15))) AS DOUBLE) AS e1,
    CAST(sum(CAST(e * e AS DECIMAL(38, 15))) AS DOUBLE) AS e2,
    CAST(sum(CAST(t * e AS DECIMAL(38, 15))) AS DOUBLE) AS te
  FROM residuals
  GROUP BY rater_id
),
centred AS (  -- sxx: sum of (t - mean t)^2 for t = 1..n
  SELECT
    rater_id, n, CAST(n AS DOUBLE) * (n - 1) * (n + 1) / 12 AS sxx, te - e1 * (n + 1) / 2 AS sxy, e2 - e1 * e1 / n AS syy, e2
  FROM sums
),
lines AS (  -- 1e-12: what rounding leaves of nothing
  SELECT
    rater_id, n, CASE WHEN syy > 1e-12 * e2 THEN sxy / nullif(sxx, 0) * (n - 1) WHEN n > 1 THEN 0 END AS change,
    (n - 1) * sqrt(CASE WHEN syy - sxy * sxy / sxx > 1e-12 * e2 THEN syy - sxy * sxy / sxx ELSE 0 END
      / nullif(n - 2, 0) / nullif(sxx, 0)) AS se
  FROM centred
),
panel AS (
  SELECT median(change) AS middle
  FROM lines
  WHERE n >= $n_min
),
report AS (
  SELECT
    rater_id, coalesce(n, 0) AS n, change, se,
    abs(change) >= $threshold AND abs(change - middle) >= $threshold AND sign(change) = sign(change - middle) AS large
  FROM (SELECT DISTINCT rater_id FROM ratings WHERE kind = 'rating') LEFT JOIN lines USING (rater_id) CROSS JOIN panel
)
SELECT
  rater_id AS subject,
  n,
  change AS value,
  change - 1.959963984540054 * se AS lower,
  change + 1.959963984540054 * se AS upper,
  CASE WHEN se > 0 THEN change / se WHEN change <> 0 THEN sign(change) * CAST('Infinity' AS DOUBLE) ELSE 0 END
    AS statistic,
  n - 2 AS df,
  coalesce(large AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN large AND change > 0 THEN 'grows lenient'
    WHEN large THEN 'grows severe'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
