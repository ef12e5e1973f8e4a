/*
id = "rater_fit"
question = "Do a rater's answers follow the panel's order of items, or stray from it, or follow it too closely?"
severity = "warning"
reads = ["ratings"]
grain = "one rater and one mean square, `rater:infit` or `rater:outfit`"
n_min = 30
n_counts = "ratings of the rater on items whose raters did not all say the same"
value = "mean squared residual over its variance under the Rasch model: infit weights by the variance, outfit does not; 1 fits"
flag = "value, and its quotient by the panel's median, are at least the threshold, and q <= .001 by a parametric bootstrap; at most its inverse, they are noted and never flagged"
estimator = "rater_fit"
caveats = [
  "Overfit is no finding (ours): one who errs once in a hundred answers beside others who err five times is too regular for the model, and flagged in 5 of 100 logs of honest raters. It degrades nothing (Wright and Linacre 1994).",
  "q must be .001 (ours) where other audits take .05: beside noisy raters the careful ones do fit better than the model says, by no fault of theirs.",
  "Items are taken together by how many raters they have and by the sum of their labels: given these, what the items are like drops out, so that many items with few ratings each do no harm, as they do where each item is a parameter (Andersen 1973). Above 8 ratings items are taken together by their mean, in 32 steps.",
  "A label is its rank on its scale; scales of more than 10 labels are left out.",
  "Whoever answers at one end of the scale only has no finite severity: see constant_rater.",
  "Fixed cut-offs alone flag too many: so each value is also held against `draws` tables drawn from the fitted model, with the rater's own numbers of answers; the spread of their logarithms gives z and the interval. The measures are not estimated anew for each draw (ours).",
  "Fit is relative: a few noisy raters make all others look regular, hence the comparison with the median too (ours), in the effect and in the test.",
  "A noisy rater may be random, inverted or fast: see those first. A too regular one may be copying the panel.",
]
references = [
  "Wright and Masters 1982 (infit, outfit)",
  "Wright and Linacre 1994, Reasonable mean-square fit values",
  "Sage 2021 (parametric bootstrap of the cut-offs)",
  "mfrmr package (1.5)",
]

[params.threshold]
type = "float"
default = 1.5
meaning = "a mean square from here on is misfit, below its inverse overfit (mfrmr's default)"

[params.draws]
type = "int"
default = 100
meaning = "tables drawn for each rater (ours: enough for the spread of a logarithm)"

[test]
distribution = "normal"
rate = 0.001
hypothesis = "the rater answers as the model says"
*/
SELECT rater_id, objective, m, total, value, count(*) AS n
FROM ratings
WHERE kind = 'rating'
GROUP BY rater_id, objective, m, total, value
