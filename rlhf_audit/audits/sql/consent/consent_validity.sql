/*
id = "consent_validity"
question = "Was every row of feedback given under a consent that held at that moment?"
severity = "error"
reads = ["feedback", "grants", "withdrawals"]
grain = "one rater"
n_counts = "rows of feedback, of any kind"
value = "rows without a valid consent"
flag = "there is one; no test, no tolerance"
caveats = [
  "Judged from the rows themselves, not from what the log calls usable.",
  "A row is judged by the time of its answer. It counts once, under the first reason that applies, in the order of the note.",
  "A grant ends when every purpose of it has been withdrawn; rows that were given before are pending_withdrawals' business.",
]
references = ["ISO/IEC TS 27560:2023"]
*/
WITH scopes AS (  -- each purpose that a grant was given for, and when it was first withdrawn after that
  SELECT g.grant_id, g.purpose, min(w.withdrawn_at) AS withdrawn_at
  FROM
    (SELECT grant_id, rater_id, given_at, unnest(asked_purposes) AS purpose FROM grants) AS g
    LEFT JOIN withdrawals AS w
      ON w.rater_id = g.rater_id AND w.withdrawn_at >= g.given_at AND list_contains(w.purposes, g.purpose)
  GROUP BY g.grant_id, g.purpose
),
ends AS (  -- the last purpose to go ends the grant
  SELECT grant_id, CASE WHEN count(*) = count(withdrawn_at) THEN max(withdrawn_at) END AS ended_at
  FROM scopes
  GROUP BY grant_id
),
judged AS (
  SELECT
    f.rater_id,
    CASE
      WHEN g.grant_id IS NULL THEN '1 no such grant'
      WHEN g.rater_id <> f.rater_id THEN '2 grant of another rater'
      WHEN g.state = 'refused' THEN '3 consent refused'
      WHEN g.state = 'invalidated' THEN '4 grant invalidated'
      WHEN f.consent IS NOT TRUE THEN '5 consent flag false'
      WHEN f.answered_at < g.given_at THEN '6 before the grant'
      WHEN f.answered_at >= g.expires_at THEN '7 after expiry'
      WHEN f.answered_at > e.ended_at THEN '8 after withdrawal'
    END AS reason
  FROM feedback AS f LEFT JOIN grants AS g USING (grant_id) LEFT JOIN ends AS e USING (grant_id)
),
reasons AS (
  SELECT rater_id, reason, count(*) AS n
  FROM judged
  GROUP BY rater_id, reason
),
report AS (
  SELECT
    rater_id,
    CAST(sum(n) AS BIGINT) AS n,
    CAST(coalesce(sum(n) FILTER (WHERE reason IS NOT NULL), 0) AS BIGINT) AS bad,
    string_agg(concat(n, substr(reason, 2)), '; ' ORDER BY reason) FILTER (WHERE reason IS NOT NULL) AS why
  FROM reasons
  GROUP BY rater_id
)
SELECT
  rater_id AS subject,
  n,
  CAST(bad AS DOUBLE) AS value,
  CAST(NULL AS DOUBLE) AS lower,
  CAST(NULL AS DOUBLE) AS upper,
  bad > 0 AS flagged,
  coalesce(why, 'ok') AS note
FROM report
ORDER BY subject
