/*
id = "duplicate_raters"
question = "Are two raters one, or were answers stored twice?"
severity = "warning"
reads = ["answers", "ratings", "same_answers"]
grain = "one rater; and one pair of raters, `rater/rater`, of whom half the answers or more are the same"
n_min = 20
n_counts = "answers with a latency (of a pair: items that one of them or both rated)"
value = "share of answers that repeat an earlier one of the same rater, label and latency included (of a pair: Jaccard similarity of the two sets of item, label and latency)"
flag = "a pair: value reaches the threshold; a rater: value reaches `repeated`; no test: nobody answers twice in the same thousandth of a second, again and again"
caveats = [
  "The time of an answer is its latency. Where latencies tell nobody apart, being rounded or made up (two answers share theirs with a probability above .05, ours), nothing is judged; copying looks at the labels alone.",
  "An answer that more than 5 raters gave in the same time counts for nobody (ours).",
  "The log stores no device: two people who take turns at one account are not found.",
]
references = ["Jaccard similarity of sets"]

[params.threshold]
type = "float"
default = 0.95
meaning = "similarity from which two raters are called one (ours)"

[params.repeated]
type = "float"
default = 0.05
meaning = "share of a rater's answers stored twice that matters (ours)"
*/
WITH placed AS (
  SELECT row_number() OVER (ORDER BY latency_s) AS place, rank() OVER (ORDER BY latency_s) AS first_place
  FROM ratings
  WHERE latency_s IS NOT NULL
),
latencies AS (  -- c: answers of one latency; of them 2 (place - first_place) + 1 add up to c squared
  SELECT CAST(sum(2 * (place - first_place) + 1) AS DOUBLE) AS squares, CAST(count(*) AS DOUBLE) AS n
  FROM placed
),
collisions AS (  -- probability that two answers share their latency
  SELECT coalesce((squares - n) / nullif(n * (n - 1), 0), 1) AS p
  FROM latencies
),
own AS (
  SELECT rater_id, count(*) AS n
  FROM ratings
  WHERE latency_s IS NOT NULL
  GROUP BY rater_id
),
same AS (
  SELECT a, b, CAST(sum(n_same) AS BIGINT) AS n_same
  FROM same_answers
  GROUP BY a, b
),
pairs AS (
  SELECT concat(a, '/', b) AS subject, p.n + q.n - n_same AS n, least(p.n, q.n) AS fewer, n_same / (p.n + q.n - n_same) AS share
  FROM same JOIN own AS p ON p.rater_id = a JOIN own AS q ON q.rater_id = b
  WHERE n_same / (p.n + q.n - n_same) >= 0.5
),
given AS (
  SELECT rater_id, count(*) AS n_given
  FROM answers
  WHERE latency_s IS NOT NULL
  GROUP BY rater_id
),
different AS (  -- only of raters who answered anything twice
  SELECT rater_id, count(*) AS n_different
  FROM (
    SELECT DISTINCT
      a.rater_id, a.kind, objective, episode_id, step, other_episode_id, other_step, n_steps, value, latency_s
    FROM answers AS a JOIN given ON given.rater_id = a.rater_id JOIN own ON own.rater_id = a.rater_id
    WHERE n_given > own.n AND latency_s IS NOT NULL
  ) AS distinct_answers
  GROUP BY rater_id
),
report AS (
  SELECT subject, n, fewer, share, $threshold AS least_share, 'the same answers in the same times' AS told
  FROM pairs
  UNION ALL
  SELECT
    rater_id, n_given, n_given, (n_given - coalesce(n_different, n_given)) / n_given, $repeated,
    'answers stored twice'
  FROM given LEFT JOIN different USING (rater_id)
)
SELECT
  subject,
  n,
  CASE WHEN p <= 0.05 THEN share END AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  coalesce(share >= least_share AND fewer >= $n_min AND p <= 0.05, FALSE) AS flagged,
  CASE
    WHEN fewer < $n_min OR p > 0.05 THEN 'insufficient'
    WHEN share >= least_share THEN told
    ELSE 'ok'
  END AS note
FROM report CROSS JOIN collisions
ORDER BY subject
