"""The article's update in its exact form: one step of REINFORCE per answer, once through the log.

Not recommended: a "no" teaches nothing, each answer is used once, and the steps are large. As the article
writes it, on ``categorical_crossentropy``, Keras applies another gradient (see ``policy.losses.article``),
and one log trains in opposite directions with op determinism on and off. docs/learning.md has the figures.
"""

from rlhf_audit.estimators.reliability import Reliability
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.replay.algorithms.fitting import Fitted, Progress, Settings, counted, fit_network
from rlhf_audit.types import RatedSteps

SETTINGS = Settings(
    loss="article",
    learning_rate=0.01,
    n_steps=1,
    n_epochs=1,
    batch_size=1,
    l2=0.0,
    sparsity=0.0,
    shuffle=False,
)


def fit(data: RatedSteps, spec: NetworkSpec, seed: int, settings: Settings, progress: Progress) -> Fitted:
    """Take one Adam step per answer, in log order. Raters are not told apart."""
    raters = counted(data, Reliability())
    weights = fit_network(data, spec, seed, settings, raters)
    progress(1, 1)
    return Fitted(weights, raters)
