/* One row a rater and item: of several answers the last counts.

rater_id, item, kind, objective
value     the label, as in `answers`; `swapped` too
m         ratings that the item has, this one among them
total     sum of the labels that the item has
e         leave-one-out residual: value less the mean of the others' labels; NULL where m is 1
action    what the agent did at the rated step, as in `items`
session_n, row
          where it lies; session_n is the order of sessions in the ledger
t         1 for the rater's first, in the order of sessions, then of rows
latency_s seconds from question to answer */
WITH numbered AS (
  SELECT
    answers.*, items.item, items.action,
    row_number() OVER (PARTITION BY rater_id, item ORDER BY session_n DESC, "row" DESC) AS from_last
  FROM
    answers
    JOIN items
      ON items.kind = answers.kind AND items.objective IS NOT DISTINCT FROM answers.objective
      AND items.episode_id = answers.episode_id AND items.step = answers.step
      AND items.other_episode_id IS NOT DISTINCT FROM answers.other_episode_id
      AND items.other_step IS NOT DISTINCT FROM answers.other_step
      AND items.n_steps IS NOT DISTINCT FROM answers.n_steps
),
last_given AS (
  SELECT * FROM numbered WHERE from_last = 1
),
sums AS (
  SELECT item, count(*) AS m, sum(value ORDER BY value) AS total
  FROM last_given
  GROUP BY item
)
SELECT
  rater_id, item, kind, objective, value, swapped, m, total,
  CASE WHEN m >= 2 THEN value - (total - value) / (m - 1) END AS e,
  action, session_n, "row",
  row_number() OVER (PARTITION BY rater_id ORDER BY session_n, "row", item) AS t,
  latency_s
FROM last_given JOIN sums USING (item)
