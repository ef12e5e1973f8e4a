/*
id = "random_rater"
question = "Do a rater's answers have anything to do with the others' answers on the same items?"
severity = "warning"
reads = ["ratings"]
grain = "one rater, and by the comparisons that the rater gave `rater:comparison`"
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
references = [
  "leave-one-out correlation; Fisher 1921 (z)",
  "its standard error by the influence function, which does not presume normal labels (Devlin, Gnanadesikan and Kettenring 1975)",
]

[params.threshold]
type = "float"
default = 0.35
meaning = "largest correlation that is called unrelated (ours)"

[test]
distribution = "normal"
hypothesis = "Fisher's z of the rater equals that of the panel's median"
*/
WITH cells AS (  -- y: the mean of the others' labels; equal pairs are taken together
  SELECT
    concat(rater_id, CASE WHEN kind = 'comparison' THEN ':comparison' ELSE '' END) AS rater_id, kind, x, y, w
  FROM (
    SELECT rater_id, kind, value AS x, value - e AS y, CAST(count(*) AS DOUBLE) AS w
    FROM ratings
    WHERE e IS NOT NULL
    GROUP BY rater_id, kind, value, value - e) AS pairs
),
kinds AS (SELECT DISTINCT rater_id, kind FROM cells),
everybody AS (
  SELECT concat(rater_id, CASE WHEN kind = 'comparison' THEN ':comparison' ELSE '' END) AS rater_id, kind
  FROM (SELECT DISTINCT rater_id, kind FROM ratings) AS raters
),
means AS (
  SELECT
    rater_id, sum(w ORDER BY w) AS n,
    sum(w * x ORDER BY w * x) / sum(w ORDER BY w) AS mean_x,
    sum(w * y ORDER BY w * y) / sum(w ORDER BY w) AS mean_y
  FROM cells
  GROUP BY rater_id
),
deviations AS (
  SELECT rater_id, n, w, x - mean_x AS x, y - mean_y AS y
  FROM cells JOIN means USING (rater_id)
),
spreads AS (
  SELECT
    rater_id, n,
    sqrt(sum(w * x * x ORDER BY w * x * x) / n) AS sd_x,
    sqrt(sum(w * y * y ORDER BY w * y * y) / n) AS sd_y
  FROM deviations
  GROUP BY rater_id, n
),
standard AS (  -- 1e-6: what rounding leaves of nothing
  SELECT rater_id, n, w, x / sd_x AS x, y / sd_y AS y
  FROM deviations JOIN spreads USING (rater_id, n)
  WHERE sd_x > 1e-6 AND sd_y > 1e-6
),
correlations AS (
  SELECT rater_id, sum(w * x * y ORDER BY w * x * y) / n AS r
  FROM standard
  GROUP BY rater_id, n
),
influences AS (  -- what an item adds to r: its variance needs no normal labels, which yes and no are not
  SELECT rater_id, n, r, w * pow(x * y - r * (x * x + y * y) / 2, 2) AS squared
  FROM standard JOIN correlations USING (rater_id)
),
errors AS (
  SELECT rater_id, n, r, sqrt(sum(squared ORDER BY squared)) / n AS se_r
  FROM influences
  GROUP BY rater_id, n, r
),
fisher AS (  -- kept off +-1, where Fisher's z has no end, and where its own error stands in
  SELECT
    rater_id, n, r, atanh(CASE WHEN abs(r) > 0.999999 THEN sign(r) * 0.999999 ELSE r END) AS z,
    CASE WHEN abs(r) <= 0.999999 AND se_r > 1e-9 THEN se_r / (1 - r * r) WHEN n > 3 THEN 1 / sqrt(n - 3) END AS se
  FROM errors
),
panel AS (
  SELECT kind, median(z) AS middle
  FROM fisher JOIN kinds USING (rater_id)
  WHERE n >= $n_min
  GROUP BY kind
),
report AS (
  SELECT
    everybody.rater_id, coalesce(CAST(means.n AS BIGINT), 0) AS n, r, z, middle, se,
    r <= $threshold AND z < middle AS low
  FROM everybody
    LEFT JOIN means ON means.rater_id = everybody.rater_id
    LEFT JOIN fisher ON fisher.rater_id = everybody.rater_id
    LEFT JOIN panel ON panel.kind = everybody.kind
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
