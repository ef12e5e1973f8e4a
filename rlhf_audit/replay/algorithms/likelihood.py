"""The default: maximum likelihood of the answers, with each rater's reliability found by EM."""

import numpy as np
import numpy.typing as npt

from rlhf_audit.estimators import reliability
from rlhf_audit.estimators.reliability import Reliability
from rlhf_audit.policy import heads
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.replay.algorithms.fitting import Fitted, Progress, Settings, counted, fit_network
from rlhf_audit.seeds import generator
from rlhf_audit.types import RatedSteps

SETTINGS = Settings()

_SETTLED = 0.005


def fit(data: RatedSteps, spec: NetworkSpec, seed: int, settings: Settings, progress: Progress) -> Fitted:
    """Alternate between policies and reliabilities until these settle, then fit the policy to all rows.

    The probability that a judged action was right comes from a policy that was fitted without the row
    (``settings.folds`` parts): a network that has seen an answer agrees with it, noise and all.

    Determinism:
        Folds are drawn over rows from ``seed``; nothing depends on a pseudonym.

    References:
        Raykar et al. 2010, with cross-fitting as in Chernozhukov et al. 2018.
    """
    found = counted(data, Reliability())
    fold = generator(seed, "folds").permutation(len(data)) % settings.folds
    total = settings.rounds * settings.folds + 1
    for turn in range(settings.rounds):
        right = _cross_fitted(data, spec, seed, settings, found, fold)
        before, found = found, reliability.fit(right, data.values, data.raters, len(found), found).raters
        progress((turn + 1) * settings.folds, total)
        if _largest_move(before, found) < _SETTLED:
            break
    weights = fit_network(data, spec, seed, settings, found)
    progress(total, total)
    return Fitted(weights, found)


def _cross_fitted(
    data: RatedSteps,
    spec: NetworkSpec,
    seed: int,
    settings: Settings,
    found: tuple[Reliability, ...],
    fold: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    right = np.empty(len(data))
    for part in range(settings.folds):
        held_out = fold == part
        # With fewer rows than folds a part is empty, or is all there is: then nothing is known of it.
        if held_out.all():
            right[held_out] = heads.right_at_random(spec.heads)
        elif held_out.any():
            weights = fit_network(data, spec, seed, settings, found, ~held_out)
            judged = data.observations[held_out], data.actions[held_out]
            right[held_out] = heads.right(spec, weights, *judged)
    return right


def _largest_move(before: tuple[Reliability, ...], after: tuple[Reliability, ...]) -> float:
    pairs = zip(before, after, strict=True)
    return max(
        max(abs(a.yes_when_right - b.yes_when_right), abs(a.yes_when_wrong - b.yes_when_wrong))
        for a, b in pairs
    )
