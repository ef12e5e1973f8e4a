/* How a rater's ratings stand among the others on the same items: ratings that stand alike are one row.

block     of 125,000 items, by their numbers
kind, objective, rater_id, value
m         ratings that the item has
q         pairs of these ratings that agree, each with itself and both ways: the sum of n_same over them
n_same    ratings of the item with the same value, this one among them
n         ratings of this rater that stand so */
WITH alike AS (
  SELECT floor((item - 1) / 125000) AS block, item, value, count(*) AS n_same
  FROM ratings
  GROUP BY floor((item - 1) / 125000), item, value
),
squared AS (
  SELECT *, CAST(sum(n_same * n_same) OVER (PARTITION BY block, item) AS BIGINT) AS q
  FROM alike
),
given AS (  -- not shared with `alike`: DuckDB would hold a shared one whole, not block by block
  SELECT floor((item - 1) / 125000) AS block, kind, objective, rater_id, item, value, m
  FROM ratings
)
SELECT given.block, kind, objective, rater_id, given.value, m, q, n_same, count(*) AS n
FROM given JOIN squared ON squared.block = given.block AND squared.item = given.item AND squared.value = given.value
GROUP BY given.block, kind, objective, rater_id, given.value, m, q, n_same
