/* How often two raters gave the same answer on the same item in the very same time.

block     of 125,000 items, by their numbers
a, b      the raters, a's pseudonym first in the alphabet
n_same    answers; one that more than five raters share is a coincidence of the clock, and left out */
WITH timed AS (
  SELECT floor((item - 1) / 125000) AS block, rater_id, item, value, latency_s
  FROM ratings
  WHERE latency_s IS NOT NULL
),
prints AS (
  SELECT *, count(*) OVER (PARTITION BY block, item, value, latency_s) AS n_alike
  FROM timed
),
marked AS (
  SELECT block, rater_id, item, value, latency_s
  FROM prints
  WHERE n_alike BETWEEN 2 AND 5
)
SELECT x.block, x.rater_id AS a, y.rater_id AS b, count(*) AS n_same
FROM marked AS x JOIN marked AS y
  ON x.block = y.block AND x.item = y.item AND x.value = y.value AND x.latency_s = y.latency_s
    AND x.rater_id < y.rater_id
GROUP BY x.block, x.rater_id, y.rater_id
