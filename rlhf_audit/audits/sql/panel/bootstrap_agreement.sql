/*
id = "bootstrap_agreement"
question = "How sure is the agreement, for other items and for other raters than these?"
severity = "warning"
reads = ["items", "ratings"]
grain = "one alpha (Krippendorff; nominal for two labels, ordinal for three to `max_ordinal`, else interval) of one panel (see agreement): `alpha over items`, `alpha over items and raters`"
n_min = 30
n_counts = "items with two ratings or more"
value = "alpha"
flag = "the whole interval lies below the threshold: unreliable, surely"
estimator = "bootstrap_agreement"
caveats = [
  "`over items` says what other items would give with these raters; `over items and raters` what another panel of raters would give on other items, and is the wider one. With fewer than `min_raters` raters nothing can be said of others.",
  "An interval wider than `max_width` is called insufficient.",
  "The items are drawn with replacement, more than 1,000 of them in 1,000 random parts; raters by their pairs, and as far apart as the jackknife over raters says. The two are added, less what both count, and centred on alpha: a sample of a sample is off as the sample is.",
  "The scores of an ordinal scale are kept as they are in the data.",
]
references = ["Hayes and Krippendorff 2007", "Owen 2007, The pigeonhole bootstrap", "Cameron, Gelbach and Miller 2011 (variance by two ways of clustering)", "Efron and Stein 1981 (jackknife)"]

[params.threshold]
type = "float"
default = 0.667
meaning = "alpha below it is called unreliable (Krippendorff)"

[params.max_width]
type = "float"
default = 0.2
meaning = "width of the interval above which there are too few data"

[params.min_raters]
type = "int"
default = 10
meaning = "fewest raters to speak of others (ours)"

[params.max_ordinal]
type = "int"
default = 10
meaning = "most different labels of a scale that is taken for ordinal (ours)"

[params.draws]
type = "int"
default = 1000
meaning = "samples drawn"
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
),
active AS (  -- so that each name is handed over once
  SELECT panel, suffix, first_item, last_item, rater_id, min(item) AS named_at
  FROM ratings JOIN panels ON item BETWEEN first_item AND last_item
  WHERE m >= 2
  GROUP BY panel, suffix, first_item, last_item, rater_id
),
numbered AS (SELECT *, row_number() OVER (ORDER BY panel, rater_id) AS rater FROM active)
SELECT
  CAST(panel AS SMALLINT) AS panel,
  CAST(rater AS INTEGER) AS rater,
  CAST(item AS INTEGER) AS item,
  value,
  CASE WHEN item = named_at THEN ratings.rater_id END AS rater_id,
  CASE WHEN item = named_at THEN suffix END AS suffix
FROM ratings JOIN numbered ON numbered.rater_id = ratings.rater_id AND item BETWEEN first_item AND last_item
WHERE m >= 2
