/*
id = "rasch_severity"
question = "How severe is a rater on the scale that all raters and items share?"
severity = "warning"
reads = ["ratings"]
grain = "one rater; and two of the panel: `fixed chi2` of equal severities, and `separation reliability`"
n_min = 30
n_counts = "ratings of the rater on items whose raters did not all say the same; for the panel, raters"
value = "severity in logits, 0 for the mean rater; above 0 is severe. Of the panel: chi-square, and the share of the severities' variance that is no error"
flag = "|value| and its distance from the panel's median both reach the threshold, and q <= .01; the panel's two are reported and never flagged"
estimator = "rasch_severity"
caveats = [
  "q must be .01 (ours) where other audits take .05: at 200 answers, of which few say anything where raters agree, one logit lies within the noise.",
  "Items are taken together by how many raters they have and by the sum of their labels: given these, what the items are like drops out, so that many items with few ratings each do no harm, as they do where each item is a parameter (Andersen 1973). Above 8 ratings items are taken together by their mean, in 32 steps.",
  "A label is its rank on its scale; scales of more than 10 labels are left out.",
  "Whoever answers at one end of the scale only has no finite severity: see constant_rater.",
  "Joint estimation measures each rater against the others and overstates the distance from the mean of all n by n / (n - 1): value and interval are less by that factor (Wright and Douglas 1977). Programs for many-facet Rasch models print the larger number. For more than 200 raters the error takes the classes' thresholds as known (ours).",
  "Of a rater two logits off or more, on a scale of several labels, the interval holds the truth somewhat less often than it says.",
  "It is relative to the raters of the same items: where many raters work in small fixed panels it is a rater's distance from the others of that panel, not from everybody.",
  "severity says the same in label units. A logit does not depend on where on the scale the items lie.",
]
references = [
  "Linacre 1989 (many-facet Rasch); Masters 1982 (thresholds by class of items)",
  "Wright and Douglas 1977 (the correction)",
  "mfrmr package, facet_quality_dashboard (1 logit)",
]

[params.threshold]
type = "float"
default = 1.0
meaning = "smallest |severity| that matters, in logits (mfrmr's default)"

[test]
distribution = "given"
rate = 0.01
hypothesis = "the severity is 0; for fixed chi2, all severities are equal"
family = "family"
*/
SELECT rater_id, objective, m, total, value, count(*) AS n
FROM ratings
WHERE kind = 'rating'
GROUP BY rater_id, objective, m, total, value
