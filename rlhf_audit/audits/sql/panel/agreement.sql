/*
id = "agreement"
question = "Do the raters agree on the same items beyond chance?"
severity = "warning"
reads = ["usable_for_audit"]
grain = "one coefficient over the whole panel: alpha (Krippendorff, nominal), AC1 (Gwet), percent (pairwise agreement)"
n_min = 30
n_counts = "items with two ratings or more"
value = "the coefficient, 1 for perfect agreement, 0 for chance (percent: the share of agreeing pairs, chance included)"
flag = "alpha below the threshold; AC1 and percent are printed beside it and never flagged"
caveats = [
  "Where nearly all answers are the same, alpha is low although raters agree (the prevalence paradox): the note says so when AC1 exceeds alpha by more than `paradox`.",
  "Percent agreement alone says little: it counts agreement by chance.",
  "alpha from .667 to .800 permits tentative conclusions only; compare it with what the task can reach (Wong et al. 2021), not with a constant.",
  "Labels are compared as equal or not: an ordered scale loses its order here.",
  "Of several ratings of an item by one rater the last counts. All objectives are pooled.",
  "The interval is over items, with these raters given; it is not about other raters.",
]
references = [
  "Krippendorff 2011, Computing Krippendorff's alpha-reliability",
  "Gwet 2014, Handbook of Inter-Rater Reliability (AC1; standard errors by linearisation, as in irrCAC)",
  "Wong, Paritosh and Aroyo 2021, Cross-replication reliability",
]

[params.threshold]
type = "float"
default = 0.667
meaning = "alpha below it is called unreliable (Krippendorff)"

[params.tentative]
type = "float"
default = 0.8
meaning = "alpha below it is called tentative (Krippendorff)"

[params.paradox]
type = "float"
default = 0.2
meaning = "AC1 - alpha above it is called a prevalence paradox (ours)"
*/
WITH ratings AS (
  SELECT item, objective, max_by(value, (session_n, "row")) AS value
  FROM usable_for_audit
  WHERE kind = 'rating' AND value IS NOT NULL
  GROUP BY rater_id, item, objective
),
counts AS (  -- n_ik: how often label k was given to item i
  SELECT item, objective, value, count(*) AS n_ik
  FROM ratings
  GROUP BY item, objective, value
),
items AS (  -- m: ratings of an item; same: ordered pairs of equal ratings
  SELECT item, objective, CAST(sum(n_ik) AS BIGINT) AS m, CAST(sum(n_ik * (n_ik - 1)) AS BIGINT) AS same
  FROM counts
  GROUP BY item, objective
),
panel AS (  -- n_all: rated items; n: items with two ratings or more; n_ratings: the ratings in those
  SELECT
    count(*) AS n_all,
    count(*) FILTER (WHERE m >= 2) AS n,
    CAST(sum(m) FILTER (WHERE m >= 2) AS DOUBLE) AS n_ratings,
    sum(same / (m * (m - 1)) ORDER BY same / (m * (m - 1))) FILTER (WHERE m >= 2) / count(*) FILTER (WHERE m >= 2)
      AS percent,
    sum(same / (m - 1) ORDER BY same / (m - 1)) FILTER (WHERE m >= 2) / sum(m) FILTER (WHERE m >= 2) AS observed
  FROM items
),
labels AS (  -- share_all: mean over items (for AC1); share: over the ratings that can be paired (for alpha)
  SELECT
    value,
    sum(n_ik / m ORDER BY n_ik / m) / any_value(n_all) AS share_all,
    coalesce(sum(n_ik) FILTER (WHERE m >= 2), 0) / any_value(n_ratings) AS share
  FROM counts JOIN items USING (item, objective) CROSS JOIN panel
  GROUP BY value
),
chance AS (
  SELECT
    count(*) AS q,
    sum(share * share ORDER BY share * share) AS alpha_chance,
    sum(share_all * (1 - share_all) ORDER BY share_all * (1 - share_all)) / nullif(count(*) - 1, 0) AS ac1_chance
  FROM labels
),
coefficients AS (  -- observed_1: with Krippendorff's correction for small samples
  SELECT
    *,
    (1 - 1 / n_ratings) * observed + 1 / n_ratings AS observed_1,
    (observed - alpha_chance) / nullif(1 - alpha_chance, 0) AS alpha_0,
    (((1 - 1 / n_ratings) * observed + 1 / n_ratings) - alpha_chance) / nullif(1 - alpha_chance, 0) AS alpha,
    (percent - ac1_chance) / nullif(1 - ac1_chance, 0) AS ac1
  FROM panel CROSS JOIN chance
),
expected AS (  -- what an item adds to agreement by chance
  SELECT
    m, same,
    sum(n_ik * share ORDER BY n_ik * share) AS by_share,
    sum(n_ik * (1 - share_all) ORDER BY n_ik * (1 - share_all)) AS by_rest
  FROM counts JOIN items USING (item, objective) JOIN labels USING (value)
  GROUP BY item, objective, m, same
),
alike AS (  -- items with the same numbers, once: there are few of them
  SELECT m, same, by_share, by_rest, count(*) AS n_alike
  FROM expected
  GROUP BY m, same, by_share, by_rest
),
influence AS (  -- each coefficient's linear part in such an item; `excess` is how much more often the item was rated
  SELECT
    n, n_all, percent, ac1, alpha_0, n_alike,
    m * n / n_ratings - 1 AS excess,
    CASE WHEN m >= 2 THEN same / (m * (m - 1)) END AS percent_i,
    CASE WHEN m >= 2 THEN (n_all / n) * (same / (m * (m - 1)) - ac1_chance) ELSE 0 END / (1 - ac1_chance)
      - 2 * (1 - ac1) * (by_rest / m / (q - 1) - ac1_chance) / (1 - ac1_chance) AS ac1_i,
    CASE WHEN m >= 2 THEN
      (same / (m - 1) * n / n_ratings - observed_1 * excess - alpha_chance) / (1 - alpha_chance)
      - 2 * (1 - alpha_0) * (by_share * n / n_ratings - alpha_chance * excess - alpha_chance) / (1 - alpha_chance)
    END AS alpha_i
  FROM alike CROSS JOIN coefficients
),
errors AS (
  SELECT
    sqrt(sum(n_alike * pow(percent_i - percent, 2) ORDER BY n_alike * pow(percent_i - percent, 2))
      / nullif(any_value(n) * (any_value(n) - 1), 0)) AS percent_se,
    sqrt(sum(n_alike * pow(ac1_i - ac1, 2) ORDER BY n_alike * pow(ac1_i - ac1, 2))
      / nullif(any_value(n_all) * (any_value(n_all) - 1), 0)) AS ac1_se,
    sqrt(sum(n_alike * pow(alpha_i - alpha_0, 2) ORDER BY n_alike * pow(alpha_i - alpha_0, 2))
      / nullif(any_value(n) * (any_value(n) - 1), 0)) AS alpha_se
  FROM influence
),
report AS (
  SELECT 'alpha' AS subject, n, alpha AS value, alpha_se AS se, alpha < $threshold AS flagged,
    concat_ws('; ',
      CASE WHEN alpha < $threshold THEN 'unreliable' WHEN alpha < $tentative THEN 'tentative' ELSE 'ok' END,
      CASE WHEN ac1 - alpha > $paradox THEN 'prevalence paradox: see AC1' END) AS note
  FROM coefficients CROSS JOIN errors
  UNION ALL
  SELECT 'AC1', n, ac1, ac1_se, FALSE, 'ok' FROM coefficients CROSS JOIN errors
  UNION ALL
  SELECT 'percent', n, percent, percent_se, FALSE, 'ok' FROM coefficients CROSS JOIN errors
)
SELECT
  subject,
  n,
  value,
  value - 1.959963984540054 * se AS lower,
  CASE WHEN value + 1.959963984540054 * se > 1 THEN 1 ELSE value + 1.959963984540054 * se END AS upper,
  coalesce(flagged AND n >= $n_min, FALSE) AS flagged,
  CASE WHEN n < $n_min THEN 'insufficient' WHEN value IS NULL THEN 'all answers are the same' ELSE note END AS note
FROM report
ORDER BY subject
