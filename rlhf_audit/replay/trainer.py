"""Train a policy from logged answers, offline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from rlhf_audit.errors import UsageError, near
from rlhf_audit.estimators.reliability import Reliability
from rlhf_audit.policy.network import NetworkSpec, weights_sha256
from rlhf_audit.replay.algorithms import article, likelihood, trusting
from rlhf_audit.replay.algorithms.fitting import Settings, no_progress
from rlhf_audit.types import RatedSteps, Weights

ALGORITHMS: Mapping[str, ModuleType] = {
    "likelihood": likelihood,
    "trusting": trusting,
    "article": article,
}
"""By name; the first is the default. Each module has ``SETTINGS`` and ``fit``."""


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy and what made it.

    Attributes:
        weights: The network's.
        weights_sha256: Their digest.
        algorithm: Name in ``ALGORITHMS``.
        parameters: Settings and seed, JSON values.
        reliabilities: By rater index; the prior's mean where the algorithm estimates none.
        mode: What the arithmetic ran on: ``xla``.
        rows: Answers trained on.
    """

    weights: Weights
    weights_sha256: str
    algorithm: str
    parameters: Mapping[str, Any]
    reliabilities: tuple[Reliability, ...]
    mode: str
    rows: int


def train(
    data: RatedSteps,
    spec: NetworkSpec,
    algorithm: str = "likelihood",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    settings: Settings | None = None,
) -> TrainedPolicy:
    """Train a fresh network on every row of ``data``.

    Args:
        data: Usable answers in training order.
        spec: Shape of the network.
        algorithm: Name in ``ALGORITHMS``.
        seed: Root seed of the first weights, the order and the folds.
        progress: Told the fits that are done and the most there may be.
        settings: Instead of the algorithm's own.

    Raises:
        UsageError: No such algorithm, no rows, or rows that do not fit ``spec``.

    Determinism:
        One result, bit for bit, from one ``data`` on every x86-64 machine with AVX2; names of
        raters are not looked at.
    """
    chosen = ALGORITHMS.get(algorithm)
    if chosen is None:
        raise UsageError(
            f"there is no algorithm {algorithm!r}",
            needed=f"one of {', '.join(ALGORITHMS)}",
            fix=near(algorithm, ALGORITHMS),
        )
    _check(data, spec)
    used = settings or chosen.SETTINGS
    fitted = chosen.fit(data, spec, seed, used, progress or no_progress)
    return TrainedPolicy(
        weights=fitted.weights,
        weights_sha256=weights_sha256(fitted.weights),
        algorithm=algorithm,
        parameters={**used.to_json(), "seed": seed},
        reliabilities=fitted.reliabilities,
        mode="xla",
        rows=len(data),
    )


def _check(data: RatedSteps, spec: NetworkSpec) -> None:
    if len(data) == 0:
        raise UsageError(
            "there is nothing to train on",
            seen="no answer that may be used",
            needed="at least one rating under a grant for training",
            fix="rlhf-audit show LOG consent",
        )
    shape, n_dimensions = data.observations.shape[1:], data.actions.shape[1:]
    wanted = () if isinstance(spec.n_actions, int) else (len(spec.heads),)
    if (shape, data.n_actions, n_dimensions) != ((spec.observation_dim,), spec.n_actions, wanted):
        raise UsageError(
            "the answers are about another kind of environment than the network",
            seen=f"observations {shape}, {data.n_actions} actions",
            needed=f"observations ({spec.observation_dim},), {spec.n_actions} actions",
        )
    if not (np.isfinite(data.observations).all() and np.isin(data.values, (0, 1)).all()):
        raise UsageError("an observation is not finite, or an answer is neither 0 nor 1")
    for number, choices in enumerate(spec.heads):
        taken = data.actions.reshape(len(data), -1)[:, number]
        if choices and (taken.min() < 0 or taken.max() >= choices):
            raise UsageError("an action is out of range", needed=f"0 to {choices - 1}")
        if not np.isfinite(taken).all():
            raise UsageError("an action is not finite", needed="numbers")
    if data.raters.min() < 0 or data.raters.max() >= len(data.rater_ids):
        raise UsageError("a rater index is out of range", needed=f"0 to {len(data.rater_ids) - 1}")
