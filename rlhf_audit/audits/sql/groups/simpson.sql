/*
id = "simpson"
question = "Does a difference between groups of raters turn round when the situations are looked at one by one?"
severity = "info"
reads = ["ratings", "items", "rater_groups"]
grain = "one group of raters, `name=value`; one row `all` where no group may be shown"
n_min = 30
n_counts = "ratings that the group gave"
value = "mean label of the group less that of all others, over everything together; rounded to .01"
flag = "a reversal of a difference whose interval leaves 0 out; information, not a fault"
caveats = [
  "Simpson's paradox: a group that rated other situations seems to answer otherwise. Then the difference within situations is the one to look at; see group_bias, which compares on the same items.",
  "A situation is an environment and an action of the agent. Counted are those where the group and the others gave at least n_min ratings each, and differ.",
  "Reversed: in at least two thirds of the situations, and at least two, the difference has the other sign than overall.",
  "Groups are used only under a grant for audits, and never shown for fewer than 5 raters: see group_bias.",
  "The interval is over raters, each one person however much they rated, and Welch's (ours): where a difference may as well be none, nothing has turned round.",
]
references = ["Simpson 1951", "Cochran 1977, Sampling Techniques (the mean of sums over raters)", "Welch 1947 (the interval)"]
*/
WITH cells AS (  -- what a rater gave in a situation
  SELECT rater_id, env_id, items.action, count(*) AS n, sum(value ORDER BY value) AS total
  FROM ratings JOIN items USING (item)
  WHERE ratings.kind = 'rating'
  GROUP BY rater_id, env_id, items.action
),
rated AS (
  SELECT rater_id, CAST(sum(n) AS BIGINT) AS n, sum(total ORDER BY total) AS total
  FROM cells
  GROUP BY rater_id
),
situations AS (
  SELECT env_id, action, sum(n) AS n, sum(total ORDER BY total) AS total
  FROM cells
  GROUP BY env_id, action
),
inside AS (
  SELECT name, value, env_id, action, sum(n) AS n, sum(total ORDER BY total) AS total
  FROM rater_groups JOIN cells USING (rater_id)
  GROUP BY name, value, env_id, action
),
sides AS (  -- each rater once for each group that is shown: in it, or among the others
  SELECT shown.name, shown.value, g.rater_id IS NOT NULL AS member, rated.n, total
  FROM (SELECT DISTINCT name, value FROM rater_groups) AS shown CROSS JOIN rated LEFT JOIN rater_groups AS g
    ON g.rater_id = rated.rater_id AND g.name = shown.name AND g.value = shown.value
),
summed AS (
  SELECT
    name, value, member, count(*) AS raters, CAST(sum(n) AS BIGINT) AS n, sum(total ORDER BY total) AS total,
    sum(total * total ORDER BY total * total) AS tt, sum(total * n ORDER BY total * n) AS tn, sum(n * n ORDER BY n * n) AS nn
  FROM sides
  GROUP BY name, value, member
),
means AS (  -- of a ratio of sums over raters, who are one person each (Cochran 1977)
  SELECT
    name, value, member, raters, n, total / n AS mean,
    greatest(tt - 2 * total / n * tn + total / n * (total / n) * nn, 0)
      / (CAST(n AS DOUBLE) * n) * raters / nullif(raters - 1, 0) AS variance
  FROM summed
),
compared AS (
  SELECT
    i.name, i.value, i.n, o.n AS n_others, i.mean AS mean_in, o.mean AS mean_out,
    i.variance + o.variance AS variance,
    (i.variance + o.variance) * (i.variance + o.variance)
      / nullif(i.variance * i.variance / (i.raters - 1) + o.variance * o.variance / (o.raters - 1), 0) AS df
  FROM means AS i JOIN means AS o ON o.name = i.name AND o.value = i.value AND i.member AND NOT o.member
),
within AS (
  SELECT
    name, i.value,
    sign(i.total / i.n - (s.total - i.total) / nullif(s.n - i.n, 0)) AS way
  FROM inside AS i JOIN situations AS s
    ON i.env_id IS NOT DISTINCT FROM s.env_id AND i.action IS NOT DISTINCT FROM s.action
  WHERE i.n >= $n_min AND s.n - i.n >= $n_min
),
counted AS (
  SELECT
    c.name, c.value, c.n, c.n_others, mean_in - mean_out AS difference,
    -- 97.5 per cent of Student's t with df degrees of freedom (Abramowitz and Stegun 26.7.5)
    sqrt(variance) * coalesce(
      1.959963984540054 + 2.372271195 / df + 2.822498 / (df * df) + 2.555852 / (df * df * df)
        + 1.589536 / (df * df * df * df),
      0) AS half,
    (SELECT count(*) FROM within AS w WHERE w.name = c.name AND w.value = c.value AND way <> 0) AS n_situations,
    (SELECT count(*) FROM within AS w
     WHERE w.name = c.name AND w.value = c.value AND way = -sign(mean_in - mean_out)) AS n_turned
  FROM compared AS c
),
turned AS (
  SELECT
    *, n < $n_min OR n_others < $n_min OR n_situations < 2 AS few,
    n_turned >= 2 AND 3 * n_turned >= 2 * n_situations AS reversed, abs(difference) > half AS sure
  FROM counted
)
SELECT
  concat(name, '=', value) AS subject,
  n,
  round(difference, 2) AS value,
  round(difference - half, 2) AS lower,
  round(difference + half, 2) AS upper,
  reversed AND sure AND NOT few AS flagged,
  CASE
    WHEN few THEN 'insufficient'
    WHEN reversed AND NOT sure THEN concat('reversed in ', n_turned, ' of ', n_situations, ' situations; not significant')
    WHEN reversed THEN concat('reversed in ', n_turned, ' of ', n_situations, ' situations')
    ELSE 'ok'
  END AS note
FROM turned
UNION ALL
SELECT 'all', 0, NULL, NULL, NULL, FALSE, 'insufficient'
FROM (SELECT count(*) AS n FROM turned) AS shown
WHERE n = 0
ORDER BY subject
