/*
id = "intra_rater"
question = "Does a rater give the same answer when the same thing is asked again?"
severity = "warning"
reads = ["answers", "ratings"]
grain = "one rater who was asked something again"
n_min = 20
n_counts = "repeats: answers to what the rater had answered before, each with the answer before it"
value = "Cohen's kappa of the first answer with the second; a pair of segments is the same whichever was shown first"
flag = "value is below the threshold, and q <= .05"
caveats = [
  "A rater who remembers what they answered looks more consistent than they are.",
  "Nothing is judged where the panel is never asked anything twice: plan repeats.",
  "The interval is symmetric in Fisher's z of kappa, for near 1 kappa itself is skewed.",
  "Where all answers agree the formula has nothing to go by, and the interval no width: that is no certainty.",
  "Where all answers are the same kappa is undefined; see constant_rater.",
]
references = ["Cohen 1960", "Fleiss, Cohen and Everitt 1969 (the standard error)"]

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
firsts AS (SELECT rater_id, x AS value, sum(c) AS c_a FROM cells GROUP BY rater_id, x),
seconds AS (SELECT rater_id, y AS value, sum(c) AS c_b FROM cells GROUP BY rater_id, y),
by_chance AS (
  SELECT rater_id, sum(c_a * c_b) AS hits
  FROM firsts JOIN seconds USING (rater_id, value)
  GROUP BY rater_id
),
shares AS (
  SELECT
    cells.rater_id, CAST(sum(c) AS BIGINT) AS n, coalesce(sum(c) FILTER (WHERE x = y), 0) / sum(c) AS po,
    coalesce(max(hits), 0) / (sum(c) * sum(c)) AS pe
  FROM cells LEFT JOIN by_chance ON by_chance.rater_id = cells.rater_id
  GROUP BY cells.rater_id
),
kappas AS (
  SELECT *, (po - pe) / nullif(1 - pe, 0) AS kappa
  FROM shares
),
terms AS (  -- of the variance, one a cell: each label's share in the *other* of the two
  SELECT
    cells.rater_id, n, kappa, po, pe,
    c / n * pow(CASE WHEN x = y THEN 1 ELSE 0 END
      - (1 - kappa) * (coalesce(s.c_b, 0) / n + coalesce(f.c_a, 0) / n), 2) AS term
  FROM cells JOIN kappas ON kappas.rater_id = cells.rater_id
    LEFT JOIN seconds AS s ON s.rater_id = cells.rater_id AND s.value = cells.x
    LEFT JOIN firsts AS f ON f.rater_id = cells.rater_id AND f.value = cells.y
),
report AS (
  SELECT
    rater_id, n, kappa,
    sqrt(greatest(sum(term ORDER BY term) - pow(po - 2 * (1 - kappa) * pe, 2), 0) / n) / nullif(1 - pe, 0) AS se
  FROM terms
  GROUP BY rater_id, n, kappa, po, pe
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
