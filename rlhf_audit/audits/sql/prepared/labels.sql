/* What each rater's last answer on an item was: `ratings` without what the others said.

rater_id, item, kind, objective, value, swapped, action, session_n, row, t, latency_s
          as in `ratings` */
WITH numbered AS (
  SELECT
    answers.*, items.item, items.action,
    lead(items.item) OVER (PARTITION BY answers.rater_id ORDER BY items.item, session_n, "row") AS next_item
  FROM
    answers
    JOIN items
      ON items.kind = answers.kind AND items.objective IS NOT DISTINCT FROM answers.objective
      AND items.episode_id = answers.episode_id AND items.step = answers.step
      AND items.other_episode_id IS NOT DISTINCT FROM answers.other_episode_id
      AND items.other_step IS NOT DISTINCT FROM answers.other_step
      AND items.n_steps IS NOT DISTINCT FROM answers.n_steps
)
SELECT
  rater_id, item, kind, objective, value, swapped, action, session_n, "row",
  row_number() OVER (PARTITION BY rater_id ORDER BY session_n, "row", item) AS t,
  latency_s
FROM numbered
WHERE next_item IS NULL OR next_item <> item
