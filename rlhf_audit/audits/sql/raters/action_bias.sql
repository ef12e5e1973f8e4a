/*
id = "action_bias"
question = "Does a rater favour, or disfavour, one action of the agent, whatever the situation?"
severity = "warning"
reads = ["ratings"]
grain = "one rater and one action, `rater:action`"
n_min = 50
n_counts = "items with that action, of the rater, that somebody else rated too"
value = "mean of (own label - mean of the others' labels) where the agent took the action, less the same where it did not"
flag = "|value| and its distance from the panel's median for the action both reach the threshold, at least `n_other` items with other actions, and q <= .05"
caveats = [
  "With two actions the rows of a rater mirror each other: favouring one is disfavouring the other.",
  "A rater who is merely lenient or severe has the same residual everywhere and is not flagged; but a constant rater is more lenient where the others are severe, which differs by action: the note names constant_rater.",
  "The residual compares with others on the same step, so it is already stratified by state: Simpson's reversal between states cannot enter.",
  "One biased rater bends the others the other way: so the distance from the panel's median must reach the threshold too (ours). With two raters nobody can tell which of them is biased.",
  "Everything is relative to the panel: where half of it shares a bias, the other half may be flagged.",
]
references = ["difference of mean leave-one-out residuals", "Welch 1947 (the z)"]

[params.threshold]
type = "float"
default = 0.35
meaning = "smallest |value| that matters, in label units (ours)"

[params.n_other]
type = "int"
default = 30
meaning = "fewest shared items of the rater with any other action (ours)"

[test]
distribution = "normal"
hypothesis = "both means are equal"
*/
WITH given AS (
  SELECT rater_id, value, action, e
  FROM ratings
  WHERE kind = 'rating'
),
residuals AS (
  SELECT rater_id, action, e
  FROM given
  WHERE e IS NOT NULL AND action IS NOT NULL
),
raters AS (
  SELECT rater_id, min(value) = max(value) AS constant
  FROM given
  GROUP BY rater_id
),
cells AS (
  SELECT rater_id, constant, action
  FROM raters CROSS JOIN (SELECT DISTINCT action FROM residuals)
),
sums AS (
  SELECT
    rater_id, action, count(*) AS n,
    sum(CAST(e AS DECIMAL(38, 15))) AS e1, sum(CAST(e * e AS DECIMAL(38, 15))) AS e2
  FROM residuals
  GROUP BY rater_id, action
),
totals AS (
  SELECT rater_id, count(*) AS n, sum(CAST(e AS DECIMAL(38, 15))) AS e1, sum(CAST(e * e AS DECIMAL(38, 15))) AS e2
  FROM residuals
  GROUP BY rater_id
),
sides AS (  -- decimals take away exactly
  SELECT
    cells.rater_id, cells.action, constant, coalesce(sums.n, 0) AS n, totals.n - coalesce(sums.n, 0) AS n_rest,
    CAST(sums.e1 AS DOUBLE) AS e1, CAST(sums.e2 AS DOUBLE) AS e2,
    CAST(totals.e1 - coalesce(sums.e1, 0) AS DOUBLE) AS r1, CAST(totals.e2 - coalesce(sums.e2, 0) AS DOUBLE) AS r2
  FROM cells JOIN totals USING (rater_id) LEFT JOIN sums USING (rater_id, action)
),
differences AS (  -- 1e-12: what rounding leaves of nothing
  SELECT
    rater_id, action, constant, n, n_rest,
    e1 / nullif(n, 0) - r1 / nullif(n_rest, 0) AS difference,
    sqrt(
      CASE WHEN e2 - e1 * e1 / n > 1e-12 * e2 THEN e2 - e1 * e1 / n ELSE 0 END / nullif(n - 1, 0) / n
      + CASE WHEN r2 - r1 * r1 / n_rest > 1e-12 * r2 THEN r2 - r1 * r1 / n_rest ELSE 0 END
        / nullif(n_rest - 1, 0) / n_rest) AS se
  FROM sides
),
panel AS (
  SELECT action, median(difference) FILTER (WHERE n >= $n_min AND n_rest >= $n_other) AS middle
  FROM differences
  GROUP BY action
),
report AS (
  SELECT
    rater_id, action, constant, n, difference, se,
    n >= $n_min AND n_rest >= $n_other AS enough,
    abs(difference) >= $threshold AND abs(difference - middle) >= $threshold
      AND sign(difference) = sign(difference - middle) AS large
  FROM differences JOIN panel USING (action)
)
SELECT
  concat(rater_id, ':', action) AS subject,
  n,
  difference AS value,
  difference - 1.959963984540054 * se AS lower,
  difference + 1.959963984540054 * se AS upper,
  CASE WHEN se > 0 THEN difference / se WHEN difference <> 0 THEN sign(difference) * CAST('Infinity' AS DOUBLE)
    WHEN se = 0 THEN 0 END AS statistic,
  coalesce(large AND enough, FALSE) AS flagged,
  CASE
    WHEN NOT enough THEN 'insufficient'
    WHEN large THEN
      concat_ws('; ', CASE WHEN difference > 0 THEN 'favours the action' ELSE 'disfavours the action' END,
        CASE WHEN constant THEN 'always the same answer: see constant_rater' END)
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
