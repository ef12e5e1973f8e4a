/*
id = "pending_withdrawals"
question = "Who has withdrawn and is still in the log, in policies or in reports?"
severity = "warning"
reads = ["withdrawals", "grants", "feedback", "files", "policies", "reports", "exports", "erasures"]
grain = "one rater who has withdrawn; and all erasures that something is in the way of"
n_counts = "rows of the rater's feedback that the log still holds"
value = "rows, files, policies, reports and exports that the rater is still in, together; after a withdrawal in part only what was made before it for a purpose withdrawn; 0 where nothing is pending"
flag = "a withdrawal has not been followed by its erasure, or one in part by what was made for that purpose being made again; the note says whether it is overdue or held; or an erasure can't be finished"
caveats = [
  "Pending is lawful until the deadline, overdue is not: `rlhf-audit erase LOG RATER --apply` mends both.",
  "A legal hold (`erase LOG RATER --legal-hold REASON`) suspends the deadline and stays a finding: nothing held may be used.",
  "The deadline is judged at the time that the log was opened for; an audit reads no clock.",
  "In part: something that the rater agreed to stands, and no row was given by a grant of which nothing stands. Then policies count for training, reports for audit, exports for the purpose that they were made for. Whoever has an export is told: `rlhf-audit export LOG --told DIR` notes it.",
  "Policies, reports and exports that were replaced or removed are not counted. An export that was handed out cannot be taken back: see the receipt.",
]
references = ["Regulation (EU) 2016/679, articles 7(3), 12(3) and 17"]
*/
WITH raters AS (
  SELECT
    rater_id,
    count(*) FILTER (WHERE erased_at IS NULL) > 0 AS due,
    coalesce(bool_or(overdue) FILTER (WHERE erased_at IS NULL), FALSE) AS late,
    coalesce(bool_or(held) FILTER (WHERE erased_at IS NULL), FALSE) AS held
  FROM withdrawals
  GROUP BY rater_id
),
taken AS (  -- each purpose that is withdrawn, and when last
  SELECT rater_id, purpose, max(withdrawn_at) AS withdrawn_at
  FROM (SELECT rater_id, withdrawn_at, unnest(purposes) AS purpose FROM withdrawals WHERE erased_at IS NULL)
  GROUP BY rater_id, purpose
),
purposes AS (
  SELECT rater_id, string_agg(purpose, ', ' ORDER BY purpose) AS purposes
  FROM taken
  GROUP BY rater_id
),
in_part AS (  -- who withdrew and left something standing
  SELECT DISTINCT rater_id
  FROM grants
  WHERE state IN ('given', 'expired') AND array_length(purposes) > 0
    AND rater_id NOT IN (
      SELECT f.rater_id
      FROM feedback AS f JOIN raters ON raters.rater_id = f.rater_id
        JOIN grants AS g ON g.grant_id = f.grant_id AND g.rater_id = f.rater_id
      WHERE g.state = 'withdrawn')
),
given AS (
  SELECT rater_id, count(*) AS n
  FROM feedback JOIN raters USING (rater_id)
  GROUP BY rater_id
),
stored AS (
  SELECT rater_id, count(DISTINCT path) AS n
  FROM files
  GROUP BY rater_id
),
taught AS (
  SELECT
    p.rater_id, count(*) AS n, string_agg(name, ', ' ORDER BY name) AS names,
    count(*) FILTER (WHERE t.rater_id IS NOT NULL) AS n_held,
    string_agg(name, ', ' ORDER BY name) FILTER (WHERE t.rater_id IS NOT NULL) AS names_held
  FROM (
      SELECT name, rater_id, min(trained_at) AS trained_at
      FROM (SELECT name, trained_at, unnest(rater_ids) AS rater_id FROM policies WHERE state = 'current')
      GROUP BY name, rater_id
    ) AS p
    LEFT JOIN taken AS t
      ON t.rater_id = p.rater_id AND t.purpose = 'training' AND coalesce(p.trained_at <= t.withdrawn_at, TRUE)
  GROUP BY p.rater_id
),
reported AS (
  SELECT r.rater_id, count(*) AS n, count(*) FILTER (WHERE t.rater_id IS NOT NULL) AS n_held
  FROM (
      SELECT path, rater_id, max(made_at) AS made_at
      FROM (SELECT path, made_at, unnest(rater_ids) AS rater_id FROM reports WHERE state = 'current')
      GROUP BY path, rater_id
    ) AS r
    LEFT JOIN taken AS t
      ON t.rater_id = r.rater_id AND t.purpose = 'audit' AND coalesce(r.made_at <= t.withdrawn_at, TRUE)
  GROUP BY r.rater_id
),
exported AS (
  SELECT
    e.rater_id, count(DISTINCT e.path) AS n,
    count(DISTINCT e.path) FILTER (WHERE t.rater_id IS NOT NULL) AS n_held
  FROM (SELECT path, purpose, told_at, unnest(rater_ids) AS rater_id FROM exports WHERE state = 'current') AS e
    LEFT JOIN taken AS t
      ON t.rater_id = e.rater_id AND t.purpose = e.purpose AND coalesce(e.told_at <= t.withdrawn_at, TRUE)
  GROUP BY e.rater_id
),
report AS (
  SELECT
    rater_id, purposes, late, held, due, due AND p.rater_id IS NOT NULL AS partial,
    coalesce(given.n, 0) AS n_rows, coalesce(stored.n, 0) AS n_files,
    coalesce(CASE WHEN p.rater_id IS NULL THEN taught.n ELSE taught.n_held END, 0) AS n_policies,
    coalesce(CASE WHEN p.rater_id IS NULL THEN taught.names ELSE taught.names_held END, '') AS names,
    coalesce(CASE WHEN p.rater_id IS NULL THEN reported.n ELSE reported.n_held END, 0) AS n_reports,
    coalesce(CASE WHEN p.rater_id IS NULL THEN exported.n ELSE exported.n_held END, 0) AS n_exports
  FROM raters
    LEFT JOIN purposes USING (rater_id)
    LEFT JOIN in_part AS p USING (rater_id)
    LEFT JOIN given USING (rater_id)
    LEFT JOIN stored USING (rater_id)
    LEFT JOIN taught USING (rater_id)
    LEFT JOIN reported USING (rater_id)
    LEFT JOIN exported USING (rater_id)
),
judged AS (
  SELECT
    *, n_policies + n_reports + n_exports AS n_made,
    due AND (NOT partial OR n_policies + n_reports + n_exports > 0) AS pending
  FROM report
)
SELECT
  rater_id AS subject,
  n_rows AS n,
  CASE WHEN NOT pending THEN 0.0
       WHEN partial THEN CAST(n_made AS DOUBLE)
       ELSE CAST(n_rows + n_files + n_made AS DOUBLE) END AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  pending AS flagged,
  CASE
    WHEN NOT due THEN 'erased'
    WHEN NOT pending THEN concat('settled (', purposes, '): nothing made for it before holds them')
    ELSE concat(
      CASE WHEN held THEN 'held, under a legal hold' WHEN late THEN 'overdue' ELSE 'pending' END, ' (', purposes, ')',
      CASE WHEN partial THEN ' in part' ELSE concat('; rows ', n_rows, '; files ', n_files) END,
      '; policies ', n_policies, CASE WHEN n_policies > 0 THEN concat(' (', names, ')') ELSE '' END,
      '; reports ', n_reports, '; exports ', n_exports)
  END AS note
FROM judged
UNION ALL
-- Nobody is named whose erasure has begun.
SELECT
  'all', count(*), CAST(count(*) AS DOUBLE), NULL, NULL, TRUE,
  'an erasure has begun and something is in its way: rlhf-audit verify LOG names it'
FROM erasures
WHERE halted
HAVING count(*) > 0
ORDER BY subject
