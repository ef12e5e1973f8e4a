"""Intervals that several estimates share."""

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

Z = float(stats.norm.ppf(0.975))


def wilson(share: Array | float, n: Array | float) -> tuple[Array, Array]:
    """Return the 95 per cent interval of a share of ``n``, which need not be whole.

    References:
        Wilson 1927, Journal of the American Statistical Association 22:209.
    """
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return centre - half, centre + half
