/*
id = "too_fast"
question = "Does a rater often answer faster than one can look, and agree less for it?"
severity = "warning"
reads = ["usable_for_audit"]
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
WITH ratings AS (
  SELECT rater_id, item, objective, value, latency_s
  FROM usable_for_audit
  WHERE kind = 'rating' AND value IS NOT NULL AND latency_s IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY rater_id, item, objective ORDER BY session_n DESC, "row" DESC) = 1
),
ranked AS (  -- place: from 1, the fastest on the item; peers_same: others who gave the same label
  SELECT
    *,
    row_number() OVER (PARTITION BY item, objective ORDER BY latency_s, rater_id) AS place,
    count(*) OVER (PARTITION BY item, objective, value) - 1 AS peers_same
  FROM ratings
),
items AS (
  SELECT item, objective, count(*) AS m, list(latency_s ORDER BY latency_s, rater_id) AS times
  FROM ratings
  GROUP BY item, objective
),
middles AS (  -- places, in the others' m - 1 sorted times, of the one or two in the middle
  SELECT rater_id, latency_s, place, times, m, peers_same, m // 2 AS low, (m + 1) // 2 AS high
  FROM ranked JOIN items USING (item, objective)
  WHERE m >= 2
),
answers AS (  -- the own time skipped, the others' places move by one from there on
  SELECT
    rater_id,
    peers_same / (m - 1) AS agreement,
    latency_s < least($ceiling_s, $fraction * 0.5 * (
      times[low + CASE WHEN low >= place THEN 1 ELSE 0 END]
      + times[high + CASE WHEN high >= place THEN 1 ELSE 0 END])) AS fast
  FROM middles
),
shares AS (
  SELECT
    rater_id, count(*) AS n, count(*) FILTER (WHERE fast) AS k,
    sum(agreement ORDER BY agreement) / count(*) AS agreement
  FROM answers
  GROUP BY rater_id
),
panel AS (
  SELECT median(k / n) AS usual_share, median(agreement) AS usual_agreement
  FROM shares
  WHERE n >= $n_min
),
tested AS (  -- w: squared normal quantile by n, for Wilson's interval
  SELECT
    rater_id, coalesce(n, 0) AS n, k, k / n AS share,
    agreement <= usual_agreement AS agrees_no_more,
    CASE WHEN usual_share > $base_share THEN usual_share ELSE $base_share END AS p0,
    pow(1.959963984540054, 2) / n AS w
  FROM (SELECT DISTINCT rater_id FROM ratings) LEFT JOIN shares USING (rater_id) CROSS JOIN panel
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
    WHEN n < $n_min THEN 'insufficient'
    WHEN share < $threshold OR share <= p0 THEN 'ok'
    WHEN agrees_no_more THEN 'fast, and agrees no more than the panel'
    ELSE 'fast, yet agrees more than the panel'
  END AS note
FROM report
ORDER BY subject
