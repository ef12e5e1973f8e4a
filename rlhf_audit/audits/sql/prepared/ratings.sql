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
SELECT
  rater_id, labels.item, kind, objective, value, swapped, m, total,
  CASE WHEN m >= 2 THEN value - (total - value) / (m - 1) END AS e,
  action, session_n, "row", t, latency_s
FROM labels JOIN totals ON totals.item = labels.item
