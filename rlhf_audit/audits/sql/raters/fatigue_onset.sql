/*
id = "fatigue_onset"
question = "Is there a point in the work from which on a rater parts from the others more than before?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 100
n_counts = "items of the rater that somebody else rated too"
value = "rise of the disagreement |own label - mean of the others' labels| at the point where it changes most: its mean from there on less its mean before, as a share of the rater's mean disagreement"
flag = "value and its distance from the panel's median value both reach the threshold, and q <= .01"
estimator = "fatigue_onset"
caveats = [
  "The point is where the cumulated sum of (disagreement - its mean) is furthest from 0, with at least a tenth of the answers on either side (ours); the note names the first answer behind it.",
  "p is of the largest of all these sums (a Brownian bridge under the hypothesis), and the interval holds for every point at once: that the point was looked for is counted in both. The rater's mean is taken as known.",
  "One step up or down: a slow change is seen as a step in its middle, see fatigue for a straight line; a rater who tires and recovers has two, of which one is told.",
  "q must be .01 (ours), as for fatigue, and for the same reason; so must the distance from the panel's median reach the threshold.",
  "What changed may be the task and not the rater: look at the answers on both sides of the point.",
  "The order is that of sessions in the ledger, then of rows in the session; pauses do not count.",
]
references = ["Page 1954, Biometrika 41:100 (CUSUM)", "Hinkley 1971, Biometrika 58:509 (the place)", "Ploberger and Kraemer 1992, Econometrica 60:271 (p)"]

[params.threshold]
type = "float"
default = 0.2
meaning = "smallest rise that matters, as a share"

[test]
distribution = "given"
rate = 0.01
hypothesis = "the disagreement has one mean from first to last"
*/
WITH raters AS (  -- so that each name is handed over once
  SELECT rater_id, min(t) AS named_at, row_number() OVER (ORDER BY rater_id) AS rater
  FROM ratings
  WHERE kind = 'rating'
  GROUP BY rater_id
)
SELECT
  CAST(rater AS INTEGER) AS rater,
  CAST(t AS INTEGER) AS t,
  abs(e) AS apart,
  CASE WHEN t = named_at THEN ratings.rater_id END AS rater_id
FROM ratings JOIN raters ON raters.rater_id = ratings.rater_id
WHERE kind = 'rating'
