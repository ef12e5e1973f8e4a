/*
id = "position_bias"
question = "Does a rater prefer the segment that was shown first, whatever it shows?"
severity = "warning"
reads = ["ratings", "items", "steps"]
grain = "one rater"
n_min = 30
n_counts = "comparisons that the rater decided (ties are left out); where adjusted, those of known quality"
value = "probability of preferring the segment shown first, the two being equally good"
flag = "|value - .5| reaches the threshold, and q <= .01"
estimator = "position_bias"
caveats = [
  "q must be .01 (ours) where other audits take .05: at 200 answers the threshold on the effect lies within the noise, and spares nobody.",
  "The plain share is used only where the side was randomised. That is tested over all comparisons of the log, at least `n_randomised`: each side comes first as often, and which does has nothing to do with the quality of the two, each at p >= .01 (ours).",
  "Else the share is adjusted, by the logistic regression of the answer on the difference in quality: the sums of env_reward over the two segments, and what the other raters preferred, as far as they are known and vary. Then n must be `n_adjusted`.",
  "Where no quality is known at all the verdict is refused: a naive test on real preferences gave p = 7e-46, the adjusted one .07.",
  "env_reward is a rough measure of what people see; what it misses stays in the value if it goes with the side.",
  "What a covariate misses looks like a side, for everybody: so where adjusted, the distance from the panel's median must reach the threshold too, and be significant (ours). A bias that half the panel shares is not seen then.",
  "Where adjusted, p is the larger of the score test's and that of the distance from the median; the interval is Wald's on the logit scale.",
]
references = ["exact binomial; Wilson 1927 (the interval)", "Bradley and Terry 1952 with an order effect (Davidson and Beaver 1977)", "Rao 1948 (score test)"]

[params.threshold]
type = "float"
default = 0.05
meaning = "smallest distance from one half that matters"

[params.n_adjusted]
type = "int"
default = 100
meaning = "fewest comparisons for the adjusted value"

[params.n_randomised]
type = "int"
default = 100
meaning = "fewest comparisons of the log to tell whether the side was randomised (ours)"

[test]
distribution = "given"
rate = 0.01
hypothesis = "at equal quality either side is preferred as often"
*/
WITH compared AS (
  SELECT item, episode_id, step, other_episode_id, other_step, n_steps
  FROM items
  WHERE kind = 'comparison'
),
segments AS (
  SELECT episode_id, step, n_steps FROM compared
  UNION
  SELECT other_episode_id AS episode_id, other_step AS step, n_steps FROM compared
),
judged AS (
  SELECT DISTINCT episode_id
  FROM segments
),
running AS (  -- a decimal, so that the order of adding changes nothing
  SELECT
    judged.episode_id, steps.step,
    sum(TRY_CAST(env_reward AS DECIMAL(38, 15))) OVER (
      PARTITION BY judged.episode_id ORDER BY steps.step ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS earned
  FROM judged JOIN steps ON steps.episode_id = judged.episode_id
),
worth AS (  -- unknown where a segment is not there to its end
  SELECT
    segments.episode_id, segments.step, segments.n_steps,
    CASE WHEN segments.step = 0 THEN CAST(upto.earned AS DOUBLE) ELSE CAST(upto.earned - before.earned AS DOUBLE) END AS earned
  FROM
    segments
    JOIN running AS upto
      ON upto.episode_id = segments.episode_id AND upto.step = segments.step + segments.n_steps - 1
    LEFT JOIN running AS before ON before.episode_id = segments.episode_id AND before.step = segments.step - 1
),
quality AS (
  SELECT item, a.earned - b.earned AS better
  FROM
    compared
    JOIN worth AS a
      ON a.episode_id = compared.episode_id AND a.step = compared.step AND a.n_steps = compared.n_steps
    JOIN worth AS b
      ON b.episode_id = compared.other_episode_id AND b.step = compared.other_step AND b.n_steps = compared.n_steps
),
seen AS (  -- from the side of the segment shown first
  SELECT
    rater_id, swapped,
    CASE WHEN swapped THEN 1 - value ELSE value END AS first_preferred,
    CASE WHEN swapped THEN -better ELSE better END AS first_earned_more,
    CASE WHEN m >= 2 THEN CASE WHEN swapped THEN -1 ELSE 1 END * ((total - value) / (m - 1) - 0.5) END
      AS others_prefer_first
  FROM ratings LEFT JOIN quality USING (item)
  WHERE kind = 'comparison'
)
SELECT rater_id, swapped, first_preferred, first_earned_more, others_prefer_first, count(*) AS n
FROM seen
GROUP BY rater_id, swapped, first_preferred, first_earned_more, others_prefer_first
