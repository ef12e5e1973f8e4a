/*
id = "terms_changed"
question = "Whose consent is to terms that have changed since?"
severity = "info"
reads = ["grants", "terms"]
grain = "one rater with a grant that stands"
n_counts = "grants of the rater that stand"
value = "how many of them are to an older version of the terms"
flag = "all of them are: the rater must be asked again before the next session"
caveats = [
  "What was given under older terms may go on being used as those terms say; a new session needs a grant by the newest.",
  "Going back to an earlier text is a new version; a grant by that very text is then by the newest.",
]
references = ["ISO/IEC TS 27560:2023"]
*/
WITH newest AS (
  SELECT terms_sha256
  FROM terms
  WHERE newest
),
standing AS (
  SELECT rater_id, count(*) AS n, count(*) FILTER (WHERE grants.terms_sha256 <> newest.terms_sha256) AS n_older
  FROM grants CROSS JOIN newest
  WHERE state = 'given'
  GROUP BY rater_id
)
SELECT
  rater_id AS subject,
  n,
  CAST(n_older AS DOUBLE) AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  n_older = n AS flagged,
  CASE
    WHEN n_older = n THEN 'agreed to older terms alone: ask again before the next session'
    WHEN n_older > 0 THEN 'ok; older terms too'
    ELSE 'ok'
  END AS note
FROM standing
ORDER BY subject
