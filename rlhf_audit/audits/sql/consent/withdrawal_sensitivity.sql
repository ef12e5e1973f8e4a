/*
id = "withdrawal_sensitivity"
question = "How far would the agreement of the panel move if a rater's answers had to go?"
severity = "info"
reads = ["compositions", "ratings", "withdrawals"]
grain = "one rater; and `withdrawn`: all raters together who have withdrawn anything and are still here under a grant for audits"
n_min = 30
n_counts = "ratings that would go"
value = "Krippendorff's nominal alpha without them, less alpha with them"
flag = "they have withdrawn, and |value| exceeds half the width of alpha's own 95 per cent interval: what is said of the panel hangs on who is about to go"
caveats = [
  "What without consent may not be read is not read here either: rows whose grant for audits is gone are in neither number. So `without` means without what is still lawfully here and may go next.",
  "lower and upper are 0 less and plus half the width of alpha's interval (over items, chance agreement taken as known): a value between them is no news.",
  "Severity: the note of `withdrawn` tells how far another rater's mean residual would move at most, and how many others would cross severity's default threshold.",
  "Raters who have not withdrawn are there for planning: their rows say what would happen, and are never flagged.",
  "With nearly all of a small panel gone nothing is left to compare.",
]
references = ["Krippendorff 2011"]

[params.threshold]
type = "float"
default = 0.25
meaning = "mean residual from which the note counts a rater as severe or lenient, as severity's"
*/
WITH alike AS (  -- ratings of one rater whose loss changes as much
  SELECT
    rater_id, value, CAST(m AS BIGINT) AS m, q, n_same, CAST(sum(n) AS BIGINT) AS n_alike
  FROM compositions
  WHERE kind = 'rating' AND m >= 2
  GROUP BY rater_id, value, m, q, n_same
),
gone AS (SELECT DISTINCT rater_id FROM withdrawals WHERE erased_at IS NULL),
disagreements AS (  -- items of the same m and q; d: what pairs on each of them disagree by
  SELECT m, (m * m - q) / (m - 1) AS d, CAST(sum(n_alike) / m AS BIGINT) AS n_items
  FROM alike
  GROUP BY m, q
),
labels AS (
  SELECT value, CAST(sum(n_alike) AS BIGINT) AS n_k
  FROM alike
  GROUP BY value
),
whole AS (
  SELECT
    CAST(sum(n_items) AS BIGINT) AS n_items, CAST(sum(n_items * m) AS BIGINT) AS n, sum(n_items * d ORDER BY n_items * d) AS d,
    (SELECT CAST(sum(n_k * n_k) AS BIGINT) FROM labels) AS label_squares
  FROM disagreements
),
panel AS (
  SELECT
    n_items, n, d, label_squares, d / n AS observed,
    (n * n - label_squares) / (CAST(n AS DOUBLE) * (n - 1)) AS chance
  FROM whole
),
spread AS (
  SELECT
    sqrt(sum(x.n_items * pow(x.d - observed * x.m, 2) ORDER BY x.n_items * pow(x.d - observed * x.m, 2)))
      / max(p.n) / nullif(max(chance), 0) AS se
  FROM disagreements AS x CROSS JOIN panel AS p
),
changes AS (  -- what they take from d, and, where one other is left alone, that one's too
  SELECT
    rater_id, n_alike, CAST(CASE WHEN m = 2 THEN 2 * n_alike ELSE n_alike END AS BIGINT) AS n_lost,
    n_alike * ((m * m - q) / (m - 1)
      - CASE WHEN m = 2 THEN 0 ELSE ((m - 1) * (m - 1) - q + 2 * n_same - 1) / (m - 2) END) AS d_lost
  FROM alike
),
without_one AS (
  SELECT
    rater_id, CAST(sum(n_alike) AS BIGINT) AS n_rows, CAST(sum(n_lost) AS BIGINT) AS n_lost,
    sum(d_lost ORDER BY d_lost) AS d_lost
  FROM changes
  GROUP BY rater_id
),
lost AS (
  SELECT rater_id, value, CAST(sum(n) AS BIGINT) AS n_lost
  FROM (
    SELECT rater_id, value, n_alike AS n FROM alike
    UNION ALL
    SELECT rater_id, total - value AS value, count(*) AS n
    FROM ratings
    WHERE kind = 'rating' AND m = 2
    GROUP BY rater_id, total - value
  ) AS those
  GROUP BY rater_id, value
),
labels_without AS (  -- of sum n_k^2: (n_k - l_k)^2 = n_k^2 - 2 n_k l_k + l_k^2
  SELECT rater_id, CAST(sum(n_lost * n_lost) - 2 * sum(n_lost * n_k) AS BIGINT) AS change
  FROM lost JOIN labels ON labels.value = lost.value
  GROUP BY rater_id
),
single AS (
  SELECT
    w.rater_id AS subject, n_rows, p.n - n_lost AS n_left,
    p.d - d_lost AS d_left, p.label_squares + change AS squares_left
  FROM without_one AS w JOIN labels_without USING (rater_id) CROSS JOIN panel AS p
),
here AS (  -- nothing, where nobody has withdrawn
  SELECT item, value, e, given.rater_id
  FROM ratings AS given JOIN (SELECT count(*) AS n_gone FROM gone) AS known ON n_gone > 0
    LEFT JOIN gone ON gone.rater_id = given.rater_id
  WHERE gone.rater_id IS NULL AND kind = 'rating' AND m >= 2
),
staying AS (
  SELECT item, value, count(*) AS n_ik
  FROM here
  GROUP BY item, value
),
items_left AS (
  SELECT item, CAST(sum(n_ik) AS BIGINT) AS m, CAST(sum(n_ik * n_ik) AS BIGINT) AS q
  FROM staying
  GROUP BY item
  HAVING sum(n_ik) >= 2
),
labels_left AS (
  SELECT s.value, CAST(sum(n_ik) AS BIGINT) AS n_k
  FROM staying AS s JOIN items_left AS i ON i.item = s.item
  GROUP BY s.value
),
together AS (
  SELECT
    'withdrawn' AS subject,
    (SELECT CAST(coalesce(sum(n_alike), 0) AS BIGINT) FROM alike JOIN gone USING (rater_id)) AS n_rows,
    coalesce(CAST(sum(m) AS BIGINT), 0) AS n_left,
    sum((m * m - q) / (m - 1) ORDER BY (m * m - q) / (m - 1)) AS d_left,
    (SELECT CAST(sum(n_k * n_k) AS BIGINT) FROM labels_left) AS squares_left
  FROM items_left
),
remaining AS (
  SELECT item, count(*) AS m, sum(value ORDER BY value) AS total
  FROM here
  GROUP BY item
),
severities AS (
  SELECT
    g.rater_id, sum(g.e ORDER BY g.e) / count(*) AS before,
    sum((g.value - (r.total - g.value) / (r.m - 1)) ORDER BY (g.value - (r.total - g.value) / (r.m - 1))) FILTER (WHERE r.m >= 2)
      / nullif(count(*) FILTER (WHERE r.m >= 2), 0) AS after
  FROM here AS g JOIN remaining AS r ON r.item = g.item
  GROUP BY g.rater_id
),
moved AS (
  SELECT
    max(abs(after - before)) AS most,
    count(*) FILTER (WHERE (abs(after) >= $threshold) <> (abs(before) >= $threshold)) AS n_crossed
  FROM severities
),
report AS (
  SELECT subject, n_rows, n_left, d_left, squares_left FROM single
  UNION ALL
  SELECT subject, n_rows, n_left, d_left, squares_left FROM together WHERE n_rows > 0
),
judged AS (
  SELECT
    subject, n_rows AS n,
    CASE WHEN n_left > 1 AND n_left * n_left > squares_left AND chance > 0
      THEN observed / chance - (d_left / n_left) / ((n_left * n_left - squares_left) / (CAST(n_left AS DOUBLE) * (n_left - 1))) END AS moved_by,
    1.959963984540054 * se AS half, n_items
  FROM report CROSS JOIN panel CROSS JOIN spread
)
SELECT
  subject,
  n,
  moved_by AS value,
  -half AS lower,
  half AS upper,
  coalesce(abs(moved_by) > half AND n_items >= $n_min AND n >= $n_min, FALSE)
    AND (subject = 'withdrawn' OR subject IN (SELECT rater_id FROM gone)) AS flagged,
  concat(
    CASE
      WHEN n < $n_min OR n_items < $n_min THEN 'insufficient'
      WHEN moved_by IS NULL THEN 'nothing would be left to compare'
      WHEN abs(moved_by) > half THEN CASE WHEN moved_by > 0 THEN 'agreement would rise' ELSE 'agreement would fall' END
      ELSE 'ok'
    END,
    CASE WHEN subject = 'withdrawn' AND n >= $n_min AND n_items >= $n_min
      THEN concat('; severity would move by at most ', coalesce(round(most, 3), 0), ', and ', n_crossed, ' others cross its threshold')
      ELSE '' END) AS note
FROM judged CROSS JOIN moved
ORDER BY subject
