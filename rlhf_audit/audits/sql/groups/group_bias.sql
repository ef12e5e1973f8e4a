/*
id = "group_bias"
question = "Do raters of one group answer higher, or lower, than all other raters do on the same items?"
severity = "warning"
reads = ["ratings", "rater_groups"]
grain = "one group of raters, `name=value`; one row `all` where no group may be shown"
n_min = 5
n_counts = "raters of the group with a rating that somebody else gave the item too"
value = "mean over the group's raters of each one's mean (own label - mean of the others' labels on the item), less that mean over all other raters; in label units, rounded to .01"
flag = "|value| reaches the threshold and q <= .05"
estimator = "group_bias"
caveats = [
  "A difference between groups is not a fault: they may see what others miss. It says that who rates decides what is learnt.",
  "Groups are used only of raters with a grant for audits that stands, and never shown for fewer than 5 raters, nor where they could be worked out from what is shown: see `rater_groups`. Hence the rounding too (ours): raters' own means are in this report, and an exact mean of a few would say which.",
  "p permutes raters, not ratings: a rater is one person however much they rated. Draws are keyed by the data.",
  "Both sides are means of the same residual, so where items are rated by one group alone nothing is seen.",
  "The interval is Welch's over raters' means.",
]
references = ["mean of rater means, cluster permutation", "Phipson and Smyth 2010 (p of a permutation test is never 0)", "Welch 1947 (the interval)"]

[params.threshold]
type = "float"
default = 0.25
meaning = "smallest |value| that matters, in label units (ours)"

[params.permutations]
type = "int"
default = 2000
meaning = "random permutations of the raters"

[test]
distribution = "given"
hypothesis = "raters are in the group, or not, independently of how they answer"
*/
WITH means AS (
  SELECT rater_id, count(*) AS n, sum(e ORDER BY e) / count(*) AS bias
  FROM ratings
  WHERE kind = 'rating' AND e IS NOT NULL
  GROUP BY rater_id
)
SELECT rater_id, n, bias, name, value
FROM means LEFT JOIN rater_groups USING (rater_id)
ORDER BY bias, n, name, value
