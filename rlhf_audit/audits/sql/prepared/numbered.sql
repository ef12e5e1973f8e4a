/* What was judged, numbered: `items` without what was recorded of the step.

item      from 1 in the order of the columns that name it: the same whoever rated it
kind, objective, episode_id, step, other_episode_id, other_step, n_steps
          as in `answers` */
SELECT
  row_number() OVER (
    ORDER BY kind, objective, episode_id, step, other_episode_id, other_step, n_steps) AS item,
  kind, objective, episode_id, step, other_episode_id, other_step, n_steps
FROM (
  SELECT DISTINCT kind, objective, episode_id, step, other_episode_id, other_step, n_steps
  FROM answers
) AS judged
