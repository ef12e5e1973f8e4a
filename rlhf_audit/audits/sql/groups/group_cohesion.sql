/*
id = "group_cohesion"
question = "Do raters of one group agree with each other more than with the others?"
severity = "info"
reads = ["ratings", "rater_groups"]
grain = "one group of raters, `name=value`; one row `all` where no group may be shown"
n_min = 100
n_counts = "items that somebody of the group and somebody else rated, of those drawn"
value = "group association index: Krippendorff's alpha within the group over the cross-replication reliability with all others; above 1 they agree more among themselves; rounded to .01"
flag = "the value lies outside what 95 per cent of random groups of that size have, and q <= .01"
estimator = "group_cohesion"
caveats = [
  "q must be .01 (ours) where other audits take .05: the band is the only threshold, and spares nobody.",
  "Where the group and the others agree no more than by chance (cross-replication reliability below .05) the index says nothing.",
  "lower and upper are the band of random groups (raters permuted, 2.5 to 97.5 per cent), not an interval of the value.",
  "The distance between labels is the squared difference: for two labels the nominal one; words coded 0, 1, 2, … have no such distance.",
  "Of more items than `items` so many are drawn, by their numbers: the value and the band are of those.",
  "Groups are used only under a grant for audits, and never shown for fewer than 5 raters: see group_bias.",
]
references = ["Prabhakaran et al. 2024, GRASP (the index, the permutation)", "Wong, Paritosh and Aroyo 2021 (cross-replication reliability, items weighted by their ratings)", "Krippendorff 2011", "Besag and Clifford 1991 (sequential draws)"]

[params.permutations]
type = "int"
default = 2000
meaning = "most random permutations of the raters; 500 where p is above .1 by then (ours)"

[params.items]
type = "int"
default = 4000
meaning = "most items that are looked at"

[test]
distribution = "given"
rate = 0.01
hypothesis = "the group is a random choice of so many raters"
*/
WITH drawn AS (  -- in an order that nothing in them decides
  SELECT item
  FROM (
    SELECT item, row_number() OVER (ORDER BY (item * 2654435761) % 4294967296, item) AS place
    FROM items
    WHERE kind = 'rating'
  ) AS shuffled
  WHERE place <= $items
)
SELECT ratings.rater_id, item, ratings.value AS label, name, rater_groups.value
FROM ratings JOIN drawn USING (item) LEFT JOIN rater_groups ON rater_groups.rater_id = ratings.rater_id
WHERE m >= 2
