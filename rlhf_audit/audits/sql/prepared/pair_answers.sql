/* How often two raters gave which answers on the same items.

block     of 125,000 items, by their numbers
kind, objective
a, b      the raters, a's pseudonym first in the alphabet
value_a, value_b
          what each answered
n         such items; none of a kind and objective with more than 100 different labels in the block */
WITH few AS (
  SELECT floor((item - 1) / 125000) AS block, kind, objective
  FROM ratings
  GROUP BY floor((item - 1) / 125000), kind, objective
  HAVING count(DISTINCT value) <= 100
)
SELECT x.block, x.kind, x.objective, x.rater_id AS a, y.rater_id AS b, x.value AS value_a, y.value AS value_b, count(*) AS n
FROM
  (SELECT floor((item - 1) / 125000) AS block, kind, objective, rater_id, item, value FROM ratings) AS x
  JOIN few ON few.block = x.block AND few.kind = x.kind AND few.objective IS NOT DISTINCT FROM x.objective
  JOIN (SELECT floor((item - 1) / 125000) AS block, rater_id, item, value FROM ratings) AS y
    ON y.block = x.block AND y.item = x.item AND x.rater_id < y.rater_id
GROUP BY x.block, x.kind, x.objective, x.rater_id, y.rater_id, x.value, y.value
