/*
id = "constant_rater"
question = "Does a rater give the same answer nearly every time, where the others do not?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 20
n_counts = "ratings of the rater"
value = "share of the rater's most frequent label"
flag = "value reaches the threshold, the others gave that label to less than `pool`, and q <= .05"
caveats = [
  "Where the others too give one label nearly always, a constant rater may be right: such a rater is not flagged.",
  "The others' share is over all that they rated, not only over shared items: a rater who was shown the easy items only may look constant.",
  "Of several ratings of an item by one rater the last counts.",
]
references = ["exact binomial", "Wilson 1927 (the interval)"]

[params.threshold]
type = "float"
default = 0.95
meaning = "smallest share of one label that is called constant (ours)"

[params.pool]
type = "float"
default = 0.9
meaning = "share of that label among the others from which on nobody is flagged (ours)"

[test]
distribution = "binomial"
hypothesis = "the rater gives that label as often as the others together"
*/
WITH counts AS (
  SELECT rater_id, value, count(*) AS n_rk
  FROM ratings
  WHERE kind = 'rating'
  GROUP BY rater_id, value
),
raters AS (
  SELECT rater_id, CAST(sum(n_rk) AS BIGINT) AS n
  FROM counts
  GROUP BY rater_id
),
labels AS (
  SELECT value, CAST(sum(n_rk) AS BIGINT) AS n_k
  FROM counts
  GROUP BY value
),
most AS (  -- the most frequent label first; of several the one that the panel gives least
  SELECT
    rater_id, value, n_rk AS k, n_k,
    row_number() OVER (PARTITION BY rater_id ORDER BY n_rk DESC, n_k, value) AS place
  FROM counts JOIN labels USING (value)
),
shares AS (  -- p0: the others' share of the label; w: squared normal quantile by n, for Wilson's interval
  SELECT
    rater_id, n, k, k / n AS share,
    (n_k - k) / nullif((SELECT sum(n) FROM raters) - n, 0) AS p0,
    pow(1.959963984540054, 2) / n AS w
  FROM most JOIN raters USING (rater_id)
  WHERE place = 1
),
report AS (
  SELECT
    *,
    (share + w / 2) / (1 + w) AS middle,
    sqrt(w * (share * (1 - share) + w / 4)) / (1 + w) AS half
  FROM shares
)
SELECT
  rater_id AS subject,
  n,
  share AS value,
  CASE WHEN share = 0 THEN 0 ELSE middle - half END AS lower,
  CASE WHEN share = 1 THEN 1 ELSE middle + half END AS upper,
  k,
  n AS trials,
  p0,
  coalesce(share >= $threshold AND p0 < $pool AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN p0 IS NULL THEN 'nobody to compare with'
    WHEN share < $threshold THEN 'ok'
    WHEN p0 >= $pool THEN 'constant, as the others are'
    ELSE 'constant'
  END AS note
FROM report
ORDER BY subject
