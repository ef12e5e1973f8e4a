/*
id = "too_fast"
question = "Does a rater often answer faster than one can look, and agree less for it?"
severity = "warning"
reads = ["ratings"]
grain = "one rater"
n_min = 30
n_counts = "ratings of the rater on items that somebody else rated too"
value = "share of answers that are too fast: under `fraction` of the others' median time on the item, and under `ceiling_s`"
flag = "value reaches the threshold, the rater agrees with the others no more than the panel's median, and q <= .05"
caveats = [
  "Fast alone is no fault: in two real studies answers given in 2 to 5 s were more accurate than those after a minute. A fast rater who agrees with the others is noted, not flagged.",
  "Latencies that were imported, or measured while somebody paused, say nothing.",
  "The share is tested against the panel's median share, taken as at least `base_share`.",
]
references = [
  "Wise and Ma 2012 (normative threshold, NT10)",
  "Huang, Curran, Keeney, Poposki and DeShon 2012 (2 s an item)",
  "Bowling et al. 2023 (page time)",
  "Wilson 1927 (the interval)",
]

[params.threshold]
type = "float"
default = 0.1
meaning = "smallest share of answers too fast that matters (.05 to .20 in the literature; the choice is ours)"

[params.fraction]
type = "float"
default = 0.1
meaning = "an answer in less than this part of the others' median time on the item is too fast (NT10)"

[params.ceiling_s]
type = "float"
default = 2.0
meaning = "an answer that took this many seconds, or longer, is never too fast"

[params.base_share]
type = "float"
default = 0.01
meaning = "share of fast answers that anybody may have (ours)"

[test]
distribution = "binomial"
hypothesis = "the rater is too fast as often as the panel's median rater, or `base_share`"
*/
WITH measured AS (  -- nobody answers everything in no time: such times were not measured
  SELECT rater_id, max(CASE WHEN NOT isnan(latency_s) THEN latency_s END) > 0 AS has_times
  FROM ratings
  WHERE kind = 'rating'
  GROUP BY rater_id
),
counted AS (
  SELECT item, count(*) AS m, min(latency_s) AS fastest, max(latency_s) AS slowest
  FROM ratings JOIN measured USING (rater_id)
  WHERE kind = 'rating' AND has_times AND latency_s IS NOT NULL AND NOT isnan(latency_s)
  GROUP BY item
),
alone AS (SELECT item FROM counted WHERE m = 1),  -- fewer, as a rule, than all others
doubtful AS (  -- on all others nobody can be fast: the others' median is not above the slowest
  SELECT item, m
  FROM counted
  WHERE m >= 2 AND fastest < least($ceiling_s, $fraction * slowest)
),
ranked AS (  -- place: from 1, the fastest on the item; low, high: places, in the others' m - 1 sorted times, of the middle
  SELECT
    rater_id, item, latency_s, row_number() OVER (PARTITION BY item ORDER BY latency_s) AS place,
    CAST(floor(doubtful.m / 2) AS BIGINT) AS low, CAST(floor((doubtful.m + 1) / 2) AS BIGINT) AS high
  FROM ratings JOIN measured USING (rater_id) JOIN doubtful USING (item)
  WHERE kind = 'rating' AND has_times AND latency_s IS NOT NULL AND NOT isnan(latency_s)
),
central AS (
  SELECT
    item,
    max(latency_s) FILTER (WHERE place = low) AS at_low,
    max(latency_s) FILTER (WHERE place = low + 1) AS after_low,
    max(latency_s) FILTER (WHERE place = high) AS at_high,
    max(latency_s) FILTER (WHERE place = high + 1) AS after_high
  FROM ranked
  WHERE place BETWEEN low AND high + 1
  GROUP BY item
),
fast AS (  -- the own time skipped, the others' places move by one from there on
  SELECT rater_id, count(*) AS k
  FROM ranked JOIN central USING (item)
  WHERE latency_s < least($ceiling_s, $fraction * 0.5 * (
    CASE WHEN low >= place THEN after_low ELSE at_low END
    + CASE WHEN high >= place THEN after_high ELSE at_high END))
  GROUP BY rater_id
),
answered AS (
  SELECT rater_id, count(*) AS n, sum(CAST(abs(e) AS DECIMAL(38, 15))) / count(*) AS apart
  FROM ratings JOIN measured USING (rater_id) LEFT JOIN alone ON alone.item = ratings.item
  WHERE kind = 'rating' AND has_times AND latency_s IS NOT NULL AND NOT isnan(latency_s) AND alone.item IS NULL
  GROUP BY rater_id
),
shares AS (
  SELECT rater_id, n, coalesce(k, 0) AS k, apart
  FROM answered LEFT JOIN fast USING (rater_id)
),
panel AS (
  SELECT median(k / n) AS usual_share, median(apart) AS usually_apart
  FROM shares
  WHERE n >= $n_min
),
tested AS (  -- w: squared normal quantile by n, for Wilson's interval
  SELECT
    rater_id, coalesce(has_times, FALSE) AS has_times, coalesce(n, 0) AS n, k, k / n AS share,
    apart >= usually_apart AS agrees_no_more,
    CASE WHEN usual_share > $base_share THEN usual_share ELSE $base_share END AS p0,
    pow(1.959963984540054, 2) / n AS w
  FROM measured LEFT JOIN shares USING (rater_id) CROSS JOIN panel
),
report AS (
  SELECT
    *,
    (share + w / 2) / (1 + w) AS middle,
    sqrt(w * (share * (1 - share) + w / 4)) / (1 + w) AS half
  FROM tested
)
SELECT
  rater_id AS subject,
  n,
  share AS value,
  CASE WHEN share = 0 THEN 0 ELSE middle - half END AS lower,
  CASE WHEN share = 1 THEN 1 ELSE middle + half END AS upper,
  k,
  n AS trials,
  p0,
  coalesce(share >= $threshold AND share > p0 AND agrees_no_more AND n >= $n_min, FALSE) AS flagged,
  CASE
    WHEN n < $n_min AND NOT has_times THEN 'refused: no latency was measured'
    WHEN n < $n_min THEN 'insufficient'
    WHEN share < $threshold OR share <= p0 THEN 'ok'
    WHEN agrees_no_more THEN 'fast, and agrees no more than the panel'
    ELSE 'fast, yet agrees more than the panel'
  END AS note
FROM report
ORDER BY subject
