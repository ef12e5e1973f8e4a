/*
id = "fatigue"
question = "Does a rater part from the others more and more as the work goes on, and answer faster or slower?"
severity = "warning"
reads = ["ratings"]
grain = "one rater; and `rater:latency`, the same line through the time that an answer took; by the comparisons that the rater gave `rater:comparison` and `rater:latency comparison`"
n_min = 100
n_counts = "items of the rater that somebody else rated too; for latency, answers whose time was measured"
value = "rise of the disagreement |own label - mean of the others' labels| from first to last, as a share of the rater's mean disagreement; for latency, the rise from first to last as a share of the first"
flag = "value and its distance from the panel's median value both reach the threshold, and q <= .01; latency is reported and never flagged"
caveats = [
  "q must be .01 (ours) where other audits take .05: at 200 answers the threshold on the effect lies within the noise, and spares nobody.",
  "Growing faster is practice as often as it is fatigue: latency has no verdict of its own.",
  "A straight line: a rater who tires and recovers may show none.",
  "A drift, which has a direction, raises the disagreement as well: see drift first.",
  "Where all rate the same items in the same order, one tired rater raises the others' disagreement too: so the distance from the panel's median must reach the threshold as well (ours).",
  "The order is that of sessions in the ledger, then of rows in the session; pauses do not count.",
]
references = ["ordinary least squares of |leave-one-out residual| on order, and its t", "delta method (the interval of a ratio)"]

[params.threshold]
type = "float"
default = 0.2
meaning = "smallest rise that matters, as a share"

[test]
distribution = "student"
rate = 0.01
hypothesis = "the slope is 0"
*/
WITH points AS (
  SELECT rater_id, kind, 0 AS timed, t, abs(e) AS y
  FROM ratings
  WHERE e IS NOT NULL
  UNION ALL
  SELECT rater_id, kind, 1 AS timed, t, ln(latency_s) AS y
  FROM ratings
  WHERE latency_s > 0 AND NOT isnan(latency_s)
),
sums AS (
  SELECT
    rater_id, kind, timed, count(*) AS n, CAST(max(t) - min(t) AS DOUBLE) AS span,
    CAST(sum(t) AS DOUBLE) AS t1,
    CAST(sum(t * t) AS DOUBLE) AS t2,
    CAST(sum(CAST(y AS DECIMAL(38, 15))) AS DOUBLE) AS y1,
    CAST(sum(CAST(y * y AS DECIMAL(38, 15))) AS DOUBLE) AS y2,
    CAST(sum(CAST(t * y AS DECIMAL(38, 15))) AS DOUBLE) AS ty
  FROM points
  GROUP BY rater_id, kind, timed
),
centred AS (
  SELECT
    rater_id, kind, timed, n, span, y1 / n AS mean,
    t2 - t1 * t1 / n AS sxx, ty - t1 * y1 / n AS sxy, greatest(y2 - y1 * y1 / n, 0) AS syy
  FROM sums
),
slopes AS (
  SELECT
    rater_id, kind, timed, n, mean, span * sxy / nullif(sxx, 0) AS change,
    greatest(syy - sxy * sxy / nullif(sxx, 0), 0) / nullif(n - 2, 0) AS spread, sxx, span
  FROM centred
),
lines AS (
  SELECT rater_id, kind, timed, n, mean, change, span * sqrt(spread / nullif(sxx, 0)) AS se, sqrt(spread / n) AS mean_se
  FROM slopes
),
rises AS (  -- se_rise: of the ratio, the error of the mean included
  SELECT
    rater_id, kind, timed, n, change, se,
    CASE WHEN timed = 1 THEN exp(change) - 1 ELSE change / nullif(mean, 0) END AS rise,
    sqrt(se * se + pow(change / nullif(mean, 0) * mean_se, 2)) / nullif(mean, 0) AS se_rise
  FROM lines
),
panel AS (
  SELECT kind, median(rise) AS middle
  FROM rises
  WHERE n >= $n_min AND timed = 0
  GROUP BY kind
),
subjects AS (
  SELECT rater_id, kind, timed
  FROM (SELECT DISTINCT rater_id, kind FROM ratings) AS raters
    CROSS JOIN (SELECT 0 AS timed UNION ALL SELECT 1 AS timed) AS measures
),
report AS (
  SELECT
    rater_id, kind, timed, coalesce(n, 0) AS n, change, se, rise, se_rise,
    rise >= $threshold AND rise - middle >= $threshold AS large
  FROM subjects LEFT JOIN rises USING (rater_id, kind, timed) LEFT JOIN panel USING (kind)
)
SELECT
  concat_ws(
    CASE WHEN timed = 1 THEN ' ' ELSE ':' END,
    CASE WHEN timed = 1 THEN concat(rater_id, ':latency') ELSE rater_id END,
    CASE WHEN kind = 'comparison' THEN 'comparison' END) AS subject,
  n,
  rise AS value,
  CASE WHEN timed = 1 THEN exp(change - 1.959963984540054 * se) - 1 ELSE rise - 1.959963984540054 * se_rise END AS lower,
  CASE WHEN timed = 1 THEN exp(change + 1.959963984540054 * se) - 1 ELSE rise + 1.959963984540054 * se_rise END AS upper,
  CASE WHEN timed = 1 THEN NULL WHEN se > 0 THEN change / se
    WHEN change <> 0 THEN sign(change) * CAST('Infinity' AS DOUBLE) WHEN se = 0 THEN 0 END AS statistic,
  n - 2 AS df,
  coalesce(timed = 0 AND large AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN timed = 1 AND n = 0 THEN 'refused: no latency was measured'
    WHEN n < $n_min THEN 'insufficient'
    WHEN timed = 1 AND abs(change) <= 1.959963984540054 * se THEN 'ok'
    WHEN timed = 1 AND rise <= -$threshold THEN 'ever faster; no verdict'
    WHEN timed = 1 AND rise >= $threshold THEN 'ever slower; no verdict'
    WHEN timed = 0 AND large THEN 'disagrees ever more'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
