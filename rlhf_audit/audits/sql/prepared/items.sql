/* What was judged: one row an item, which is a step, or a pair of segments, under one objective.

item      its number, from 1 in the order of the columns that name it: the same whoever rated it
kind      rating or comparison
episode_id, step, other_episode_id, other_step, n_steps
          as in `answers`
env_id    where the step, or the first segment, was played
action    of a rated step what the agent did; NULL for a comparison, or where the action is no number
name      a text for people: episode:step, or episode:step/episode:step */
SELECT
  item, kind, objective, numbered.episode_id, numbered.step, other_episode_id, other_step, n_steps, env_id,
  CASE WHEN kind = 'rating' THEN action END AS action,
  CASE WHEN kind = 'comparison'
    THEN concat(numbered.episode_id, ':', numbered.step, '/', other_episode_id, ':', other_step)
    ELSE concat(numbered.episode_id, ':', numbered.step) END AS name
FROM
  numbered
  LEFT JOIN steps
    ON steps.episode_id = numbered.episode_id AND steps.step = numbered.step
