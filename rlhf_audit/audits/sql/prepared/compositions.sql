/* How a rater's ratings stand among the others on the same items: ratings that stand alike are one row.

block     of 125,000 items, by their numbers
kind, objective, rater_id, value
m         ratings that the item has
q         pairs of these ratings that agree, each with itself and both ways: the sum of n_same over them
n_same    ratings of the item with the same value, this one among them
n         ratings of this rater that stand so */
WITH given AS (
  SELECT
    floor((item - 1) / 125000) AS block, kind, objective, rater_id, item, value, m
  FROM ratings
),
counted AS (
  SELECT *, count(*) OVER (PARTITION BY block, item, value) AS n_same
  FROM given
),
squared AS (
  SELECT *, CAST(sum(n_same) OVER (PARTITION BY block, item) AS BIGINT) AS q
  FROM counted
)
SELECT block, kind, objective, rater_id, value, m, q, n_same, count(*) AS n
FROM squared
GROUP BY block, kind, objective, rater_id, value, m, q, n_same
