"""What a network's outputs mean: for each dimension of an action a softmax, or a Gaussian.

A Gaussian's mean is an output; the logarithm of its standard deviation is a weight of its own, the same in
every state, kept between the bounds below. Both are in units of half the action's range.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.policy import exact
from rlhf_audit.policy.exact import Exact
from rlhf_audit.policy.network import NetworkSpec, outputs
from rlhf_audit.types import FloatArray, Weights

LOG_STD_LOW, LOG_STD_HIGH = -3.0, 0.0
"""Standard deviations from a twentieth to the whole of half the range."""
_ROOT_2_PI = 2.5066282746310002
_CHANCE_AT_RANDOM = 0.7071067811865476
"""Mean of exp(−z²/2) over the policy's own draws: 1/√2."""

Opinions = Sequence[npt.NDArray[Any]]
"""For each dimension of an action ``(n, choices)`` float32 probabilities, or ``(n,)`` means."""


def opinions(spec: NetworkSpec, weights: Weights, rows: npt.NDArray[Any]) -> Opinions:
    """Return what the policy would do in each of ``(n, observation_dim)`` rows."""
    said = outputs(spec, weights, rows)
    return [
        exact.softmax(said[:, place]) if choices else said[:, place][:, 0]
        for choices, place in places(spec.heads)
    ]


def places(heads: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield each dimension's number of choices, and where its outputs are.

    >>> list(places((3, 0)))
    [(3, slice(0, 3, None)), (0, slice(3, 4, None))]
    """
    start = 0
    for choices in heads:
        yield choices, slice(start, start + max(choices, 1))
        start += max(choices, 1)


def draw_action(row: FloatArray, uniform: float) -> int:
    """Return the action that a uniform number in [0, 1) picks from one row of probabilities.

    >>> draw_action(np.array([0.25, 0.75], np.float32), 0.3)
    1
    """
    sums = np.add.accumulate(row, dtype=np.float64)
    # Rounded probabilities may sum to a little below 1.
    return min(int(np.searchsorted(sums, uniform, side="right")), len(row) - 1)


def draw(spec: NetworkSpec, weights: Weights, said: Opinions, row: int, draws: np.random.Generator) -> Exact:
    """Return a drawn action, one number a dimension: which choice, or the Gaussian's draw.

    One uniform number is taken for each dimension, in order; a Gaussian is drawn by inverse transform.
    """
    spreads = iter(standard_deviations(spec, weights))
    return np.array(
        [
            draw_action(opinion[row], draws.random())
            if choices
            else opinion[row] + next(spreads) * exact.normal_quantile(draws.random())
            for choices, opinion in zip(spec.heads, said, strict=True)
        ]
    )


def likeliest(said: Opinions, row: int) -> Exact:
    """Return the most probable action: the likeliest choice, or the mean, of each dimension."""
    return np.array([float(one[row].argmax() if one.ndim == 2 else one[row]) for one in said])


def chance(spec: NetworkSpec, weights: Weights, said: Opinions, row: int, choice: npt.NDArray[Any]) -> float:
    """Return the probability of an action, or its density in units of half the range: over all dimensions.

    The dimensions are independent, so theirs are multiplied; rounded to float32.
    """
    spreads = iter(standard_deviations(spec, weights))
    found = 1.0
    for choices, opinion, value in zip(spec.heads, said, choice, strict=True):
        if choices:
            found *= float(opinion[row][int(value)])
        else:
            spread = next(spreads)
            distance = (float(value) - float(opinion[row])) / spread
            found *= float(exact.exp(np.array(-distance * distance / 2))) / (spread * _ROOT_2_PI)
    return float(np.float32(found))


def right(spec: NetworkSpec, weights: Weights, rows: npt.NDArray[Any], actions: npt.NDArray[Any]) -> Exact:
    """Return the probability that each judged action is right, as ``losses.judged`` reads the policy.

    Args:
        spec: The network's shape.
        weights: Its weights.
        rows: ``(n, observation_dim)``.
        actions: ``(n,)`` int64 for a single choice, otherwise ``(n, n_dimensions)``.
    """
    said = opinions(spec, weights, rows)
    chosen = actions.reshape(len(rows), -1)
    spreads = iter(standard_deviations(spec, weights))
    found: Exact = np.ones(len(rows))
    for number, (choices, opinion) in enumerate(zip(spec.heads, said, strict=True)):
        if choices:
            which = chosen[:, number, None].astype(np.int64)
            found = found * np.take_along_axis(opinion, which, axis=1)[:, 0]
        else:
            distance = (chosen[:, number] - opinion) / next(spreads)
            found = found * exact.exp(-distance * distance / 2)
    return found


def right_at_random(heads: Sequence[int]) -> float:
    """Return what ``right`` comes to where nothing is known of the policy.

    >>> right_at_random((4,))
    0.25
    """
    return float(np.prod([1 / choices if choices else _CHANCE_AT_RANDOM for choices in heads]))


def standard_deviations(spec: NetworkSpec, weights: Weights) -> list[float]:
    """Return each Gaussian's, in units of half the range."""
    if not spec.n_gaussians:
        return []
    bounded = np.clip(weights[-1][1].astype(np.float64), LOG_STD_LOW, LOG_STD_HIGH)
    return [float(one) for one in exact.exp(bounded)]
