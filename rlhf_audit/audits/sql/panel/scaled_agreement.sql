/*
id = "scaled_agreement"
question = "Do the raters agree when a near miss counts less than a far one?"
severity = "warning"
reads = ["items", "ratings"]
grain = "one coefficient over one panel (see agreement) of three labels or more: Krippendorff's alpha for ordinal, interval and ratio scales; and, each with linear, quadratic or ordinal weights, AC2, Fleiss (of two raters Scott's pi), Conger (of two raters Cohen's kappa), Brennan-Prediger, percent and alpha (whose quadratic weights are the interval alpha)"
n_min = 30
n_counts = "items with two ratings or more"
value = "the coefficient, 1 for perfect agreement, 0 for chance (percent: chance included)"
flag = "`alpha ordinal` below the threshold where there are three to `max_ordinal` different labels, `alpha interval` where there are more; the others are printed beside them and never flagged"
caveats = [
  "The scale is read off the number of labels, which is a guess: a scalar of few values is taken for ordinal, a rating from 0 to 100 for interval. The other alphas are there to compare.",
  "Of two labels every scale and every weighting gives what agreement gives: nothing is said of such a panel here.",
  "Weights by linear and quadratic distance use the labels' values, ordinal weights their ranks. They take the lowest and the highest label given for the ends of the scale.",
  "The standard error takes the weights as given; those of `alpha ordinal` depend on the labels' shares.",
  "Only the ordinal and the interval alpha are computed for more than `max_labels` different labels; `alpha ratio` needs labels of 0 or more.",
  "The interval is over items, with these raters given; bootstrap_agreement has one about other raters too.",
]
references = [
  "Krippendorff 2011, Computing Krippendorff's alpha-reliability",
  "Gwet 2014, Handbook of Inter-Rater Reliability (AC2, weights, standard errors by linearisation, as in irrCAC)",
  "Cohen 1968, weighted kappa",
]

[params.max_ordinal]
type = "int"
default = 10
meaning = "most different labels of a scale that is taken for ordinal (ours)"

[params.max_labels]
type = "int"
default = 20
meaning = "most different labels for which each is compared with each (ours)"

[params.threshold]
type = "float"
default = 0.667
meaning = "alpha below it is called unreliable (Krippendorff)"

[params.tentative]
type = "float"
default = 0.8
meaning = "alpha below it is called tentative (Krippendorff)"
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
spans AS (
  SELECT panel, count(*) AS q, min(value) AS lowest, max(value) AS highest
  FROM (SELECT panel, value FROM ratings JOIN panels ON item BETWEEN first_item AND last_item GROUP BY panel, value)
    AS each_value
  GROUP BY panel
),
scaled AS (SELECT * FROM panels JOIN spans USING (panel) WHERE q > 2),
few AS (SELECT * FROM scaled WHERE q <= $max_labels),
by_rater AS (
  SELECT panel, rater_id, value, count(*) AS n_rk
  FROM ratings JOIN few ON item BETWEEN first_item AND last_item
  GROUP BY panel, rater_id, value
),
numbers AS (
  SELECT panel, q, r, lowest, highest
  FROM spans LEFT JOIN (SELECT panel, count(DISTINCT rater_id) AS r FROM by_rater GROUP BY panel) AS raters USING (panel)
),
given AS (SELECT DISTINCT value FROM by_rater),
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
  FROM coded JOIN scaled ON item BETWEEN first_item AND last_item
),
patterns AS (  -- items with the same labels, once: of a few labels there are few of them
  SELECT panel, m, digits, min(item) AS item, count(*) AS n_alike
  FROM panelled
  GROUP BY panel, m, digits
),
counts AS (  -- n_ik: how often label k was given to such an item
  SELECT panel, digits, patterns.m, n_alike, value, count(*) AS n_ik
  FROM patterns JOIN few USING (panel) JOIN ratings USING (item)
  GROUP BY panel, digits, patterns.m, n_alike, value
),
panel AS (  -- n_all: rated items; n: items with two ratings or more; n_ratings: the ratings in those
  SELECT
    panel,
    sum(n_alike) AS n_all,
    sum(CASE WHEN m >= 2 THEN n_alike ELSE 0 END) AS n,
    CAST(sum(CASE WHEN m >= 2 THEN m * n_alike ELSE 0 END) AS DOUBLE) AS n_ratings
  FROM patterns
  GROUP BY panel
),
label_counts AS (
  SELECT panel, value, CAST(sum(CASE WHEN m >= 2 THEN n_ik * n_alike ELSE 0 END) AS BIGINT) AS n_k
  FROM counts
  GROUP BY panel, value
),
labels AS (  -- x: where on the scale; below: share of ratings below, half of the equal ones
  SELECT
    panel, value, q, n_k / n_ratings AS share,
    (value - lowest) / (highest - lowest) AS x,
    (CAST(sum(n_k) OVER (PARTITION BY panel ORDER BY value) AS BIGINT) - CAST(n_k AS DOUBLE) / 2) / n_ratings AS below,
    row_number() OVER (PARTITION BY panel ORDER BY value) AS rank
  FROM label_counts JOIN panel USING (panel) JOIN scaled USING (panel)
  WHERE n > 0
),
scales AS (  -- distances that are squares of differences need no more than two sums
  SELECT panel, value, 'alpha interval' AS coefficient, share, x FROM labels
  UNION ALL
  SELECT panel, value, 'alpha ordinal', share, below FROM labels
),
centres AS (
  SELECT
    panel, coefficient, sum(share * x ORDER BY share * x) AS mean_x, sum(share * x * x ORDER BY share * x * x) AS mean_xx
  FROM scales
  GROUP BY panel, coefficient
),
ranked AS (  -- of many labels, rating by rating: to count them by label would take far more memory
  SELECT
    panel, item, m, (value - lowest) / (highest - lowest) AS x,
    (rank() OVER (PARTITION BY panel ORDER BY value) - 1) AS n_below,
    cume_dist() OVER (PARTITION BY panel ORDER BY value) AS up_to
  FROM ratings JOIN scaled ON item BETWEEN first_item AND last_item
  WHERE q > $max_labels AND m >= 2
),
many AS (
  SELECT
    panel, item, m,
    CAST(sum(CAST(x AS DECIMAL(38, 18))) AS DOUBLE) AS sum_x,
    CAST(sum(CAST(x * x AS DECIMAL(38, 18))) AS DOUBLE) AS sum_xx,
    CAST(sum(CAST(below AS DECIMAL(38, 18))) AS DOUBLE) AS sum_b,
    CAST(sum(CAST(below * below AS DECIMAL(38, 18))) AS DOUBLE) AS sum_bb
  FROM (SELECT panel, item, m, x, (n_below / n_ratings + up_to) / 2 AS below FROM ranked JOIN panel USING (panel))
    AS placed
  GROUP BY panel, item, m
),
sums AS (
  SELECT
    panel, coefficient, digits, m, n_alike,
    CAST(sum(CAST(n_ik * x AS DECIMAL(38, 18))) AS DOUBLE) AS sum_x,
    CAST(sum(CAST(n_ik * x * x AS DECIMAL(38, 18))) AS DOUBLE) AS sum_xx
  FROM counts JOIN scales USING (panel, value)
  WHERE m >= 2
  GROUP BY panel, coefficient, digits, m, n_alike
  UNION ALL
  SELECT panel, 'alpha interval', -item, m, 1, sum_x, sum_xx FROM many
  UNION ALL
  SELECT panel, 'alpha ordinal', -item, m, 1, sum_b, sum_bb FROM many
),
all_centres AS (
  SELECT panel, coefficient, mean_x, mean_xx FROM centres
  UNION ALL
  SELECT panel, 'alpha interval', sum(sum_x ORDER BY sum_x) / any_value(n_ratings), sum(sum_xx ORDER BY sum_xx) / any_value(n_ratings)
  FROM many JOIN panel USING (panel)
  GROUP BY panel
  UNION ALL
  SELECT panel, 'alpha ordinal', sum(sum_b ORDER BY sum_b) / any_value(n_ratings), sum(sum_bb ORDER BY sum_bb) / any_value(n_ratings)
  FROM many JOIN panel USING (panel)
  GROUP BY panel
),
squares AS (  -- apart: mean distance of a pair of the item's ratings; by_share: of all of them to what is said on the whole
  SELECT
    panel, coefficient, digits, m, n_alike,
    2 * (m * sum_xx - sum_x * sum_x) / (m * (m - 1)) AS apart,
    sum_xx - 2 * mean_x * sum_x + m * mean_xx AS by_share
  FROM sums JOIN all_centres USING (panel, coefficient)
),
distances AS (
  SELECT one.panel, one.value, other.value AS other, weighting.metric,
    CASE metric
      WHEN 'linear' THEN abs(one.x - other.x)
      WHEN 'quadratic' THEN (one.x - other.x) * (one.x - other.x)
      WHEN 'ordinal' THEN CAST(abs(one.rank - other.rank) * (abs(one.rank - other.rank) + 1) AS DOUBLE) / (one.q * (one.q - 1))
      ELSE pow((one.value - other.value) / (one.value + other.value), 2)
    END AS d
  FROM labels AS one JOIN labels AS other ON one.panel = other.panel AND one.value <> other.value
    CROSS JOIN (SELECT 'linear' AS metric UNION ALL SELECT 'quadratic' UNION ALL SELECT 'ordinal'
      UNION ALL SELECT 'ratio') AS weighting
    JOIN scaled ON scaled.panel = one.panel
  WHERE one.q <= $max_labels AND (lowest >= 0 OR metric <> 'ratio')
),
shares AS (  -- share_all: mean over items; mean_share: mean over raters, times their number
  SELECT panel, value, rank, share, share_all, raters_share
  FROM labels
    JOIN (SELECT panel, value, sum(n_alike * n_ik / counts.m ORDER BY n_alike * n_ik / counts.m) / any_value(n_all) AS share_all
      FROM counts JOIN panel USING (panel) JOIN scaled USING (panel)
      WHERE q <= $max_labels
      GROUP BY panel, value) AS by_item USING (panel, value)
    JOIN (SELECT panel, value, sum(n_rk / n_r ORDER BY n_rk / n_r) AS raters_share
      FROM by_rater
        JOIN (SELECT panel, rater_id, CAST(sum(n_rk) AS BIGINT) AS n_r FROM by_rater GROUP BY panel, rater_id) AS totals
        USING (panel, rater_id)
      GROUP BY panel, value) AS raters USING (panel, value)
),
reach AS (  -- mean distance of each label from what is said on the whole
  SELECT
    panel, metric, distances.value,
    sum(d ORDER BY d) AS to_each,
    sum(d * share ORDER BY d * share) AS to_share,
    sum(d * share_all ORDER BY d * share_all) AS to_share_all,
    sum(d * raters_share ORDER BY d * raters_share) AS to_raters
  FROM distances JOIN shares USING (panel)
  WHERE shares.value = distances.other
  GROUP BY panel, metric, distances.value
),
expected AS (  -- t: AC2's share of agreement in a label that is not sure
  SELECT
    panel, metric, count(*) AS q,
    sum(share * to_share ORDER BY share * to_share) AS by_share,
    sum(share_all * to_share_all ORDER BY share_all * to_share_all) AS by_share_all,
    sum(share_all * (1 - share_all) ORDER BY share_all * (1 - share_all)) AS unsure,
    sum(to_each ORDER BY to_each) / (count(*) * count(*)) AS by_label,
    (count(*) * count(*) - sum(to_each ORDER BY to_each)) / (count(*) * (count(*) - 1)) AS t
  FROM reach JOIN shares USING (panel, value)
  GROUP BY panel, metric
),
own_reach AS (  -- of a rater's label from that rater's others
  SELECT by_rater.panel, metric, rater_id, distances.value, sum(d * n_rk ORDER BY d * n_rk) AS to_own
  FROM by_rater JOIN distances USING (panel)
  WHERE by_rater.value = distances.other AND metric <> 'ratio'
  GROUP BY by_rater.panel, metric, rater_id, distances.value
),
met AS (  -- miss: distance from the other raters' labels, times their number
  SELECT
    panel, metric, rater_id, value, n_rk, n_r, to_raters - coalesce(to_own, 0) / n_r AS miss
  FROM by_rater
    JOIN (SELECT panel, rater_id, CAST(sum(n_rk) AS BIGINT) AS n_r FROM by_rater GROUP BY panel, rater_id) AS totals
      USING (panel, rater_id)
    JOIN reach USING (panel, value)
    LEFT JOIN own_reach USING (panel, metric, rater_id, value)
  WHERE metric <> 'ratio'
),
mean_met AS (
  SELECT panel, metric, rater_id, sum(n_rk * miss ORDER BY n_rk * miss) / any_value(n_r) AS mean_miss
  FROM met
  GROUP BY panel, metric, rater_id
),
conger_chance AS (
  SELECT panel, metric, sum(mean_miss ORDER BY mean_miss) / nullif(any_value(r) * (any_value(r) - 1), 0) AS chance
  FROM mean_met JOIN numbers USING (panel)
  GROUP BY panel, metric
),
pull AS (  -- what a rater's giving a label adds to disagreement by chance, for each metric
  SELECT
    panel, first_item, last_item, rater_id, value,
    max(CASE metric WHEN 'linear' THEN pull END) AS linear,
    max(CASE metric WHEN 'quadratic' THEN pull END) AS quadratic,
    max(CASE metric WHEN 'ordinal' THEN pull END) AS ordinal
  FROM (
    SELECT panel, metric, rater_id, value,
      CAST(n_all / n_r * (miss - mean_miss) / nullif(r * (r - 1), 0) AS DECIMAL(38, 18)) AS pull
    FROM met JOIN mean_met USING (panel, metric, rater_id) JOIN panel USING (panel) JOIN numbers USING (panel)
  ) AS each_metric JOIN scaled USING (panel)
  GROUP BY panel, first_item, last_item, rater_id, value
),
pulled AS (
  SELECT item, CAST(sum(linear) AS DOUBLE) AS linear, CAST(sum(quadratic) AS DOUBLE) AS quadratic,
    CAST(sum(ordinal) AS DOUBLE) AS ordinal
  FROM ratings JOIN pull USING (rater_id, value)
  WHERE item BETWEEN first_item AND last_item
  GROUP BY item
),
gaps AS (  -- mean distance of a pair of the item's ratings
  SELECT
    one.panel, distances.metric, one.digits, one.m, one.n_alike,
    sum(one.n_ik * other.n_ik * d ORDER BY one.n_ik * other.n_ik * d) / (one.m * (one.m - 1)) AS apart
  FROM counts AS one JOIN counts AS other ON one.panel = other.panel AND one.digits = other.digits AND one.m = other.m
    JOIN distances ON distances.panel = one.panel AND distances.value = one.value AND distances.other = other.value
  WHERE one.m >= 2
  GROUP BY one.panel, distances.metric, one.digits, one.m, one.n_alike
),
item_chance AS (
  SELECT
    panel, metric, digits, m, n_alike,
    sum(n_ik * to_share ORDER BY n_ik * to_share) AS by_share,
    sum(n_ik * to_share_all ORDER BY n_ik * to_share_all) / m AS by_share_all,
    sum(n_ik * (1 - share_all) ORDER BY n_ik * (1 - share_all)) / m AS unsure
  FROM counts JOIN reach USING (panel, value) JOIN shares USING (panel, value)
  GROUP BY panel, metric, digits, m, n_alike
),
item_gaps AS (  -- an item on which all agree has none
  SELECT item_chance.*, CASE WHEN m >= 2 THEN coalesce(apart, 0) END AS apart
  FROM item_chance LEFT JOIN gaps USING (panel, metric, digits, m, n_alike)
),
apartness AS (
  SELECT panel, metric, sum(n_alike * apart ORDER BY n_alike * apart) / nullif(any_value(n), 0) AS apart
  FROM item_gaps JOIN panel USING (panel)
  GROUP BY panel, metric
),
coefficients AS (  -- chance: distance expected by chance
  SELECT panel, metric, 'Fleiss' AS coefficient, by_share_all AS chance FROM expected
  UNION ALL
  SELECT panel, metric, 'AC2', 1 - t * unsure FROM expected
  UNION ALL
  SELECT panel, metric, 'Brennan-Prediger', by_label FROM expected
  UNION ALL
  SELECT panel, metric, 'Conger', chance FROM conger_chance
),
by_item AS (
  SELECT panel, metric, 'Fleiss' AS coefficient, digits, m, n_alike, by_share_all AS chance_i FROM item_chance
  UNION ALL
  SELECT panel, metric, 'AC2', digits, m, n_alike, 1 - t * item_chance.unsure
  FROM item_chance JOIN expected USING (panel, metric)
  UNION ALL
  SELECT panel, metric, 'Brennan-Prediger', digits, m, n_alike, by_label
  FROM item_chance JOIN expected USING (panel, metric)
  UNION ALL
  SELECT
    panelled.panel, metric, 'Conger', digits, m, 1,
    chance + CASE metric WHEN 'linear' THEN linear WHEN 'quadratic' THEN quadratic ELSE ordinal END
  FROM panelled JOIN pulled USING (item) JOIN conger_chance USING (panel)
),
alphas AS (  -- by their distances within each item
  SELECT panel, coefficient, digits, m, n_alike, apart, by_share FROM squares
  UNION ALL
  SELECT panel, CASE metric WHEN 'ratio' THEN 'alpha ratio' ELSE concat('alpha ', metric, ' weights') END,
    digits, m, n_alike, apart, by_share
  FROM item_gaps
  WHERE m >= 2 AND metric <> 'quadratic'
),
alpha_parts AS (
  SELECT
    panel, coefficient, any_value(n) AS n, any_value(n_ratings) AS n_ratings,
    sum(n_alike * m * apart ORDER BY n_alike * m * apart) / any_value(n_ratings) AS apart,
    sum(n_alike * by_share ORDER BY n_alike * by_share) / any_value(n_ratings) AS chance
  FROM alphas JOIN panel USING (panel)
  GROUP BY panel, coefficient
),
influence AS (  -- each coefficient's linear part in an item, less its mean
  SELECT
    panel, concat(coefficient, ' ', metric) AS coefficient, by_item.n_alike, n_all,
    CASE WHEN by_item.m >= 2 THEN (n_all / n) * (1 - item_gaps.apart / chance) ELSE 0 END
      - 2 * (apartness.apart / chance) * (1 - chance_i / chance) - (1 - apartness.apart / chance) AS part
  FROM by_item JOIN item_gaps USING (panel, metric, m, digits) JOIN panel USING (panel)
    JOIN apartness USING (panel, metric) JOIN coefficients USING (panel, metric, coefficient)
  WHERE chance > 0 AND metric <> 'ratio'
  UNION ALL
  SELECT panel, concat('percent ', metric), n_alike, n, apartness.apart - item_gaps.apart
  FROM item_gaps JOIN panel USING (panel) JOIN apartness USING (panel, metric)
  WHERE m >= 2 AND metric <> 'ratio'
  UNION ALL
  SELECT
    panel, coefficient, n_alike, n,
    (alpha_parts.apart * ((1 - 1 / n_ratings) * (m * n / n_ratings - 1) + 1) - alphas.apart * m * n / n_ratings) / chance
      - 2 * alpha_parts.apart / chance * (m * n / n_ratings - by_share * n / n_ratings / chance)
  FROM alphas JOIN alpha_parts USING (panel, coefficient)
  WHERE chance > 0
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
  SELECT panel, concat(coefficient, ' ', metric) AS coefficient, 1 - apart / nullif(chance, 0) AS value
  FROM coefficients JOIN apartness USING (panel, metric)
  WHERE metric <> 'ratio'
  UNION ALL
  SELECT panel, concat('percent ', metric), 1 - apart FROM apartness WHERE metric <> 'ratio'
  UNION ALL
  SELECT panel, coefficient, 1 - (1 - 1 / n_ratings) * apart / nullif(chance, 0) FROM alpha_parts
),
listed AS (
  SELECT panel, suffix, coalesce(q, 0) AS q, r, lowest, name, concat(name, ' ', metric) AS coefficient
  FROM panels LEFT JOIN numbers USING (panel)
    CROSS JOIN (SELECT 'AC2' AS name UNION ALL SELECT 'Fleiss' UNION ALL SELECT 'Conger'
      UNION ALL SELECT 'Brennan-Prediger' UNION ALL SELECT 'percent') AS names
    CROSS JOIN (SELECT 'linear' AS metric UNION ALL SELECT 'quadratic' UNION ALL SELECT 'ordinal') AS metrics
  UNION ALL
  SELECT panel, suffix, coalesce(q, 0), r, lowest, 'alpha', concat('alpha ', scale)
  FROM panels LEFT JOIN numbers USING (panel)
    CROSS JOIN (SELECT 'ordinal' AS scale UNION ALL SELECT 'interval' UNION ALL SELECT 'ratio'
      UNION ALL SELECT 'linear weights' UNION ALL SELECT 'ordinal weights') AS scales
),
report AS (
  SELECT
    concat(coefficient, suffix) AS subject, name, coefficient, CAST(coalesce(n, 0) AS BIGINT) AS n, value, se, q, r, lowest,
    (coefficient = 'alpha ordinal' AND q <= $max_ordinal) OR (coefficient = 'alpha interval' AND q > $max_ordinal)
      AS judged
  FROM listed LEFT JOIN panel USING (panel)
    LEFT JOIN found USING (panel, coefficient) LEFT JOIN errors USING (panel, coefficient)
  WHERE q <> 1 AND (q <> 2 OR coefficient = 'alpha ordinal')
)
SELECT
  subject,
  n,
  value,
  value - 1.959963984540054 * se AS lower,
  CASE WHEN value + 1.959963984540054 * se > 1 THEN 1 ELSE value + 1.959963984540054 * se END AS upper,
  coalesce(judged AND value < $threshold AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN q = 2 THEN 'two labels: see agreement'
    WHEN n < $n_min THEN 'insufficient'
    WHEN value IS NULL AND q > $max_labels THEN 'too many different labels'
    WHEN value IS NULL AND coefficient = 'alpha ratio' AND lowest < 0 THEN 'labels below 0: no ratio scale'
    WHEN judged AND value < $threshold THEN 'unreliable'
    WHEN judged AND value < $tentative THEN 'tentative'
    WHEN name = 'Fleiss' AND r = 2 THEN 'of two raters: Scott''s pi'
    WHEN name = 'Conger' AND r = 2 THEN 'of two raters: Cohen''s kappa'
    ELSE 'ok'
  END AS note
FROM report
ORDER BY subject
