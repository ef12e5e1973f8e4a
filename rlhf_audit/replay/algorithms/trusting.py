"""The default's likelihood with every rater taken to be equally good: what bad raters can do to it."""

from rlhf_audit.estimators.reliability import Reliability
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.replay.algorithms.fitting import Fitted, Progress, Settings, counted, fit_network
from rlhf_audit.types import RatedSteps

SETTINGS = Settings()


def fit(data: RatedSteps, spec: NetworkSpec, seed: int, settings: Settings, progress: Progress) -> Fitted:
    """Fit the policy with the prior's mean as every rater's reliability; nothing is estimated of them."""
    trusted = counted(data, Reliability())
    weights = fit_network(data, spec, seed, settings, trusted)
    progress(1, 1)
    return Fitted(weights, trusted)
