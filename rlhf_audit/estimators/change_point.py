"""Where the mean of a series changes, if it does: the cumulated sum of the distances from its own mean.

References:
    Page 1954, Biometrika 41:100 (cumulated sums); Hinkley 1971, Biometrika 58:509 (the place); Ploberger and
    Kraemer 1992, Econometrica 60:271 (the largest sum is that of a Brownian bridge).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

_LEAST = 0.1
"""Share of the series on either side of a place, at the least: of a few values there is no mean (ours)."""
_NOTHING = 1e-12
"""Of the sum of squares: what rounding leaves of a series that does not vary."""


@dataclass(frozen=True)
class Change:
    """The likeliest change of one series.

    Attributes:
        place: Index of the first value behind it.
        step: Mean from there on less the mean before.
        half: Half of the width of the interval of ``step``, at 95 per cent for all places at once.
        p: The chance of sums as large in a series with one mean.
    """

    place: int
    step: float
    half: float
    p: float


def find(y: Array) -> Change | None:
    """Return the change of one series; None of fewer than two values, or where all are equal.

    Args:
        y: ``(n,)`` in order.

    >>> change = find(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]))
    >>> change.place, change.step
    (4, 1.0)
    """
    n = len(y)
    if n < 2:
        return None
    mean = y.sum() / n
    spread = float(((y - mean) ** 2).sum())
    if spread <= _NOTHING * float((y**2).sum()):
        return None
    least = max(1, int(np.ceil(_LEAST * n)))
    so_far = np.cumsum(y - mean)
    place = least + int(np.abs(so_far[least - 1 : n - least]).argmax())
    scale = float(np.sqrt(n * spread / (n - 1)))
    per_sum = n / (place * (n - place))
    return Change(
        place,
        -float(so_far[place - 1]) * per_sum,
        float(stats.kstwobign.isf(0.05)) * scale * per_sum,
        float(stats.kstwobign.sf(abs(float(so_far[place - 1])) / scale)),
    )
