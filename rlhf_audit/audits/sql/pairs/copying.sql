/*
id = "copying"
question = "Do two raters agree more than two who answer by themselves would, given how good they are and how hard the items?"
severity = "warning"
reads = ["ratings"]
grain = "one pair of raters with at least n_min shared items, `rater/rater`; one row `all` where there is none"
n_min = 20
n_counts = "items that both rated"
value = "share of the items on which both gave the same label, less what is expected of honest raters"
flag = "value reaches the threshold, or they are identical on at least n_min items on which honest raters agree with at most 90 per cent (ours); and q <= .025"
estimator = "copying"
caveats = [
  "No finding is no proof of honesty: a copy of a rater who never errs can't be told from another who never errs, nor a copy in few of the answers. What gives a copier away is errors in common.",
  "Expected: by Dawid and Skene's model of the panel. A pair that exceeds that, or what both usually agree with others, by .05 and two standard errors (ours) is judged again by the truth as the others alone tell it, and by both raters' confusions against that: so the two can't vouch for each other.",
  "Naive expectations flag honest pairs: raters agree on easy items, and make the same mistakes on misleading ones, which the others make as well.",
  "Two raters who share a view that the others lack look like this too. The note tells on how many of the items where one of them seems wrong they are wrong together: look at those.",
  "Of a pair that surely repeats one another (p times the number of pairs at most .05) one is then left out, and all other pairs are judged anew: two copies may otherwise pass for the truth, against which honest raters look alike.",
  "More than 10 different labels are put into five classes of equal size first (ours).",
  "Who copied from whom can't be told.",
  "p is one-sided: two who agree less than expected did not copy, and are no evidence about others. The interval is two-sided at 95 per cent, so q must be .025: the interval of a finding leaves 0 out.",
]
references = ["Dawid and Skene 1979", "KhudaBukhsh, Carbonell and Jansen 2014", "Cohen 1960"]

[params.threshold]
type = "float"
default = 0.15
meaning = "smallest value that matters"

[test]
distribution = "given"
rate = 0.025
hypothesis = "both answer independently, given the item's true label"
*/
WITH active AS (  -- so that each name is handed over once
  SELECT rater_id, min(item) AS named_at, row_number() OVER (ORDER BY rater_id) AS rater
  FROM ratings
  WHERE m >= 2 AND kind = 'rating'
  GROUP BY rater_id
)
SELECT
  CAST(1 AS SMALLINT) AS panel,
  CAST(rater AS INTEGER) AS rater,
  CAST(item AS INTEGER) AS item,
  value,
  CASE WHEN item = named_at THEN rater_id END AS rater_id
FROM ratings JOIN active USING (rater_id)
WHERE m >= 2 AND kind = 'rating'
