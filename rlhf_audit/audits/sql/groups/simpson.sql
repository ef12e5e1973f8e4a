/*
id = "simpson"
question = "Does a difference between groups of raters turn round when the situations are looked at one by one?"
severity = "info"
reads = ["ratings", "items", "rater_groups"]
grain = "one group of raters, `name=value`; one row `all` where no group may be shown"
n_min = 30
n_counts = "ratings that the group gave"
value = "mean label of the group less that of all others, over everything together; rounded to .01"
flag = "a reversal: no test; information, not a fault"
caveats = [
  "Simpson's paradox: a group that rated other situations seems to answer otherwise. Then the difference within situations is the one to look at; see group_bias, which compares on the same items.",
  "A situation is an environment and an action of the agent. Counted are those where the group and the others gave at least n_min ratings each, and differ.",
  "Reversed: in at least two thirds of the situations, and at least two, the difference has the other sign than overall.",
  "Groups are used only under a grant for audits, and never shown for fewer than 5 raters: see group_bias. The interval is Welch's over ratings, as if each were independent: for orientation.",
]
references = ["Simpson 1951"]
*/
WITH cells AS (  -- what a rater gave in a situation
  SELECT
    rater_id, env_id, items.action, count(*) AS n, sum(value ORDER BY value) AS total, sum(value * value ORDER BY value * value) AS squares
  FROM ratings JOIN items USING (item)
  WHERE ratings.kind = 'rating'
  GROUP BY rater_id, env_id, items.action
),
situations AS (
  SELECT env_id, action, sum(n) AS n, sum(total ORDER BY total) AS total
  FROM cells
  GROUP BY env_id, action
),
everything AS (
  SELECT sum(n) AS n, sum(total ORDER BY total) AS total, sum(squares ORDER BY squares) AS squares
  FROM cells
),
inside AS (
  SELECT
    name, value, env_id, action, sum(n) AS n, sum(total ORDER BY total) AS total, sum(squares ORDER BY squares) AS squares
  FROM rater_groups JOIN cells USING (rater_id)
  GROUP BY name, value, env_id, action
),
overall AS (
  SELECT
    name, value, CAST(sum(n) AS BIGINT) AS n, sum(total ORDER BY total) AS total, sum(squares ORDER BY squares) AS squares
  FROM inside
  GROUP BY name, value
),
compared AS (
  SELECT
    o.name, o.value, o.n, e.n - o.n AS n_others,
    o.total / o.n AS mean_in, (e.total - o.total) / nullif(e.n - o.n, 0) AS mean_out,
    o.squares, e.squares - o.squares AS squares_out
  FROM overall AS o CROSS JOIN everything AS e
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
    sqrt((squares / n - mean_in * mean_in) / nullif(n - 1, 0)
      + (squares_out / n_others - mean_out * mean_out) / nullif(n_others - 1, 0)) AS se,
    (SELECT count(*) FROM within AS w WHERE w.name = c.name AND w.value = c.value AND way <> 0) AS n_situations,
    (SELECT count(*) FROM within AS w
     WHERE w.name = c.name AND w.value = c.value AND way = -sign(mean_in - mean_out)) AS n_turned
  FROM compared AS c
  WHERE n_others > 0
),
turned AS (
  SELECT
    *, n < $n_min OR n_others < $n_min OR n_situations < 2 AS few,
    n_turned >= 2 AND 3 * n_turned >= 2 * n_situations AS reversed
  FROM counted
)
SELECT
  concat(name, '=', value) AS subject,
  n,
  round(difference, 2) AS value,
  round(difference - 1.959963984540054 * se, 2) AS lower,
  round(difference + 1.959963984540054 * se, 2) AS upper,
  reversed AND NOT few AS flagged,
  CASE
    WHEN few THEN 'insufficient'
    WHEN reversed THEN concat('reversed in ', n_turned, ' of ', n_situations, ' situations')
    ELSE 'ok'
  END AS note
FROM turned
UNION ALL
SELECT 'all', 0, NULL, NULL, NULL, FALSE, 'insufficient'
FROM (SELECT count(*) AS n FROM turned) AS shown
WHERE n = 0
ORDER BY subject
