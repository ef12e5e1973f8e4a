/*
id = "central_tendency"
question = "Does a rater keep to the middle of the scale, or to its ends, where the others use all of it?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 30
n_counts = "ratings of the rater on scales of which the panel uses three labels or more"
value = "variance of the rater's labels, divided by the median rater's: below 1 for the middle, above 1 for the ends"
flag = "value is at most `low`, or at least `high`, and q <= .05"
caveats = [
  "A scale of two labels has no middle: it is left out.",
  "A rater who hardly ever varies is a constant one first: see constant_rater.",
  "A rater who was shown items that are more alike than the others' looks central without being so.",
  "Of several objectives each is compared with its own median rater; the logarithms are averaged, weighted by ratings, and so are their errors, as objectives may go together.",
  "Everything is relative to the panel: where half of it shares a bias, the other half may be flagged.",
]
references = [
  "variance ratio; standard error of a log variance with the rater's own kurtosis, as labels are not normal",
  "Myford and Wolfe 2003 (central tendency and extremism)",
]

[params.low]
type = "float"
default = 0.6
meaning = "largest ratio that is called keeping to the middle (ours)"

[params.high]
type = "float"
default = 1.6
meaning = "smallest ratio that is called keeping to the ends (ours)"

[test]
distribution = "normal"
hypothesis = "the rater's variance is the median rater's"
*/
WITH given AS (
  SELECT rater_id, objective, value
  FROM ratings
  WHERE kind = 'rating'
),
counts AS (
  SELECT rater_id, objective, value, count(*) AS n_rk
  FROM given
  GROUP BY rater_id, objective, value
),
scales AS (
  SELECT objective
  FROM counts
  GROUP BY objective
  HAVING count(DISTINCT value) >= 3
),
weighed AS (
  SELECT rater_id, objective, CAST(n_rk AS DOUBLE) AS w, value
  FROM counts JOIN scales USING (objective)
),
means AS (
  SELECT rater_id, objective, sum(w ORDER BY w) AS n, sum(w * value ORDER BY w * value) / sum(w ORDER BY w) AS mean
  FROM weighed
  GROUP BY rater_id, objective
),
moments AS (
  SELECT
    rater_id, objective, n,
    sum(w * pow(value - mean, 2) ORDER BY w * pow(value - mean, 2)) / n AS m2,
    sum(w * pow(value - mean, 4) ORDER BY w * pow(value - mean, 4)) / n AS m4
  FROM weighed JOIN means USING (rater_id, objective)
  GROUP BY rater_id, objective, n
),
variances AS (
  SELECT
    rater_id, objective, n,
    CASE WHEN m2 > 0 AND n > 1 THEN ln(m2 * n / (n - 1)) END AS log_variance,
    CASE WHEN m2 > 0 AND n > 3 THEN greatest(m4 / (m2 * m2) - (n - 3) / (n - 1), 0) / n END AS error
  FROM moments
),
middles AS (
  SELECT objective, median(log_variance) AS middle
  FROM variances
  WHERE n >= $n_min
  GROUP BY objective
),
parts AS (
  SELECT rater_id, n, n * (log_variance - middle) AS ratio, n * sqrt(error) AS error
  FROM variances LEFT JOIN middles USING (objective)
),
raters AS (
  SELECT
    rater_id, CAST(sum(n ORDER BY n) AS BIGINT) AS n,
    CASE WHEN count(*) = count(ratio) THEN sum(ratio ORDER BY ratio) / sum(n ORDER BY n) END AS ratio,
    CASE WHEN count(*) = count(error) THEN sum(error ORDER BY error) / sum(n ORDER BY n) END AS se
  FROM parts
  GROUP BY rater_id
),
report AS (
  SELECT rater_id, coalesce(n, 0) AS n, exp(ratio) AS ratio, ratio AS log_ratio, se
  FROM (SELECT DISTINCT rater_id FROM given) AS everybody LEFT JOIN raters USING (rater_id)
)
SELECT
  rater_id AS subject,
  n,
  ratio AS value,
  exp(log_ratio - 1.959963984540054 * se) AS lower,
  exp(log_ratio + 1.959963984540054 * se) AS upper,
  CASE WHEN se > 0 THEN log_ratio / se WHEN log_ratio <> 0 THEN sign(log_ratio) * CAST('Infinity' AS DOUBLE)
    WHEN se = 0 THEN 0 END AS statistic,
  coalesce((ratio <= $low OR ratio >= $high) AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN ratio IS NULL THEN 'no variation: see constant_rater'
    WHEN ratio <= $low THEN 'keeps to the middle'
    WHEN ratio >= $high THEN 'keeps to the ends'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
