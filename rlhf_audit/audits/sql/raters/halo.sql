/*
id = "halo"
question = "Does a rater give one overall impression where several criteria are asked for?"
severity = "warning"
reads = ["ratings", "items"]
grain = "one rater"
n_min = 30
n_counts = "steps that the rater judged by two objectives or more, the first objective being the same"
value = "mean correlation, by Fisher's z, between the rater's labels for two objectives, over the pairs of objectives"
flag = "value reaches `threshold` times the panel's median, and exceeds it by `margin`; and q <= .05"
caveats = [
  "Criteria that go together in truth correlate for everybody: hence the comparison with the median rater.",
  "A pair of objectives counts if the rater judged at least four steps by both, and varied.",
  "Needs several objectives on the same step; a log that asks one question only has nothing to judge.",
]
references = [
  "Myford and Wolfe 2003 (halo); Fisher 1921 (z)",
  "its standard error by the influence function (Devlin, Gnanadesikan and Kettenring 1975)",
]

[params.threshold]
type = "float"
default = 1.5
meaning = "smallest multiple of the median rater's correlation that matters (ours)"

[params.margin]
type = "float"
default = 0.2
meaning = "smallest distance from it that matters, where it is near 0 or below (ours)"

[test]
distribution = "normal"
hypothesis = "Fisher's z of the rater equals that of the panel's median"
*/
WITH steps_judged AS (
  SELECT episode_id, step, min(item) AS place
  FROM items
  WHERE kind = 'rating'
  GROUP BY episode_id, step
  HAVING count(*) >= 2
),
criteria AS (
  SELECT place, a.item AS item_a, b.item AS item_b, a.objective AS objective_a, b.objective AS objective_b
  FROM
    steps_judged
    JOIN items AS a ON a.kind = 'rating' AND a.episode_id = steps_judged.episode_id AND a.step = steps_judged.step
    JOIN items AS b ON b.kind = 'rating' AND b.episode_id = a.episode_id AND b.step = a.step
  WHERE a.objective < b.objective
),
doubly AS (
  SELECT x.rater_id, place, objective_a, objective_b, item_a, x.value AS x, y.value AS y
  FROM
    criteria
    JOIN ratings AS x ON x.item = item_a
    JOIN ratings AS y ON y.item = item_b AND y.rater_id = x.rater_id
),
means AS (
  SELECT
    rater_id, objective_a, objective_b, count(*) AS n,
    sum(x ORDER BY x) / count(*) AS mean_x, sum(y ORDER BY y) / count(*) AS mean_y
  FROM doubly
  GROUP BY rater_id, objective_a, objective_b
),
deviations AS (
  SELECT rater_id, place, objective_a, objective_b, n, x - mean_x AS x, y - mean_y AS y
  FROM doubly JOIN means USING (rater_id, objective_a, objective_b)
),
spreads AS (
  SELECT
    rater_id, objective_a, objective_b,
    sqrt(sum(x * x ORDER BY x * x) / n) AS sd_x,
    sqrt(sum(y * y ORDER BY y * y) / n) AS sd_y
  FROM deviations
  GROUP BY rater_id, objective_a, objective_b, n
),
standard AS (  -- 1e-6: what rounding leaves of nothing
  SELECT rater_id, place, objective_a, objective_b, n, x / sd_x AS x, y / sd_y AS y
  FROM deviations JOIN spreads USING (rater_id, objective_a, objective_b)
  WHERE n > 3 AND sd_x > 1e-6 AND sd_y > 1e-6
),
correlations AS (
  SELECT rater_id, objective_a, objective_b, sum(x * y ORDER BY x * y) / n AS r
  FROM standard
  GROUP BY rater_id, objective_a, objective_b, n
),
fisher AS (  -- kept off +-1, where Fisher's z has no end
  SELECT rater_id, objective_a, objective_b, CASE WHEN abs(r) > 0.999999 THEN sign(r) * 0.999999 ELSE r END AS r
  FROM correlations
),
influences AS (  -- what a step adds to z, over all pairs of objectives, which are not independent
  SELECT
    rater_id, place, (x * y - r * (x * x + y * y) / 2) / (1 - r * r) / n AS influence
  FROM standard JOIN fisher USING (rater_id, objective_a, objective_b)
),
together AS (
  SELECT rater_id, place, sum(influence ORDER BY influence) AS influence
  FROM influences
  GROUP BY rater_id, place
),
errors AS (
  SELECT rater_id, sqrt(sum(influence * influence ORDER BY influence * influence)) AS se
  FROM together
  GROUP BY rater_id
),
shared AS (
  SELECT rater_id, count(DISTINCT item_a) AS n
  FROM doubly
  GROUP BY rater_id, objective_a
),
steps_of AS (
  SELECT rater_id, max(n) AS n
  FROM shared
  GROUP BY rater_id
),
pairs AS (
  SELECT rater_id, sum(atanh(r) ORDER BY atanh(r)) / count(*) AS z, count(*) AS n_pairs
  FROM fisher
  GROUP BY rater_id
),
raters AS (  -- 1e-9: labels that go together exactly leave no error to see
  SELECT rater_id, z, nullif(CASE WHEN se / n_pairs > 1e-9 THEN se / n_pairs ELSE 0 END, 0) AS se
  FROM pairs JOIN errors USING (rater_id)
),
panel AS (
  SELECT median(z) AS middle
  FROM raters JOIN steps_of USING (rater_id)
  WHERE n >= $n_min
),
report AS (
  SELECT
    rater_id, coalesce(n, 0) AS n, tanh(z) AS r, z, se, middle,
    tanh(z) >= $threshold * tanh(middle) AND tanh(z) - tanh(middle) >= $margin AS large
  FROM (SELECT DISTINCT rater_id FROM ratings WHERE kind = 'rating') AS everybody
    LEFT JOIN raters USING (rater_id) LEFT JOIN steps_of USING (rater_id) CROSS JOIN panel
)
SELECT
  rater_id AS subject,
  n,
  r AS value,
  tanh(z - 1.959963984540054 * se) AS lower,
  tanh(z + 1.959963984540054 * se) AS upper,
  (z - middle) / se AS statistic,
  coalesce(large AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN r IS NULL THEN 'no variation: see constant_rater'
    WHEN large THEN 'one impression for all criteria'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
