/*
id = "pending_withdrawals"
question = "Who has withdrawn and is still in the log, in policies or in reports?"
severity = "warning"
reads = ["withdrawals", "feedback", "files", "policies", "reports", "exports", "erasures"]
grain = "one rater who has withdrawn; and all erasures that something is in the way of"
n_counts = "rows of the rater's feedback that the log still holds"
value = "rows, files, policies, reports and exports that the rater is still in, together; 0 where nothing is pending"
flag = "a withdrawal has not been followed by its erasure, the note says whether it is overdue; or an erasure can't be finished"
caveats = [
  "Pending is lawful until the deadline, overdue is not: `rlhf-audit erase LOG RATER --apply` mends both.",
  "The deadline is judged at the time that the log was opened for; an audit reads no clock.",
  "Policies, reports and exports that were replaced or removed are not counted. An export that was handed out cannot be taken back: see the receipt.",
]
references = ["Regulation (EU) 2016/679, articles 7(3), 12(3) and 17"]
*/
WITH raters AS (
  SELECT
    rater_id,
    count(*) FILTER (WHERE erased_at IS NULL) > 0 AS pending,
    coalesce(bool_or(overdue) FILTER (WHERE erased_at IS NULL), FALSE) AS overdue
  FROM withdrawals
  GROUP BY rater_id
),
purposes AS (
  SELECT rater_id, string_agg(DISTINCT purpose, ', ' ORDER BY purpose) AS purposes
  FROM (SELECT rater_id, unnest(purposes) AS purpose FROM withdrawals WHERE erased_at IS NULL)
  GROUP BY rater_id
),
given AS (
  SELECT rater_id, count(*) AS n
  FROM feedback
  GROUP BY rater_id
),
stored AS (
  SELECT rater_id, count(DISTINCT path) AS n
  FROM files
  GROUP BY rater_id
),
taught AS (
  SELECT rater_id, count(*) AS n, string_agg(name, ', ' ORDER BY name) AS names
  FROM (SELECT DISTINCT name, unnest(rater_ids) AS rater_id FROM policies WHERE state = 'current')
  GROUP BY rater_id
),
reported AS (
  SELECT rater_id, count(*) AS n
  FROM (SELECT DISTINCT path, unnest(rater_ids) AS rater_id FROM reports WHERE state = 'current')
  GROUP BY rater_id
),
exported AS (
  SELECT rater_id, count(*) AS n
  FROM (SELECT DISTINCT path, unnest(rater_ids) AS rater_id FROM exports WHERE state = 'current')
  GROUP BY rater_id
),
report AS (
  SELECT
    raters.*, purposes,
    coalesce(given.n, 0) AS n_rows, coalesce(stored.n, 0) AS n_files,
    coalesce(taught.n, 0) AS n_policies, coalesce(names, '') AS names,
    coalesce(reported.n, 0) AS n_reports, coalesce(exported.n, 0) AS n_exports
  FROM raters
    LEFT JOIN purposes USING (rater_id)
    LEFT JOIN given USING (rater_id)
    LEFT JOIN stored USING (rater_id)
    LEFT JOIN taught USING (rater_id)
    LEFT JOIN reported USING (rater_id)
    LEFT JOIN exported USING (rater_id)
)
SELECT
  rater_id AS subject,
  n_rows AS n,
  CASE WHEN pending THEN CAST(n_rows + n_files + n_policies + n_reports + n_exports AS DOUBLE) ELSE 0.0 END AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  pending AS flagged,
  CASE
    WHEN NOT pending THEN 'erased'
    ELSE concat(
      CASE WHEN overdue THEN 'overdue' ELSE 'pending' END, ' (', purposes, '); rows ', n_rows, '; files ', n_files,
      '; policies ', n_policies, CASE WHEN n_policies > 0 THEN concat(' (', names, ')') ELSE '' END,
      '; reports ', n_reports, '; exports ', n_exports)
  END AS note
FROM report
UNION ALL
-- Nobody is named whose erasure has begun.
SELECT
  'all', count(*), CAST(count(*) AS DOUBLE), NULL, NULL, TRUE,
  'an erasure has begun and something is in its way: rlhf-audit verify LOG names it'
FROM erasures
WHERE halted
HAVING count(*) > 0
ORDER BY subject
