/*
id = "agreement"
question = "Do the raters agree on the same items beyond chance?"
severity = "warning"
reads = ["items", "ratings"]
grain = "one coefficient over one panel: alpha (Krippendorff, nominal), AC1 (Gwet), Fleiss (of two raters Scott's pi), Conger (of two raters Cohen's kappa), Brennan-Prediger (Randolph), percent (pairs that agree). A panel is one kind of feedback under one objective: the plain name is ratings of `correct`, another is `alpha:objective`, `alpha:comparison`, `alpha:comparison objective`"
n_min = 30
n_counts = "items with two ratings or more"
value = "the coefficient, 1 for perfect agreement, 0 for chance (percent: the mean share of agreeing pairs, chance included)"
flag = "alpha below the threshold where there are no more than two labels (with more see scaled_agreement); the others are printed beside it and never flagged"
caveats = [
  "Where nearly all answers are the same, alpha is low although raters agree (the prevalence paradox): the note says so when AC1 exceeds alpha by more than `paradox`.",
  "Percent agreement alone says little: it counts agreement by chance.",
  "alpha from .667 to .800 permits tentative conclusions only; compare it with what the task can reach (Wong et al. 2021), not with a constant.",
  "Labels are compared as equal or not: what an ordered scale loses by that, scaled_agreement counts.",
  "Of several answers of a rater to an item the last counts.",
  "The interval is over items, with these raters given; bootstrap_agreement has one about other raters too.",
  "Where all answers agree the formula has nothing to go by, and the interval no width: that is no certainty.",
]
references = [
  "Krippendorff 2011, Computing Krippendorff's alpha-reliability",
  "Gwet 2014, Handbook of Inter-Rater Reliability (standard errors by linearisation, as in irrCAC)",
  "Fleiss 1971", "Conger 1980", "Brennan and Prediger 1981",
  "Wong, Paritosh and Aroyo 2021, Cross-replication reliability",
]

[params.max_labels]
type = "int"
default = 100
meaning = "different labels in a panel above which none of these is computed: hardly two ratings are equal then (ours)"

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
WITH panels AS (  -- items are numbered panel by panel
  SELECT
    row_number() OVER (ORDER BY kind, objective) AS panel, min(item) AS first_item, max(item) AS last_item,
    CASE
      WHEN kind = 'rating' AND coalesce(objective, 'correct') = 'correct' THEN ''
      WHEN kind = 'rating' THEN concat(':', objective)
      WHEN coalesce(objective, 'correct') = 'correct' THEN concat(':', kind)
      ELSE concat(':', kind, ' ', objective)
    END AS suffix
  FROM items
  GROUP BY kind, objective
  UNION ALL
  SELECT 0, 0, 0, '' WHERE NOT EXISTS (SELECT 1 FROM items)  -- so that nothing rated reads insufficient
),
by_rater AS (
  SELECT panel, rater_id, value, count(*) AS n_rk
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  GROUP BY panel, rater_id, value
),
numbers AS (SELECT panel, count(DISTINCT value) AS q_all FROM by_rater GROUP BY panel),
few AS (
  SELECT panel, first_item, last_item
  FROM panels JOIN numbers USING (panel)
  WHERE q_all <= $max_labels
),
given AS (SELECT DISTINCT value FROM by_rater JOIN few USING (panel)),
sizes AS (SELECT (SELECT count(*) FROM given) AS n_labels, (SELECT max(m) FROM ratings) + 1 AS base),
places AS (  -- how often an item was given each label, as the digits of one number, while that is exact
  SELECT
    value,
    CASE WHEN n_labels * ln(base) < 36
      THEN CAST(pow(base, row_number() OVER (ORDER BY value) - 1) AS BIGINT) END AS place
  FROM given CROSS JOIN sizes
),
coded AS (
  SELECT item, count(*) AS m, CAST(sum(place) AS BIGINT) AS digits
  FROM ratings LEFT JOIN places USING (value)
  GROUP BY item
),
panelled AS (
  SELECT panel, item, m, coalesce(digits, -item) AS digits
  FROM coded JOIN few ON item BETWEEN first_item AND last_item
),
patterns AS (  -- items with the same labels, once: of a few labels there are few of them
  SELECT panel, m, digits, min(item) AS item, count(*) AS n_alike
  FROM panelled
  GROUP BY panel, m, digits
),
counts AS (  -- n_ik: how often label k was given to such an item
  SELECT panel, digits, patterns.m, n_alike, value, count(*) AS n_ik
  FROM patterns JOIN ratings USING (item)
  GROUP BY panel, digits, patterns.m, n_alike, value
),
pairs AS (  -- apart: share of the pairs of ratings that differ
  SELECT
    panel, digits, m, n_alike,
    CASE WHEN m >= 2 THEN 1 - CAST(sum(n_ik * (n_ik - 1)) AS DOUBLE) / (m * (m - 1)) END AS apart
  FROM counts
  GROUP BY panel, digits, m, n_alike
),
panel AS (  -- n_all: rated items; n: items with two ratings or more; n_ratings: the ratings in those
  SELECT
    panel,
    sum(n_alike) AS n_all,
    sum(CASE WHEN m >= 2 THEN n_alike ELSE 0 END) AS n,
    CAST(sum(CASE WHEN m >= 2 THEN m * n_alike ELSE 0 END) AS DOUBLE) AS n_ratings,
    sum(n_alike * apart ORDER BY n_alike * apart) / sum(CASE WHEN m >= 2 THEN n_alike ELSE 0 END) AS apart,
    sum(n_alike * m * apart ORDER BY n_alike * m * apart) / sum(CASE WHEN m >= 2 THEN m * n_alike ELSE 0 END)
      AS apart_by_rating
  FROM pairs
  GROUP BY panel
),
labels AS (  -- share: over the ratings that can be paired (alpha); share_all: mean over items (AC1, Fleiss)
  SELECT
    panel, value,
    sum(CASE WHEN counts.m >= 2 THEN n_ik * n_alike ELSE 0 END) / nullif(any_value(n_ratings), 0) AS share,
    sum(n_alike * n_ik / counts.m ORDER BY n_alike * n_ik / counts.m) / any_value(n_all) AS share_all
  FROM counts JOIN panel USING (panel)
  GROUP BY panel, value
),
expected AS (
  SELECT
    panel, count(*) AS q,
    1 - sum(share * share ORDER BY share * share) AS by_share,
    1 - sum(share_all * share_all ORDER BY share_all * share_all) AS by_share_all
  FROM labels
  GROUP BY panel
),
rater_totals AS (
  SELECT panel, rater_id, CAST(sum(n_rk) AS BIGINT) AS n_r FROM by_rater JOIN few USING (panel)
  GROUP BY panel, rater_id
),
crowd AS (SELECT panel, count(*) AS r FROM rater_totals GROUP BY panel),
rater_shares AS (
  SELECT panel, rater_id, value, n_r, n_rk / n_r AS share
  FROM by_rater JOIN rater_totals USING (panel, rater_id)
),
all_shares AS (
  SELECT panel, value, sum(share ORDER BY share) AS all_shares
  FROM rater_shares
  GROUP BY panel, value
),
met AS (  -- hit: chance that one of the other raters says the same, times their number
  SELECT panel, rater_id, value, n_r, share, all_shares - share AS hit
  FROM rater_shares JOIN all_shares USING (panel, value)
),
mean_met AS (
  SELECT panel, rater_id, sum(share * hit ORDER BY share * hit) AS mean_hit
  FROM met
  GROUP BY panel, rater_id
),
conger_chance AS (
  SELECT panel, 1 - sum(mean_hit ORDER BY mean_hit) / nullif(any_value(r) * (any_value(r) - 1), 0) AS chance
  FROM mean_met JOIN crowd USING (panel)
  GROUP BY panel
),
pull AS (  -- what a rater's giving a label adds to agreement by chance
  SELECT
    panel, first_item, last_item, rater_id, value,
    CAST(n_all / n_r * (hit - mean_hit) / nullif(r * (r - 1), 0) AS DECIMAL(38, 18)) AS pull
  FROM met JOIN mean_met USING (panel, rater_id) JOIN panel USING (panel) JOIN crowd USING (panel) JOIN few USING (panel)
),
pulled AS (
  SELECT item, CAST(sum(pull) AS DOUBLE) AS pull
  FROM ratings JOIN pull USING (rater_id, value)
  WHERE item BETWEEN first_item AND last_item
  GROUP BY item
),
coefficients AS (  -- chance: disagreement expected by chance
  SELECT panel, 'Fleiss' AS coefficient, by_share_all AS chance FROM expected
  UNION ALL
  SELECT panel, 'AC1', 1 - by_share_all / nullif(q - 1, 0) FROM expected
  UNION ALL
  SELECT panel, 'Brennan-Prediger', 1 - CAST(1 AS DOUBLE) / q FROM expected
  UNION ALL
  SELECT panel, 'Conger', chance FROM conger_chance
),
item_chance AS (  -- what such an item adds to it
  SELECT
    panel, digits, counts.m, n_alike,
    CAST(counts.m AS DOUBLE) - sum(n_ik * share ORDER BY n_ik * share) AS by_share,
    1 - sum(n_ik * share_all ORDER BY n_ik * share_all) / counts.m AS by_share_all
  FROM counts JOIN labels USING (panel, value)
  GROUP BY panel, digits, counts.m, n_alike
),
by_item AS (
  SELECT panel, 'Fleiss' AS coefficient, digits, m, n_alike, by_share_all AS chance_i FROM item_chance
  UNION ALL
  SELECT panel, 'AC1', digits, m, n_alike, 1 - item_chance.by_share_all / nullif(q - 1, 0)
  FROM item_chance JOIN expected USING (panel)
  UNION ALL
  SELECT panel, 'Brennan-Prediger', digits, m, n_alike, 1 - CAST(1 AS DOUBLE) / q
  FROM item_chance JOIN expected USING (panel)
  UNION ALL
  SELECT panelled.panel, 'Conger', digits, m, 1, chance - pull
  FROM panelled JOIN pulled USING (item) JOIN conger_chance USING (panel)
),
influence AS (  -- each coefficient's linear part in an item, less its mean
  SELECT
    panel, coefficient, by_item.n_alike, n_all,
    CASE WHEN by_item.m >= 2 THEN (n_all / n) * (1 - pairs.apart / chance) ELSE 0 END
      - 2 * (panel.apart / chance) * (1 - chance_i / chance) - (1 - panel.apart / chance) AS part
  FROM by_item JOIN pairs USING (panel, m, digits) JOIN panel USING (panel)
    JOIN coefficients USING (panel, coefficient)
  WHERE chance > 0 AND n > 0
  UNION ALL
  SELECT panel, 'percent', n_alike, n, panel.apart - pairs.apart
  FROM pairs JOIN panel USING (panel)
  WHERE m >= 2
  UNION ALL
  SELECT  -- excess: how much more often than the mean the item was rated
    panel, 'alpha', n_alike, n,
    (panel.apart_by_rating * ((1 - 1 / n_ratings) * (m * n / n_ratings - 1) + 1) - pairs.apart * m * n / n_ratings)
      / expected.by_share
      - 2 * panel.apart_by_rating / expected.by_share
        * (m * n / n_ratings - item_chance.by_share * n / n_ratings / expected.by_share)
  FROM pairs JOIN item_chance USING (panel, digits, m, n_alike) JOIN panel USING (panel)
    JOIN expected USING (panel)
  WHERE m >= 2 AND expected.by_share > 0
),
errors AS (
  SELECT
    panel, coefficient,
    sqrt(sum(n_alike * part * part ORDER BY n_alike * part * part) / nullif(any_value(n_all) * (any_value(n_all) - 1), 0))
      AS se
  FROM influence
  GROUP BY panel, coefficient
),
found AS (
  SELECT panel, coefficient, 1 - apart / nullif(chance, 0) AS value FROM coefficients JOIN panel USING (panel)
  UNION ALL
  SELECT panel, 'percent', 1 - apart FROM panel
  UNION ALL
  SELECT panel, 'alpha', 1 - (1 - 1 / nullif(n_ratings, 0)) * apart_by_rating / nullif(by_share, 0)
  FROM panel JOIN expected USING (panel)
),
compared AS (
  SELECT
    alpha.panel, alpha.value AS alpha, ac1.value - alpha.value AS gap
  FROM found AS alpha JOIN found AS ac1 ON ac1.panel = alpha.panel AND ac1.coefficient = 'AC1'
  WHERE alpha.coefficient = 'alpha'
),
listed AS (
  SELECT panel, suffix, coefficient
  FROM panels CROSS JOIN (
    SELECT 'alpha' AS coefficient UNION ALL SELECT 'AC1' UNION ALL SELECT 'Fleiss' UNION ALL SELECT 'Conger'
    UNION ALL SELECT 'Brennan-Prediger' UNION ALL SELECT 'percent') AS names
),
report AS (
  SELECT
    concat(coefficient, suffix) AS subject, coefficient, CAST(coalesce(n, 0) AS BIGINT) AS n, value, se, q_all,
    coalesce(coefficient = 'alpha' AND q <= 2 AND alpha < $threshold, FALSE) AS low,
    CASE
      WHEN coefficient = 'alpha' THEN concat_ws('; ',
        CASE
          WHEN q > 2 THEN 'labels have an order: see scaled_agreement'
          WHEN alpha < $threshold THEN 'unreliable' WHEN alpha < $tentative THEN 'tentative' ELSE 'ok'
        END,
        CASE WHEN gap > $paradox THEN 'prevalence paradox: see AC1' END)
      WHEN coefficient = 'Fleiss' AND r = 2 THEN 'of two raters: Scott''s pi'
      WHEN coefficient = 'Conger' AND r = 2 THEN 'of two raters: Cohen''s kappa'
      ELSE 'ok'
    END AS note
  FROM listed
    LEFT JOIN panel USING (panel) LEFT JOIN numbers USING (panel) LEFT JOIN expected USING (panel) LEFT JOIN crowd USING (panel)
    LEFT JOIN compared USING (panel)
    LEFT JOIN found USING (panel, coefficient) LEFT JOIN errors USING (panel, coefficient)
)
SELECT
  subject,
  n,
  value,
  value - 1.959963984540054 * se AS lower,
  CASE WHEN value + 1.959963984540054 * se > 1 THEN 1 ELSE value + 1.959963984540054 * se END AS upper,
  low AND n >= $n_min AS flagged,
  CASE
    WHEN q_all > $max_labels THEN 'too many different labels: see scaled_agreement'
    WHEN n < $n_min THEN 'insufficient'
    WHEN value IS NULL THEN 'all answers are the same'
    ELSE note
  END AS note
FROM report
ORDER BY subject
