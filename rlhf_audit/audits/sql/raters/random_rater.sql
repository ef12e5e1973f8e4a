/*
id = "random_rater"
question = "Do a rater's answers have anything to do with the others' answers on the same items?"
severity = "warning"
reads = ["usable_for_audit"]
grain = "one rater"
n_min = 30
n_counts = "items of the rater that somebody else rated too"
value = "correlation of the own labels with the mean of the others' labels; 1 together, 0 unrelated, below 0 opposite"
flag = "value is at most the threshold and below the panel's median, and q <= .05"
caveats = [
  "Judged against the panel's median correlation: where nobody agrees with anybody, nobody is flagged; see agreement.",
  "A rater who sees what the others miss looks like this too. Look at the answers before judging.",
  "A constant rater has no correlation; see constant_rater.",
  "Of several ratings of an item by one rater the last counts.",
  "Everything is relative to the panel: where half of it shares a bias, the other half may be flagged.",
]
references = ["leave-one-out correlation", "Fisher 1921 (z, and the interval)"]

[params.threshold]
type = "float"
default = 0.35
meaning = "largest correlation that is called unrelated (ours)"

[test]
distribution = "normal"
hypothesis = "Fisher's z of the rater equals that of the panel's median"
*/
WITH ratings AS (
  SELECT rater_id, item, objective, max_by(value, (session_n, "row")) AS value
  FROM usable_for_audit
  WHERE kind = 'rating' AND value IS NOT NULL
  GROUP BY rater_id, item, objective
),
items AS (
  SELECT item, objective, count(*) AS m, sum(value ORDER BY value) AS total
  FROM ratings
  GROUP BY item, objective
),
shared AS (  -- y: the mean of the others' labels
  SELECT rater_id, value AS x, (total - value) / (m - 1) AS y
  FROM ratings JOIN items USING (item, objective)
  WHERE m >= 2
),
means AS (
  SELECT rater_id, count(*) AS n, sum(x ORDER BY x) / count(*) AS mean_x, sum(y ORDER BY y) / count(*) AS mean_y
  FROM shared
  GROUP BY rater_id
),
centred AS (
  SELECT rater_id, n, x - mean_x AS x, y - mean_y AS y
  FROM shared JOIN means USING (rater_id)
),
correlations AS (
  SELECT
    rater_id, n,
    sum(x * y ORDER BY x * y) / nullif(sqrt(sum(x * x ORDER BY x * x) * sum(y * y ORDER BY y * y)), 0) AS r
  FROM centred
  GROUP BY rater_id, n
),
fisher AS (  -- kept off +-1, where Fisher's z has no end
  SELECT rater_id, n, r, atanh(CASE WHEN abs(r) > 0.999999 THEN sign(r) * 0.999999 ELSE r END) AS z
  FROM correlations
),
panel AS (
  SELECT median(z) AS middle
  FROM fisher
  WHERE n >= $n_min
),
report AS (
  SELECT
    rater_id, coalesce(n, 0) AS n, r, z, middle,
    CASE WHEN n > 3 THEN 1 / sqrt(n - 3) END AS se,
    r <= $threshold AND z < middle AS low
  FROM (SELECT DISTINCT rater_id FROM ratings) LEFT JOIN fisher USING (rater_id) CROSS JOIN panel
)
SELECT
  rater_id AS subject,
  n,
  r AS value,
  tanh(z - 1.959963984540054 * se) AS lower,
  tanh(z + 1.959963984540054 * se) AS upper,
  (z - middle) / se AS statistic,
  coalesce(low AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN r IS NULL THEN 'no variation: see constant_rater'
    WHEN low AND r <= -$threshold THEN 'opposite to the others'
    WHEN low THEN 'unrelated to the others'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
