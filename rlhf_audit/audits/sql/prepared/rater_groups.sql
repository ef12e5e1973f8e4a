/* Who is in which group, of raters with a grant for audits that stands; only what may be shown.

rater_id
name      what is told of a rater, such as language
value     what they told

A group of fewer than 5 raters with ratings is left out. Nor may one be worked out as what remains: where 1 to 4
raters of the panel are in no group of that name, its smallest group is left out too. */
WITH panel AS (
  SELECT DISTINCT rater_id
  FROM ratings
),
told AS (
  SELECT named.rater_id, name, groups[name] AS value
  FROM (SELECT rater_id, groups, unnest(map_keys(groups)) AS name FROM raters) AS named JOIN panel USING (rater_id)
),
large AS (
  SELECT name, value, count(*) AS n_raters
  FROM told
  GROUP BY name, value
  HAVING count(*) >= 5
),
remaining AS (
  SELECT
    name, value,
    row_number() OVER (PARTITION BY name ORDER BY n_raters, value) AS place,
    (SELECT count(*) FROM panel) - sum(n_raters) OVER (PARTITION BY name) AS n_others
  FROM large
)
SELECT rater_id, name, value
FROM told JOIN remaining USING (name, value)
WHERE NOT (place = 1 AND n_others BETWEEN 1 AND 4)
