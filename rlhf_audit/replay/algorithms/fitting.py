"""What the algorithms share: their settings, and one fit of the network to weighted rows."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.estimators.reliability import Reliability
from rlhf_audit.policy import epochs
from rlhf_audit.policy.network import NetworkSpec, initial_weights
from rlhf_audit.seeds import generator
from rlhf_audit.types import RatedSteps, Weights

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How an algorithm trains; recorded in the manifest.

    Attributes:
        loss: Name in ``policy.losses.LOSSES``.
        learning_rate: Adam's.
        n_steps: Fewest Adam steps of one fit.
        n_epochs: Fewest passes over the rows; the larger of the two bounds holds.
        batch_size: Rows of one step.
        l2: Strength of the penalty on kernels; a cross-fit's is raised as if it were of all rows.
        sparsity: Strength of the penalty on inputs, divided by the rows. Short episodes say little of slow
            features, such as a cart's drift; what a fit makes of them by chance grows where a better policy
            goes.
        shuffle: Train in one seeded order; otherwise in log order.
        folds: Parts of the cross-fit.
        rounds: Most rounds of EM.
    """

    loss: str = "likelihood"
    learning_rate: float = 0.01
    n_steps: int = 400
    n_epochs: int = 200
    batch_size: int = 256
    l2: float = 0.001
    sparsity: float = 3.0
    shuffle: bool = True
    folds: int = 3
    rounds: int = 8

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Fitted:
    """What an algorithm found: the network, and each rater's reliability by index."""

    weights: Weights
    reliabilities: tuple[Reliability, ...]


def counted(data: RatedSteps, reliability: Reliability) -> tuple[Reliability, ...]:
    """Return ``reliability`` for every rater, each with its own number of answers."""
    counts = np.bincount(data.raters, minlength=len(data.rater_ids))
    return tuple(
        Reliability(reliability.yes_when_right, reliability.yes_when_wrong, int(count)) for count in counts
    )


def fit_network(
    data: RatedSteps,
    spec: NetworkSpec,
    seed: int,
    settings: Settings,
    reliabilities: tuple[Reliability, ...],
    used: npt.NDArray[np.bool_] | None = None,
) -> Weights:
    """Fit a fresh network to the answers, given each rater's reliability.

    Args:
        data: The answers.
        spec: Shape of the network.
        seed: Root seed of the first weights and of the order.
        settings: How.
        reliabilities: By rater index.
        used: ``(n,)``, rows to train on; all by default. The others keep their place, with weight 0.
    """
    initial = initial_weights(spec, seed)
    order = generator(seed, "order").permutation(len(data)) if settings.shuffle else np.arange(len(data))
    kept = np.ones(len(data), bool) if used is None else used
    right = np.array([reliability.yes_when_right for reliability in reliabilities], np.float32)
    wrong = np.array([reliability.yes_when_wrong for reliability in reliabilities], np.float32)
    rows = epochs.Rows(
        data.observations[order],
        data.actions[order],
        data.values[order],
        right[data.raters[order]],
        wrong[data.raters[order]],
        kept[order].astype(np.float32),
    )
    n_batches = -(-len(data) // settings.batch_size)
    n_rows = max(int(kept.sum()), 1)
    state = epochs.run(
        epochs.AdamState.fresh(initial),
        rows,
        spec=spec,
        loss=settings.loss,
        batch_size=settings.batch_size,
        n_steps=max(settings.n_steps, settings.n_epochs * n_batches),
        learning_rate=settings.learning_rate,
        l2=settings.l2 * len(data) / n_rows,
        sparsity=settings.sparsity / n_rows,
    )
    return state.named(initial)


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""
