/*
id = "action_bias"
question = "Does a rater favour, or disfavour, one action of the agent, whatever the situation?"
severity = "warning"
reads = ["items", "ratings"]
grain = "one rater and one action, `rater:action`"
n_min = 50
n_counts = "items with that action, of the rater, that somebody else rated too"
value = "mean of (own label - mean of the others' labels) where the agent took the action, less the same where it did not"
flag = "|value| and its distance from the panel's median for the action both reach the threshold, at least `n_other` items with other actions, q <= .05, and the difference does not turn round within situations"
caveats = [
  "With two actions the rows of a rater mirror each other: favouring one is disfavouring the other.",
  "A rater who is merely lenient or severe has the same residual everywhere and is not flagged; but a constant rater is more lenient where the others are severe, which differs by action: the note names constant_rater.",
  "Simpson's reversal: the residual compares with others on the same step, but a rater may be severe in the situations in which an action is frequent. So the difference is also taken within each situation (the environment, and the first, second or last third of the episode up to the last step that was judged), weighted by n m / (n + m) of its items with and without the action. Where that has the other sign the row is no finding, and says so.",
  "One biased rater bends the others the other way: so the distance from the panel's median must reach the threshold too (ours). With two raters nobody can tell which of them is biased.",
  "Everything is relative to the panel: where half of it shares a bias, the other half may be flagged.",
]
references = ["difference of mean leave-one-out residuals", "Welch 1947 (the z)", "Simpson 1951"]

[params.threshold]
type = "float"
default = 0.35
meaning = "smallest |value| that matters, in label units (ours)"

[params.n_other]
type = "int"
default = 30
meaning = "fewest shared items of the rater with any other action (ours)"

[test]
distribution = "normal"
hypothesis = "both means are equal"
*/
WITH lengths AS (
  SELECT episode_id, max(step) + 1 AS n_judged
  FROM items
  WHERE kind = 'rating'
  GROUP BY episode_id
),
placed AS (
  SELECT item, coalesce(env_id, '') AS env_id, CAST(floor(3 * step / n_judged) AS INTEGER) AS third
  FROM items JOIN lengths ON lengths.episode_id = items.episode_id
  WHERE kind = 'rating'
),
numbers AS (  -- so that rows are grouped by a number
  SELECT env_id, third, CAST(row_number() OVER (ORDER BY env_id, third) AS INTEGER) AS situation
  FROM (SELECT DISTINCT env_id, third FROM placed) AS named
),
situations AS (
  SELECT item, situation
  FROM placed JOIN numbers ON numbers.env_id = placed.env_id AND numbers.third = placed.third
),
raters AS (
  SELECT rater_id, min(value) = max(value) AS constant
  FROM ratings
  WHERE kind = 'rating'
  GROUP BY rater_id
),
split AS (
  SELECT
    rater_id, action, situation, count(*) AS n,
    sum(CAST(e AS DECIMAL(38, 15))) AS e1, sum(CAST(e * e AS DECIMAL(38, 15))) AS e2
  FROM ratings JOIN situations ON situations.item = ratings.item
  WHERE e IS NOT NULL AND action IS NOT NULL
  GROUP BY rater_id, action, situation
),
cells AS (
  SELECT rater_id, constant, action
  FROM raters CROSS JOIN (SELECT DISTINCT action FROM split) AS actions
),
sums AS (
  SELECT
    rater_id, action, CAST(sum(n) AS BIGINT) AS n,
    sum(CAST(e1 AS DECIMAL(38, 15))) AS e1, sum(CAST(e2 AS DECIMAL(38, 15))) AS e2
  FROM split
  GROUP BY rater_id, action
),
totals AS (
  SELECT
    rater_id, CAST(sum(n) AS BIGINT) AS n,
    sum(CAST(e1 AS DECIMAL(38, 15))) AS e1, sum(CAST(e2 AS DECIMAL(38, 15))) AS e2
  FROM split
  GROUP BY rater_id
),
sides AS (  -- decimals take away exactly
  SELECT
    cells.rater_id, cells.action, constant, coalesce(sums.n, 0) AS n, totals.n - coalesce(sums.n, 0) AS n_rest,
    CAST(sums.e1 AS DOUBLE) AS e1, CAST(sums.e2 AS DOUBLE) AS e2,
    CAST(totals.e1 - coalesce(sums.e1, 0) AS DOUBLE) AS r1, CAST(totals.e2 - coalesce(sums.e2, 0) AS DOUBLE) AS r2
  FROM cells JOIN totals USING (rater_id) LEFT JOIN sums USING (rater_id, action)
),
differences AS (  -- 1e-12: what rounding leaves of nothing
  SELECT
    rater_id, action, constant, n, n_rest,
    e1 / nullif(n, 0) - r1 / nullif(n_rest, 0) AS difference,
    sqrt(
      CASE WHEN e2 - e1 * e1 / n > 1e-12 * e2 THEN e2 - e1 * e1 / n ELSE 0 END / nullif(n - 1, 0) / n
      + CASE WHEN r2 - r1 * r1 / n_rest > 1e-12 * r2 THEN r2 - r1 * r1 / n_rest ELSE 0 END
        / nullif(n_rest - 1, 0) / n_rest) AS se
  FROM sides
),
split_totals AS (
  SELECT rater_id, situation, CAST(sum(n) AS BIGINT) AS n, sum(CAST(e1 AS DECIMAL(38, 15))) AS e1
  FROM split
  GROUP BY rater_id, situation
),
contrasts AS (  -- where the situation has items with the action and without it
  SELECT
    split.rater_id, action, CAST(split.n AS DOUBLE) * (all_of.n - split.n) / all_of.n AS weight,
    CAST(split.e1 AS DOUBLE) / split.n - CAST(all_of.e1 - split.e1 AS DOUBLE) / (all_of.n - split.n) AS difference
  FROM split JOIN split_totals AS all_of ON all_of.rater_id = split.rater_id AND all_of.situation = split.situation
  WHERE all_of.n > split.n
),
within AS (
  SELECT
    rater_id, action,
    sum(weight * difference ORDER BY weight * difference) / sum(weight ORDER BY weight) AS difference
  FROM contrasts
  GROUP BY rater_id, action
),
panel AS (
  SELECT action, median(difference) FILTER (WHERE n >= $n_min AND n_rest >= $n_other) AS middle
  FROM differences
  GROUP BY action
),
report AS (
  SELECT
    differences.rater_id, differences.action, constant, n, differences.difference, se,
    n >= $n_min AND n_rest >= $n_other AS enough,
    abs(differences.difference) >= $threshold AND abs(differences.difference - middle) >= $threshold
      AND sign(differences.difference) = sign(differences.difference - middle) AS large,
    coalesce(sign(differences.difference) * sign(within.difference) < 0, FALSE) AS turned
  FROM differences JOIN panel ON panel.action = differences.action
    LEFT JOIN within ON within.rater_id = differences.rater_id AND within.action = differences.action
)
SELECT
  concat(rater_id, ':', action) AS subject,
  n,
  difference AS value,
  difference - 1.959963984540054 * se AS lower,
  difference + 1.959963984540054 * se AS upper,
  CASE WHEN se > 0 THEN difference / se WHEN difference <> 0 THEN sign(difference) * CAST('Infinity' AS DOUBLE)
    WHEN se = 0 THEN 0 END AS statistic,
  coalesce(large AND enough AND NOT turned, FALSE) AS flagged,
  CASE
    WHEN NOT enough THEN 'insufficient'
    WHEN large AND turned THEN 'turns round within situations: not the action'
    WHEN large THEN
      concat_ws('; ', CASE WHEN difference > 0 THEN 'favours the action' ELSE 'disfavours the action' END,
        CASE WHEN constant THEN 'always the same answer: see constant_rater' END)
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
