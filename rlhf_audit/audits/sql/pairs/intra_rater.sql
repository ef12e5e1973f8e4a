/*
id = "intra_rater"
question = "Does a rater give the same answer when the same thing is asked again?"
severity = "warning"
reads = ["answers", "ratings"]
grain = "one rater who was asked something again"
n_min = 20
n_counts = "repeats: answers to what the rater had answered before, each with the answer before it"
value = "kappa of the first answer with the second, misses weighted by the square of their distance, so that of two labels it is Cohen's; a pair of segments is the same whichever was shown first"
flag = "value is below the threshold, and q <= .05"
caveats = [
  "A rater who remembers what they answered looks more consistent than they are.",
  "On a scale a near miss counts less than a far one (ours): without weights careful raters of a fine scale would all be inconsistent.",
  "Nothing is judged where the panel is never asked anything twice: plan repeats.",
  "The interval is symmetric in Fisher's z of kappa, for near 1 kappa itself is skewed.",
  "Where all answers agree the formula has nothing to go by, and the interval no width: that is no certainty.",
  "Where all answers are the same kappa is undefined; see constant_rater.",
]
references = ["Cohen 1960; Cohen 1968 (weights)", "Fleiss, Cohen and Everitt 1969 (the standard error, by the same linearisation)"]

[params.threshold]
type = "float"
default = 0.6
meaning = "smallest kappa with oneself that is called consistent"

[test]
distribution = "normal"
hypothesis = "the kappa is the threshold"
*/
WITH given AS (
  SELECT rater_id, count(*) AS n
  FROM answers
  GROUP BY rater_id
),
kept AS (
  SELECT rater_id, count(*) AS n
  FROM ratings
  GROUP BY rater_id
),
asked_again AS (
  SELECT given.rater_id
  FROM given JOIN kept USING (rater_id)
  WHERE given.n > kept.n
),
in_order AS (
  SELECT
    rater_id, value AS y,
    lag(value) OVER (
      PARTITION BY rater_id, kind, objective, episode_id, step, other_episode_id, other_step, n_steps
      ORDER BY session_n, "row") AS x
  FROM answers JOIN asked_again USING (rater_id)
),
cells AS (
  SELECT rater_id, x, y, count(*) AS c
  FROM in_order
  WHERE x IS NOT NULL
  GROUP BY rater_id, x, y
),
means AS (
  SELECT
    rater_id, CAST(sum(c) AS BIGINT) AS n,
    sum(c * x ORDER BY c * x) / sum(c) AS x1, sum(c * y ORDER BY c * y) / sum(c) AS y1,
    sum(c * x * x ORDER BY c * x * x) / sum(c) AS x2, sum(c * y * y ORDER BY c * y * y) / sum(c) AS y2,
    sum(c * (x - y) * (x - y) ORDER BY c * (x - y) * (x - y)) / sum(c) AS apart
  FROM cells
  GROUP BY rater_id
),
kappas AS (  -- 1e-12: what is left of nothing after rounding
  SELECT *, CASE WHEN x2 + y2 - 2 * x1 * y1 > 1e-12 THEN x2 + y2 - 2 * x1 * y1 END AS by_chance
  FROM means
),
terms AS (  -- of the variance, one a cell: what one pair of answers moves kappa by
  SELECT
    rater_id, n, 1 - apart / by_chance AS kappa,
    c * pow(
      (apart / by_chance * (x * x - x2 + y * y - y2 - 2 * (x - x1) * y1 - 2 * (y - y1) * x1) - (x - y) * (x - y) + apart)
      / by_chance, 2) AS term
  FROM cells JOIN kappas USING (rater_id)
),
report AS (  -- 1e-9: likewise
  SELECT
    rater_id, n, kappa,
    CASE WHEN sqrt(sum(term ORDER BY term)) / n > 1e-9 THEN sqrt(sum(term ORDER BY term)) / n ELSE 0 END AS se
  FROM terms
  GROUP BY rater_id, n, kappa
)
SELECT
  rater_id AS subject,
  n,
  kappa AS value,
  CASE WHEN abs(kappa) < 0.999999 THEN tanh(atanh(kappa) - 1.959963984540054 * se / (1 - kappa * kappa)) ELSE kappa END AS lower,
  CASE WHEN abs(kappa) < 0.999999 THEN tanh(atanh(kappa) + 1.959963984540054 * se / (1 - kappa * kappa)) ELSE kappa END AS upper,
  CASE
    WHEN se > 0 THEN (kappa - $threshold) / se
    WHEN kappa < $threshold THEN CAST('-Infinity' AS DOUBLE)
    WHEN kappa >= $threshold THEN 0
  END AS statistic,
  coalesce(kappa < $threshold AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN kappa IS NULL THEN 'all answers are the same'
    WHEN kappa < $threshold THEN 'answers otherwise when asked again'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
