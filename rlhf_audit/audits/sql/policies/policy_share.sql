/*
id = "policy_share"
question = "Who taught each policy: what share of its training rows comes from whom?"
severity = "info"
reads = ["policy_rows", "grants"]
grain = "one rater of one policy that is there, `rater:policy`; raters without a grant for audits together, `unnamed:policy`"
n_min = 30
n_counts = "training rows of the policy"
value = "the rater's share of them"
flag = "the share reaches the threshold and the policy has three raters or more; or another audit of the same run flags the rater and the share reaches `marked`: the note names those audits"
caveats = [
  "Counted are the rows in the policy's manifest, as it was trained; who was erased is in none.",
  "A share is not an influence: rows that agree with all others move a policy little. `audit LOG --influence` retrains without the rater and compares actions.",
  "Alone, without the other audits, this one marks nobody.",
  "A policy whose manifest is missing or was altered has no row: see verify.",
]

[params.threshold]
type = "float"
default = 0.5
meaning = "share of one rater from which a policy is mostly theirs (ours)"

[params.marked]
type = "float"
default = 0.05
meaning = "share of a rater whom another audit flags that matters (ours)"
*/
WITH audited AS (
  SELECT DISTINCT rater_id
  FROM (SELECT rater_id, unnest(purposes) AS purpose FROM grants WHERE state = 'given') AS standing
  WHERE purpose = 'audit'
),
taught AS (
  SELECT
    name, path, coalesce(audited.rater_id, 'unnamed') AS who, CAST(sum(policy_rows.rows) AS BIGINT) AS n_own,
    count(*) AS n_raters
  FROM policy_rows LEFT JOIN audited ON audited.rater_id = policy_rows.rater_id
  GROUP BY name, path, coalesce(audited.rater_id, 'unnamed')
),
policy AS (
  SELECT path, CAST(sum(n_own) AS BIGINT) AS n, CAST(sum(n_raters) AS BIGINT) AS n_raters
  FROM taught
  GROUP BY path
)
SELECT
  concat(who, ':', name) AS subject,
  n,
  n_own / n AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  n >= $n_min AND who <> 'unnamed' AND policy.n_raters >= 3 AND n_own / n >= $threshold AS flagged,
  CASE
    WHEN n < $n_min THEN 'insufficient'
    WHEN who <> 'unnamed' AND policy.n_raters >= 3 AND n_own / n >= $threshold THEN 'mostly theirs'
    WHEN $marked > 1 THEN 'nobody is marked'
    ELSE 'ok'
  END AS note
FROM taught JOIN policy USING (path)
ORDER BY subject
