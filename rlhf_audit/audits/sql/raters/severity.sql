/*
id = "severity"
question = "Does a rater answer higher, or lower, than the others do on the same items?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 30
n_counts = "items of the rater that somebody else rated too"
value = "mean of (own label - mean of the others' labels on the item), in label units; above 0 is lenient"
flag = "|value| and its distance from the panel's median value both reach the threshold, and q <= .05"
caveats = [
  "Severity is the norm: with enough ratings nearly everybody differs significantly, hence the threshold on the effect.",
  "It is relative to the others who rated the same items. One very lenient rater makes the others look severe: so the distance from the panel's median must reach the threshold too (ours). With two raters nobody can tell which of them is off.",
  "A rater who always gives the same answer, or answers at random, is often severe as well; the note names constant_rater where that is the plainer cause.",
  "Of several ratings of an item by one rater the last counts.",
  "Everything is relative to the panel: where half of it shares a bias, the other half may be flagged.",
]
references = ["leave-one-out residual and its z", "Linacre, Winsteps manual (an observed - expected average of .5, on its own scale)"]

[params.threshold]
type = "float"
default = 0.25
meaning = "smallest |value| that matters, in label units (ours)"

[test]
distribution = "normal"
hypothesis = "the mean residual is 0"
*/
WITH given AS (
  SELECT rater_id, value, e
  FROM ratings
  WHERE kind = 'rating'
),
residuals AS (
  SELECT rater_id, e
  FROM given
  WHERE e IS NOT NULL
),
sums AS (
  SELECT
    rater_id, count(*) AS n,
    CAST(sum(CAST(e AS DECIMAL(38, 15))) AS DOUBLE) AS e1,
    CAST(sum(CAST(e * e AS DECIMAL(38, 15))) AS DOUBLE) AS e2
  FROM residuals
  GROUP BY rater_id
),
means AS (  -- 1e-12: what rounding leaves of nothing
  SELECT
    rater_id, n, e1 / n AS bias,
    sqrt(CASE WHEN e2 - e1 * e1 / n > 1e-12 * e2 THEN e2 - e1 * e1 / n ELSE 0 END / nullif(n - 1, 0) / n) AS se
  FROM sums
),
raters AS (
  SELECT rater_id, min(value) = max(value) AS constant
  FROM given
  GROUP BY rater_id
),
panel AS (
  SELECT median(bias) AS middle
  FROM means
  WHERE n >= $n_min
),
report AS (
  SELECT
    rater_id, coalesce(n, 0) AS n, bias, se, constant,
    abs(bias) >= $threshold AND abs(bias - middle) >= $threshold AND sign(bias) = sign(bias - middle) AS large
  FROM raters LEFT JOIN means USING (rater_id) CROSS JOIN panel
)
SELECT
  rater_id AS subject,
  n,
  bias AS value,
  bias - 1.959963984540054 * se AS lower,
  bias + 1.959963984540054 * se AS upper,
  CASE WHEN se > 0 THEN bias / se WHEN bias <> 0 THEN sign(bias) * CAST('Infinity' AS DOUBLE) ELSE 0 END AS statistic,
  coalesce(large AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN large THEN
      concat_ws('; ', CASE WHEN bias > 0 THEN 'lenient' ELSE 'severe' END,
        CASE WHEN constant THEN 'always the same answer: see constant_rater' END)
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
