/*
id = "erased_returned"
question = "Has a rater who was erased come back?"
severity = "error"
reads = ["erasures", "returned", "policies", "reports", "exports"]
grain = "all raters whose erasure has ended, as one row; none where nobody was erased"
n_counts = "raters who were erased"
value = "keys, files of answers and open sessions of theirs that are in the log, and policies, reports and exports that were made with them after they were erased"
flag = "there is one"
caveats = [
  "A backup that is put back brings erased raters back. Opening the log for writing erases them again; verify names the files.",
  "Nobody is named. Who is taken in again from a table that was kept elsewhere comes under a new pseudonym, which nobody can tell: the same file is refused, another copy is not.",
]
references = ["Regulation (EU) 2016/679, article 17"]
*/
WITH gone AS (
  SELECT rater_id, erased_at
  FROM erasures
  WHERE erased_at IS NOT NULL
),
made AS (
  SELECT 'policy' AS kind, trained_at AS made_at, rater_id
  FROM (SELECT trained_at, unnest(rater_ids) AS rater_id FROM policies WHERE state = 'current') AS p
  UNION ALL
  SELECT 'report', made_at, rater_id
  FROM (SELECT made_at, unnest(rater_ids) AS rater_id FROM reports WHERE state = 'current') AS r
  UNION ALL
  SELECT 'export', made_at, rater_id
  FROM (SELECT made_at, unnest(rater_ids) AS rater_id FROM exports) AS e
),
found AS (
  SELECT kind, n
  FROM returned
  UNION ALL
  SELECT kind, count(*)
  FROM made JOIN gone ON gone.rater_id = made.rater_id AND made.made_at > gone.erased_at
  GROUP BY kind
),
back AS (
  SELECT
    CAST(coalesce(sum(n), 0) AS BIGINT) AS n_back,
    string_agg(concat(kind, ' ', n), '; ' ORDER BY kind) FILTER (WHERE n > 0) AS told
  FROM found
)
SELECT
  'all' AS subject,
  (SELECT count(*) FROM gone) AS n,
  CAST(n_back AS DOUBLE) AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  n_back > 0 AS flagged,
  CASE WHEN n_back > 0 THEN concat('back: ', told) ELSE 'ok' END AS note
FROM back
WHERE (SELECT count(*) FROM gone) > 0 OR n_back > 0
ORDER BY subject
