/* Every usable rating and comparison, those that were given again later among them.

session_n, row  where it lies; row grows with time within a session
episode_id, step, other_episode_id, other_step, n_steps
                the step; of a comparison both segments, the lesser first, whichever was shown first
swapped         of a comparison: the segment named second here was shown first
value           the label; of a comparison 1 for the segment named first here, 0 for the other, .5 for a tie
latency_s       seconds from question to answer; NULL where nobody knows, of ratings given elsewhere */
WITH given AS (
  SELECT
    *,
    kind = 'comparison'
      AND (other_episode_id < episode_id OR (other_episode_id = episode_id AND other_step < step)) AS turned
  FROM usable_for_audit
  WHERE kind IN ('rating', 'comparison') AND value IS NOT NULL
)
SELECT
  rater_id, session_n, "row", kind, objective,
  CASE WHEN turned THEN other_episode_id ELSE episode_id END AS episode_id,
  CASE WHEN turned THEN other_step ELSE step END AS step,
  CASE WHEN kind <> 'comparison' THEN NULL WHEN turned THEN episode_id ELSE other_episode_id END AS other_episode_id,
  CASE WHEN kind <> 'comparison' THEN NULL WHEN turned THEN step ELSE other_step END AS other_step,
  CASE WHEN kind = 'comparison' THEN n_steps END AS n_steps,
  CASE WHEN kind = 'comparison' THEN turned END AS swapped,
  CASE WHEN turned THEN 1 - value ELSE value END AS value,
  CASE WHEN latency_s < CAST('Infinity' AS DOUBLE) THEN latency_s END AS latency_s
FROM given
