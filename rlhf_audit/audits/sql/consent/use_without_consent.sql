/*
id = "use_without_consent"
question = "Was anything made with a rater's answers without a consent for that purpose at that moment?"
severity = "error"
reads = ["policies", "reports", "exports", "grants", "withdrawals", "erasures"]
grain = "one rater who is in a policy, a report or an export"
n_counts = "policies and exports that were ever made with the rater, those that were replaced since among them, and reports that were made without consent"
value = "how many of them without a consent that stood for their purpose when they were made"
flag = "there is one; no test, no tolerance"
caveats = [
  "A policy needs consent to training, a report to audit, an export to the purpose that it was made for.",
  "Each counts once, under the reason that comes nearest to a consent, in the order of the note: after withdrawal, after expiry, before the grant, found invalid, outside the purpose, no grant.",
  "A report that was made with consent is not counted: it would change the next, which says the same.",
  "Lawful when it was made and withdrawn since is pending_withdrawals' business; rows that were recorded without consent are consent_validity's.",
  "A consent that was found invalid never was one: what was made with it counts, though nobody knew it then.",
  "Nobody is named whose erasure has begun.",
]
references = ["Regulation (EU) 2016/679, articles 5(1)(b), 6 and 7(3)"]
*/
WITH made AS (
  SELECT rater_id, 'training' AS purpose, trained_at AS made_at, 'policies' AS what
  FROM (SELECT trained_at, unnest(rater_ids) AS rater_id FROM policies) AS p
  UNION ALL
  SELECT rater_id, 'audit', made_at, 'reports'
  FROM (SELECT made_at, unnest(rater_ids) AS rater_id FROM reports) AS r
  UNION ALL
  SELECT rater_id, purpose, made_at, 'exports'
  FROM (SELECT purpose, made_at, unnest(rater_ids) AS rater_id FROM exports) AS e
),
things AS (
  SELECT *, row_number() OVER (ORDER BY rater_id, what, purpose, made_at) AS thing
  FROM made
  WHERE made_at IS NOT NULL AND rater_id NOT IN (SELECT rater_id FROM erasures)
),
taken AS (
  SELECT rater_id, purpose, withdrawn_at
  FROM (SELECT rater_id, withdrawn_at, unnest(purposes) AS purpose FROM withdrawals) AS w
),
scopes AS (  -- each purpose that a grant was given for, and when it was first withdrawn after that
  SELECT g.grant_id, g.rater_id, g.purpose, g.state, g.given_at, g.expires_at, min(t.withdrawn_at) AS withdrawn_at
  FROM
    (SELECT grant_id, rater_id, state, given_at, expires_at, unnest(asked_purposes) AS purpose FROM grants) AS g
    LEFT JOIN taken AS t
      ON t.rater_id = g.rater_id AND t.purpose = g.purpose AND t.withdrawn_at >= g.given_at
  GROUP BY g.grant_id, g.rater_id, g.purpose, g.state, g.given_at, g.expires_at
),
judged AS (
  SELECT
    thing, things.rater_id, what,
    min(CASE
      WHEN s.grant_id IS NULL OR s.state = 'refused' THEN '6 no grant'
      WHEN s.purpose <> things.purpose THEN '5 outside the purpose'
      WHEN s.state = 'invalidated' THEN '4 by a consent found invalid'
      WHEN made_at < s.given_at THEN '3 before the grant'
      WHEN made_at >= s.expires_at THEN '2 after expiry'
      WHEN made_at > s.withdrawn_at THEN '1 after withdrawal'
      ELSE '0'
    END) AS reason
  FROM things LEFT JOIN scopes AS s ON s.rater_id = things.rater_id
  GROUP BY thing, things.rater_id, what
),
reasons AS (
  SELECT rater_id, reason, count(*) FILTER (WHERE what <> 'reports' OR reason <> '0') AS n
  FROM judged
  GROUP BY rater_id, reason
),
report AS (
  SELECT
    rater_id, CAST(sum(n) AS BIGINT) AS n,
    CAST(coalesce(sum(n) FILTER (WHERE reason <> '0'), 0) AS BIGINT) AS bad,
    string_agg(concat(n, substr(reason, 2)), '; ' ORDER BY reason) FILTER (WHERE reason <> '0') AS why
  FROM reasons
  GROUP BY rater_id
  HAVING sum(n) > 0
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
