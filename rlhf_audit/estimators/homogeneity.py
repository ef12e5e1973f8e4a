"""Do two raters use each label as often? Tests on the tables of their answers to the same items.

All functions take ``(n_tables, k, k)`` counts, rows the one rater's labels and columns the other's, and
return statistic and degrees of freedom, ``(n_tables,)`` each; both are 0 where nothing differs.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


def stuart_maxwell(tables: Array) -> tuple[Array, Array]:
    """Compare the margins. Labels on which the two never differ say nothing and cost no degree of freedom.

    References:
        Stuart 1955, Biometrika 42:412; Maxwell 1970, British Journal of Psychiatry 116:651.
    """
    turned = tables.transpose(0, 2, 1)
    difference = tables.sum(axis=2) - turned.sum(axis=2)
    covariance = -(tables + turned)
    for label in range(tables.shape[1]):
        covariance[:, label, label] = 0.0
        covariance[:, label, label] = -covariance[:, label].sum(axis=1)
    inverse = np.linalg.pinv(covariance, hermitian=True)
    statistic = np.einsum("pi,pij,pj->p", difference, inverse, difference)
    return statistic, np.linalg.matrix_rank(covariance, hermitian=True).astype(np.float64)


def bhapkar(tables: Array) -> tuple[Array, Array]:
    """Compare the margins with the variance that they have, not the one they would have if equal.

    Infinite where all answers moved one way.

    References:
        Bhapkar 1966, Journal of the American Statistical Association 61:228.
    """
    statistic, freedom = stuart_maxwell(tables)
    left = 1 - statistic / tables.sum(axis=(1, 2))
    return np.where(left > 1e-12, statistic / np.where(left > 1e-12, left, 1), np.inf), freedom


def bowker(tables: Array) -> tuple[Array, Array]:
    """Compare each cell with its mirror image. A pair of empty cells costs no degree of freedom.

    References:
        Bowker 1948, Journal of the American Statistical Association 43:572.
    """
    upper = np.triu_indices(tables.shape[1], 1)
    one, other = tables[:, upper[0], upper[1]], tables[:, upper[1], upper[0]]
    both = one + other
    return ((one - other) ** 2 / np.where(both > 0, both, 1)).sum(axis=1), (both > 0).sum(axis=1).astype(
        np.float64
    )


def rater_bias(tables: Array) -> tuple[Array, Array]:
    """Compare how often the one answered higher with how often the other did: (b - c)² / (b + c).

    References:
        Bishop, Fienberg and Holland 1975, p. 284.
    """
    b, c = higher(tables)
    differ = b + c
    return (b - c) ** 2 / np.where(differ > 0, differ, 1), (differ > 0).astype(np.float64)


def largest_margin(tables: Array) -> tuple[Array, Array, Array]:
    """Return the largest difference of a label's share, without sign, and its ends: see ``_largest``."""
    both = np.einsum("pkk->pk", tables)
    one, other = tables.sum(axis=2) - both, tables.sum(axis=1) - both
    return _largest(one, other, tables.sum(axis=(1, 2)))


def largest_mirrored(tables: Array) -> tuple[Array, Array, Array]:
    """Return the largest difference of two mirrored cells' shares, and its ends: see ``_largest``."""
    upper = np.triu_indices(tables.shape[1], 1)
    one, other = tables[:, upper[0], upper[1]], tables[:, upper[1], upper[0]]
    return _largest(one, other, tables.sum(axis=(1, 2)))


def _largest(one: Array, other: Array, n: Array) -> tuple[Array, Array, Array]:
    """Return the largest of several |one - other| / n, and an interval that holds whichever is the largest.

    Each difference has the interval of one of paired shares, at 1 - .05 / k (Bonferroni), of those k in which
    anything was counted; the largest lies between the highest of the lower ends and the highest of the upper.

    Args:
        one: ``(n_tables, k)`` counts.
        other: As ``one``.
        n: ``(n_tables,)`` of how many.
    """
    size = np.abs(one - other) / n[:, None]
    spread = np.maximum((one + other) / n[:, None] - size**2, 0)
    k = ((one + other) > 0).sum(axis=1)
    half = stats.norm.isf(0.025 / np.maximum(k, 1))[:, None] * np.sqrt(spread / n[:, None])
    lower, upper = np.maximum(size - half, 0).max(axis=1), np.minimum(size + half, 1).max(axis=1)
    return size.max(axis=1), lower, upper


def higher(tables: Array) -> tuple[Array, Array]:
    """Return how often the second rater's label was higher, and the first's."""
    return np.triu(tables, 1).sum(axis=(1, 2)), np.tril(tables, -1).sum(axis=(1, 2))
