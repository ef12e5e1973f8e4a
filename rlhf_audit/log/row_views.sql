-- The views of a log that read what was recorded, under the consent that ledger_views.sql tells.

CREATE VIEW episodes AS
SELECT s.session_n, e.* FROM episode_rows e JOIN sessions s USING (session_id);

CREATE VIEW steps AS SELECT * FROM step_rows;

-- The right labels that came with ratings collected elsewhere: see exchange/ratings.py.
CREATE VIEW gold AS
SELECT episode_id, step, TRY_CAST(info->>'gold' AS DOUBLE) AS value
FROM steps
WHERE env_id = 'rated-elsewhere' AND info <> '{}';

CREATE VIEW feedback AS
SELECT f.rater_id, s.session_n, f.* EXCLUDE (rater_id), f.episode_id || ':' || f.step AS item
FROM feedback_rows f JOIN sessions s USING (session_id, rater_id);

-- Answers that another one of the same session takes the place of.
CREATE VIEW superseded AS
SELECT DISTINCT rater_id, session_id, supersedes AS row FROM feedback_rows WHERE supersedes IS NOT NULL;

-- Each answer, and the purposes for which its grant stands; NULL where it does not. grants names nobody whose
-- erasure has begun. Joined by one column: of several DuckDB concludes that next to no answer is left, and
-- holds all of them for the next join.
CREATE VIEW granted AS
SELECT
  f.*,
  CASE WHEN f.consent AND g.rater_id = f.rater_id AND g.state = 'given'
         AND g.given_at <= f.answered_at AND f.answered_at < g.expires_at
       THEN g.purposes END AS purposes
FROM feedback f JOIN grants g USING (grant_id);

-- With the skips, which teach nothing, but are to be audited under the same consent.
CREATE VIEW consented AS
SELECT g.*
-- No NOT EXISTS: DuckDB would hold all of the rows for it.
FROM granted g LEFT JOIN superseded later
  ON later.rater_id = g.rater_id AND later.session_id = g.session_id AND later.row = g.row
WHERE g.purposes IS NOT NULL AND later.row IS NULL;

CREATE VIEW usable AS
SELECT * FROM consented WHERE kind <> 'skip';

CREATE VIEW usable_for_training AS
SELECT * EXCLUDE (purposes) FROM usable WHERE list_contains(purposes, 'training');

CREATE VIEW usable_for_audit AS
SELECT * EXCLUDE (purposes) FROM usable WHERE list_contains(purposes, 'audit');

-- Answers to a question: what takes one back (see reader.undos) supersedes it, and so does what is given anew
-- after that; the latter is left out with the former.
CREATE VIEW skips_for_audit AS
SELECT * EXCLUDE (purposes) FROM consented
WHERE kind = 'skip' AND supersedes IS NULL AND list_contains(purposes, 'audit');
