/*
id = "anchoring"
question = "Does a rater's answer lean on, or away from, the answer before it?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 100
n_counts = "neighbouring answers within a session, both to items that somebody else rated too"
value = "correlation of (own label - mean of the others' labels) with that of the answer before: above 0 leans on it, below 0 contrasts with it"
flag = "|value| and its distance from the panel's median value both reach the threshold, and q <= .01"
caveats = [
  "q must be .01 (ours) where other audits take .05: at 200 answers the threshold on the effect lies within the noise, and spares nobody.",
  "A rater who drifts, or repeats the last answer blindly, leans on it too: see drift and straight_lining first.",
  "Neighbouring steps are hard to judge alike, for all raters: so the distance from the panel's median must reach the threshold too (ours).",
  "Where a rater seldom differs from the others a few answers in a row make the correlation: z is then r sqrt(n) over what those few scatter more than n answers would (ours).",
  "The first answer of a session has none before it.",
]
references = ["lag-1 correlation of the leave-one-out residual, z = r sqrt(n)", "White 1980 (scatter of the products themselves)", "Fisher 1921 (the interval)"]

[params.threshold]
type = "float"
default = 0.15
meaning = "smallest |correlation| that matters (ours)"

[test]
distribution = "normal"
rate = 0.01
hypothesis = "neighbouring residuals are unrelated"
*/
WITH followed AS (
  SELECT rater_id, e, lag(e) OVER (PARTITION BY rater_id, session_n, objective ORDER BY t) AS before
  FROM ratings
  WHERE kind = 'rating'
),
sums AS (
  SELECT
    rater_id, count(*) AS n,
    CAST(sum(CAST(e AS DECIMAL(38, 15))) AS DOUBLE) AS x1,
    CAST(sum(CAST(before AS DECIMAL(38, 15))) AS DOUBLE) AS y1,
    CAST(sum(CAST(e * e AS DECIMAL(38, 15))) AS DOUBLE) AS x2,
    CAST(sum(CAST(before * before AS DECIMAL(38, 15))) AS DOUBLE) AS y2,
    CAST(sum(CAST(e * before AS DECIMAL(38, 15))) AS DOUBLE) AS xy,
    CAST(sum(CAST(e * before * e * before AS DECIMAL(38, 15))) AS DOUBLE) AS xxyy
  FROM followed
  WHERE e IS NOT NULL AND before IS NOT NULL
  GROUP BY rater_id
),
centred AS (
  SELECT rater_id, n, x2 - x1 * x1 / n AS sxx, y2 - y1 * y1 / n AS syy, xy - x1 * y1 / n AS sxy, xxyy
  FROM sums
),
correlations AS (  -- 1e-12: what is left of nothing after rounding
  SELECT
    rater_id, n, CASE WHEN sxx > 1e-12 AND syy > 1e-12 THEN sxy / sqrt(sxx * syy) END AS r,
    -- what sqrt(n) exceeds the scatter of the products by, where a few of them make it
    greatest(1, sqrt(n * xxyy / nullif(sxx * syy, 0))) AS few
  FROM centred
),
panel AS (
  SELECT median(r) AS middle
  FROM correlations
  WHERE n >= $n_min
),
report AS (
  SELECT
    rater_id, coalesce(n, 0) AS n, r, few,
    atanh(CASE WHEN abs(r) > 0.999999 THEN sign(r) * 0.999999 ELSE r END) AS z,
    CASE WHEN n > 3 THEN 1 / sqrt(n - 3) END AS se,
    abs(r) >= $threshold AND abs(r - middle) >= $threshold AND sign(r) = sign(r - middle) AS large
  FROM (SELECT DISTINCT rater_id FROM ratings WHERE kind = 'rating') AS raters
    LEFT JOIN correlations USING (rater_id) CROSS JOIN panel
)
SELECT
  rater_id AS subject,
  n,
  r AS value,
  tanh(z - 1.959963984540054 * se) AS lower,
  tanh(z + 1.959963984540054 * se) AS upper,
  r * sqrt(n) / few AS statistic,
  coalesce(large AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN r IS NULL THEN 'no variation'
    WHEN large AND r > 0 THEN 'leans on the answer before'
    WHEN large THEN 'contrasts with the answer before'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
