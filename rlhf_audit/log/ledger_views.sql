-- The views that follow from a log's ledger: of few rows each. view_sql.py puts in the ledger's lines, the lists
-- of files and $as_of, the time at which consent is judged. Nothing here reads the keys: groups come in as the
-- table `consented_groups`, which rows of which session a file holds as `sealed_slices`, and who taught a policy
-- as `policy_manifests`. Whoever asks many questions keeps the rows of each, in this order.

CREATE VIEW ledger AS
SELECT (json->>'seq')::BIGINT AS seq, (json->>'at')::TIMESTAMPTZ AS noted_at, json->>'event' AS event,
       json::JSON AS body
FROM ledger_lines;

-- Their entries are the longest and the most: each is parsed once.
CREATE VIEW sessions AS
SELECT said.session_id AS session_id,
       row_number() OVER (ORDER BY seq) AS session_n,
       said.rater_id AS rater_id,
       said.grant_id AS grant_id,
       said.kind AS kind,
       said.source AS source,
       said.rates AS rates,
       said.env.env_id AS env_id,
       said.seed AS seed,
       said.learn.algorithm AS learn,
       said.n_episodes AS n_episodes,
       said.n_steps AS n_steps,
       said.n_feedback AS n_feedback,
       noted_at AS sealed_at
FROM (
    SELECT seq, noted_at, from_json(body, '{
        "session_id": "VARCHAR", "rater_id": "VARCHAR", "grant_id": "VARCHAR", "kind": "VARCHAR",
        "source": "VARCHAR", "rates": "VARCHAR", "env": {"env_id": "VARCHAR"}, "seed": "BIGINT",
        "learn": {"algorithm": "VARCHAR"}, "n_episodes": "BIGINT", "n_steps": "BIGINT", "n_feedback": "BIGINT"
    }') AS said
    FROM ledger WHERE event = 'session'
);

CREATE VIEW terms AS
SELECT body->>'terms_sha256' AS terms_sha256, (body->>'version')::BIGINT AS version, noted_at AS added_at,
       seq = max(seq) OVER () AS newest
FROM ledger WHERE event = 'terms';

CREATE VIEW erasures AS
SELECT body->>'rater_id' AS rater_id,
       min(noted_at) AS begun_at,
       min(noted_at) FILTER (event = 'erasure-done') AS erased_at,
       -- Something is in its way: it stays due.
       arg_max(event, seq) = 'erasure-halted' AS halted
FROM ledger WHERE event IN ('erasure-intent', 'erasure-halted', 'erasure-done', 'receipt')
GROUP BY ALL;

-- A row for each session in each sealed file: a merged one holds several.
CREATE VIEW files AS
SELECT f.path, f.session_id, CASE WHEN f.path LIKE 'feedback/%' THEN s.rater_id END AS rater_id,
       f.rows::BIGINT AS rows
FROM sealed_slices f JOIN sessions s USING (session_id)
WHERE f.path NOT LIKE 'feedback/%' OR s.rater_id NOT IN (SELECT rater_id FROM erasures);

-- Erasures that are suspended. Why is readable only with the rater's key.
CREATE VIEW holds AS
SELECT body->>'rater_id' AS rater_id, max(noted_at) AS held_since
FROM ledger WHERE event IN ('legal-hold', 'legal-hold-lifted')
GROUP BY ALL HAVING arg_max(event, seq) = 'legal-hold';

CREATE VIEW withdrawals AS
SELECT w.body->>'rater_id' AS rater_id,
       (w.body->'purposes')::VARCHAR[] AS purposes,
       w.noted_at AS withdrawn_at,
       (w.body->>'erase_by')::TIMESTAMPTZ AS erase_by,
       e.erased_at,
       -- A hold suspends the deadline, never the withdrawal.
       e.erased_at IS NULL AND h.rater_id IS NULL AND (w.body->>'erase_by')::TIMESTAMPTZ < $as_of AS overdue,
       h.rater_id IS NOT NULL AS held
FROM ledger w LEFT JOIN erasures e ON e.rater_id = w.body->>'rater_id'
LEFT JOIN holds h ON h.rater_id = w.body->>'rater_id'
WHERE w.event = 'withdrawal' AND e.begun_at IS NULL;

CREATE VIEW grants AS
WITH given AS (
    SELECT body->>'grant_id' AS grant_id, body->>'rater_id' AS rater_id, body->>'state' AS first_state,
           body->>'terms_sha256' AS terms_sha256, body->>'method' AS method,
           body->>'given_by' AS given_by,
           (body->'purposes')::VARCHAR[] AS given_purposes,
           (body->>'given_at')::TIMESTAMPTZ AS given_at, (body->>'expires_at')::TIMESTAMPTZ AS expires_at, seq
    FROM ledger WHERE event = 'consent'
      -- Once an erasure has begun nothing but the ledger and the receipt names the rater.
      AND body->>'rater_id' NOT IN (SELECT rater_id FROM erasures)
), taken_back AS (
    SELECT g.grant_id, list(DISTINCT purpose) AS purposes
    FROM given g
    JOIN (SELECT body->>'rater_id' AS rater_id, seq, unnest((body->'purposes')::VARCHAR[]) AS purpose
          FROM ledger WHERE event = 'withdrawal') w
      ON w.rater_id = g.rater_id AND w.seq > g.seq
    GROUP BY ALL
)
SELECT grant_id, rater_id,
       CASE WHEN first_state <> 'given' THEN first_state
            WHEN grant_id IN (SELECT unnest((body->'grant_ids')::VARCHAR[]) FROM ledger
                              WHERE event = 'consent-invalidated') THEN 'invalidated'
            WHEN len(left_purposes) = 0 THEN 'withdrawn'
            WHEN expires_at <= $as_of THEN 'expired'
            ELSE 'given' END AS state,
       terms_sha256,
       left_purposes AS purposes,
       list_sort(given_purposes) AS asked_purposes,
       method, given_by, given_at, expires_at
FROM (
    SELECT g.*, CASE WHEN first_state = 'given'
                     THEN list_sort(list_filter(g.given_purposes,
                                                lambda p: NOT list_contains(coalesce(t.purposes, []), p)))
                     ELSE list_sort(g.given_purposes) END AS left_purposes
    FROM given g LEFT JOIN taken_back t USING (grant_id)
);

CREATE VIEW raters AS
SELECT l.body->>'rater_id' AS rater_id,
       l.body->>'scripted' AS scripted,
       l.noted_at AS enrolled_at,
       coalesce(g.groups, MAP {}) AS groups
FROM ledger l LEFT JOIN consented_groups g ON g.rater_id = l.body->>'rater_id'
WHERE l.event = 'enrolled'
  AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.rater_id = l.body->>'rater_id');

CREATE VIEW policies AS
WITH listed AS (
    SELECT seq, noted_at, event, body->>'path' AS path, body->>'name' AS name,
           body->>'weights_sha256' AS weights_sha256, body->>'algorithm' AS algorithm,
           (body->>'rows')::BIGINT AS rows, (body->'rater_ids')::VARCHAR[] AS rater_ids
    FROM ledger WHERE event IN ('training', 'policy-removed')
)
SELECT name, path, weights_sha256, algorithm, rows, rater_ids, noted_at AS trained_at,
       CASE WHEN later = 'training' THEN 'replaced' WHEN later = 'policy-removed' THEN 'removed'
            ELSE 'current' END AS state
FROM (SELECT *, lead(event) OVER (PARTITION BY path ORDER BY seq) AS later FROM listed)
WHERE event = 'training'
ORDER BY seq;

-- Training rows by rater, as the manifests of the policies that are there tell.
CREATE VIEW policy_rows AS
SELECT p.name, p.path, m.rater_id, m.rows::BIGINT AS rows
FROM policy_manifests m JOIN policies p ON p.path = m.path AND p.state = 'current'
WHERE m.rater_id NOT IN (SELECT rater_id FROM erasures);

CREATE VIEW reports AS
SELECT path, rater_ids, made_at, CASE WHEN later THEN 'replaced' ELSE 'current' END AS state
FROM (
    SELECT seq, body->>'path' AS path, (body->'rater_ids')::VARCHAR[] AS rater_ids, noted_at AS made_at,
           lead(seq) OVER (PARTITION BY body->>'path' ORDER BY seq) IS NOT NULL AS later
    FROM ledger WHERE event = 'report'
)
ORDER BY seq;

CREATE VIEW exports AS
SELECT path, purpose, recipient, rater_ids, made_at,
       -- Its recipient was told of what was withdrawn until then.
       coalesce((SELECT max(r.noted_at) FROM ledger r
                 WHERE r.event = 'recipient-told' AND r.body->>'path' = e.path), made_at) AS told_at,
       'current' AS state
FROM (
    SELECT seq, body->>'path' AS path, body->>'purpose' AS purpose, body->>'recipient' AS recipient,
           (body->'rater_ids')::VARCHAR[] AS rater_ids, noted_at AS made_at
    FROM ledger WHERE event = 'export'
) e
ORDER BY seq;
