/*
id = "tie_excess"
question = "Does a rater leave more undecided than the others do in the same environment; and is the task decidable at all?"
severity = "warning"
reads = ["ratings", "items", "skips_for_audit", "steps"]
grain = "one rater; and one task, `env=name`"
n_min = 30
n_counts = "questions answered or skipped"
value = "share of ties (between two segments) and skips"
flag = "of a rater: value exceeds what the others leave undecided in the same environments by `excess`; of a task: value reaches `task`; and q <= .05"
caveats = [
  "Where a task is flagged, it is the task that tells nothing, not the raters.",
  "A rater who was shown the hard questions only has reason to skip.",
  "A skip that answered a question asked again after an undo is not counted.",
]
references = ["exact binomial", "Wilson 1927 (the interval)"]

[params.excess]
type = "float"
default = 0.2
meaning = "smallest share above the others' that matters (ours)"

[params.task]
type = "float"
default = 0.9
meaning = "share from which on a task is called uninformative (ours; one published preference task has .9925)"

[params.base_share]
type = "float"
default = 0.01
meaning = "share that anybody may leave undecided (ours)"

[test]
distribution = "binomial"
hypothesis = "the rater leaves as much undecided as the others there; of a task, half is"
family = "family"
*/
WITH given AS (
  SELECT
    rater_id, coalesce(env_id, '') AS env, count(*) AS n,
    count(*) FILTER (WHERE ratings.kind = 'comparison' AND value = 0.5) AS k
  FROM ratings JOIN items USING (item)
  GROUP BY rater_id, coalesce(env_id, '')
  UNION ALL
  SELECT rater_id, coalesce(env_id, '') AS env, count(*) AS n, count(*) AS k
  FROM
    skips_for_audit AS skipped
    LEFT JOIN steps ON steps.episode_id = skipped.episode_id AND steps.step = skipped.step
  GROUP BY rater_id, coalesce(env_id, '')
),
cells AS (
  SELECT rater_id, env, CAST(sum(n) AS BIGINT) AS n, CAST(sum(k) AS BIGINT) AS k
  FROM given
  GROUP BY rater_id, env
),
tasks AS (
  SELECT env, CAST(sum(n) AS BIGINT) AS n_env, CAST(sum(k) AS BIGINT) AS k_env
  FROM cells
  GROUP BY env
),
peers AS (  -- expected: were the rater's questions answered as the others' are
  SELECT rater_id, n, k, n * ((k_env - k) / nullif(n_env - n, 0)) AS expected
  FROM cells JOIN tasks USING (env)
),
raters AS (
  SELECT
    rater_id, CAST(sum(n) AS BIGINT) AS n, CAST(sum(k) AS BIGINT) AS k,
    CASE WHEN count(*) = count(expected)
      THEN greatest(sum(expected ORDER BY expected) / CAST(sum(n) AS DOUBLE), $base_share) END AS p0
  FROM peers
  GROUP BY rater_id
),
subjects AS (
  SELECT rater_id AS subject, 'rater' AS family, n, k, p0, k / n - p0 >= $excess AS large
  FROM raters
  UNION ALL
  SELECT concat('env=', env) AS subject, 'task' AS family, n_env AS n, k_env AS k, 0.5 AS p0, k_env / n_env >= $task AS large
  FROM tasks
  WHERE env <> ''
),
shares AS (  -- w: squared normal quantile by n, for Wilson's interval
  SELECT subject, family, n, k, p0, large, k / n AS share, pow(1.959963984540054, 2) / n AS w
  FROM subjects
),
report AS (
  SELECT
    subject, family, n, k, p0, large, share,
    (share + w / 2) / (1 + w) AS middle,
    sqrt(w * (share * (1 - share) + w / 4)) / (1 + w) AS half
  FROM shares
)
SELECT
  subject,
  n,
  share AS value,
  CASE WHEN share = 0 THEN 0 ELSE middle - half END AS lower,
  CASE WHEN share = 1 THEN 1 ELSE middle + half END AS upper,
  k,
  n AS trials,
  CAST(p0 AS DOUBLE) AS p0,
  family,
  coalesce(large AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN p0 IS NULL THEN 'nobody to compare with'
    WHEN NOT large THEN 'ok'
    WHEN family = 'task' THEN 'uninformative task'
    ELSE 'leaves more undecided than the others'
  END AS note
FROM report
ORDER BY subject
