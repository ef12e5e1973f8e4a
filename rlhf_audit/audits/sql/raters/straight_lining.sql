/*
id = "straight_lining"
question = "Does a rater repeat the last answer more often than chance, and the others, would?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 50
n_counts = "ratings of the rater"
value = "runs of equal answers, divided by the number expected of the same answers in random order: below 1 for too few"
flag = "value is at most the threshold times the panel's median (or 1, if that is less), or the longest run is longer by `run` than expected and than the panel's median; and q <= .01"
caveats = [
  "q must be .01 (ours) where other audits take .05: at 200 answers the threshold on the effect lies within the noise, and spares nobody.",
  "Neighbouring steps are alike, so honest answers come in runs too: hence the comparison with the panel's median (ours), which presumes that the others saw their steps in a like order.",
  "A rater of one label only has one run, as expected: see constant_rater.",
  "Each objective is a sequence of its own, and as they may go together their standard deviations are added; sessions follow each other without a gap.",
  "The interval is that of random order: for a rater far from it, it is approximate.",
]
references = [
  "Wald and Wolfowitz 1940; Barton and David 1957 (runs of several categories)",
  "Schilling 1990 (longest run: log n to the base 1 / sum of squared shares)",
]

[params.threshold]
type = "float"
default = 0.9
meaning = "largest ratio, relative to the panel's, that is called straight-lining (ours)"

[params.run]
type = "int"
default = 6
meaning = "how much longer than expected the longest run must be (ours)"

[test]
distribution = "normal"
rate = 0.01
hypothesis = "the runs are as many as the panel's median, or random order, gives"
*/
WITH placed AS (
  SELECT
    rater_id, objective, value,
    row_number() OVER (PARTITION BY rater_id, objective ORDER BY t) AS place,
    lag(value) OVER (PARTITION BY rater_id, objective ORDER BY t) AS before
  FROM ratings
  WHERE kind = 'rating'
),
counts AS (
  SELECT rater_id, objective, count(*) AS n_rk
  FROM ratings
  WHERE kind = 'rating'
  GROUP BY rater_id, objective, value
),
powers AS (
  SELECT
    rater_id, objective,
    CAST(sum(n_rk) AS DOUBLE) AS n,
    CAST(sum(n_rk * n_rk) AS DOUBLE) AS squares,
    CAST(sum(n_rk * n_rk * n_rk) AS DOUBLE) AS cubes
  FROM counts
  GROUP BY rater_id, objective
),
starts AS (
  SELECT
    rater_id, objective, place,
    lead(place) OVER (PARTITION BY rater_id, objective ORDER BY place) AS next_place
  FROM placed
  WHERE before IS NULL OR before <> value
),
runs AS (
  SELECT
    rater_id, objective, count(*) AS runs,
    max(next_place - place) AS longest_but_last, max(place) AS last_place
  FROM starts
  GROUP BY rater_id, objective
),
sequences AS (
  SELECT
    rater_id, n, runs,
    greatest(coalesce(longest_but_last, 0), n + 1 - last_place) AS longest,
    (n * (n + 1) - squares) / n AS expected,
    CASE WHEN n > 1 THEN (squares * (squares + n * (n + 1)) - 2 * n * cubes - n * n * n) / (n * n * (n - 1)) ELSE 0 END
      AS variance,
    CASE WHEN squares < n * n THEN ln(n) / ln(n * n / squares) ELSE n END AS usual_run
  FROM powers JOIN runs USING (rater_id, objective)
),
raters AS (
  SELECT
    rater_id, CAST(sum(n ORDER BY n) AS BIGINT) AS n,
    CAST(sum(runs) AS DOUBLE) AS runs,
    sum(expected ORDER BY expected) AS expected,
    sum(sqrt(greatest(variance, 0)) ORDER BY sqrt(greatest(variance, 0))) AS sd,
    CAST(max(longest) AS BIGINT) AS longest, max(longest - usual_run) AS longer
  FROM sequences
  GROUP BY rater_id
),
panel AS (
  SELECT least(median(runs / expected), 1) AS middle, median(longer) AS usually_longer
  FROM raters
  WHERE n >= $n_min AND sd > 0
),
report AS (
  SELECT
    rater_id, n, runs / expected AS ratio, sd / expected AS se, middle, longest, sd > 0 AS varies,
    runs / expected <= $threshold * middle AS few,
    longer > $run AND longer - usually_longer > $run AND runs / expected < middle AS long
  FROM raters CROSS JOIN panel
)
SELECT
  rater_id AS subject,
  n,
  CASE WHEN varies THEN ratio END AS value,
  CASE WHEN varies THEN ratio - 1.959963984540054 * se END AS lower,
  CASE WHEN varies THEN ratio + 1.959963984540054 * se END AS upper,
  CASE WHEN varies THEN (ratio - middle) / se END AS statistic,
  coalesce(varies AND (few OR long) AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN NOT varies THEN 'no variation: see constant_rater'
    WHEN few OR long THEN concat('repeats the last answer; longest run ', longest)
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
