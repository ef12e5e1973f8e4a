"""Groups of raters against all others: how much higher they answer, how much more they agree.

A rater is one person however much they gave: what is permuted is raters, never ratings.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from rlhf_audit.canonical import sha256_hex
from rlhf_audit.estimators.content import by_content
from rlhf_audit.seeds import generator

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_ACROSS = 0.05
"""Cross-replication reliability below which nothing can be divided by it (ours)."""
_AT_ONCE, _IN_CACHE = 250, 32
"""Permutations at a time; and of tables of all items."""
_SAME = 1e-12
_AT_LEAST, _CLEARLY_NOT = 500, 0.1
"""After so many random groups no more are drawn where a larger share than this is as far off (ours)."""


@dataclass(frozen=True)
class Difference:
    """A group's mean of raters' means less that of the others, its 95 per cent interval, and p."""

    value: float
    lower: float
    upper: float
    p: float


@dataclass(frozen=True)
class Cohesion:
    """How much a group agrees within itself.

    Attributes:
        n_items: Items that somebody of the group and somebody else rated.
        value: In-group alpha over cross-replication reliability; None where either is undefined.
        lower: 2.5 per cent of random groups of that size have less.
        upper: 2.5 per cent have more.
        p: Share of random groups as far from their median, two-sided, never 0.
    """

    n_items: int
    value: float | None
    lower: float | None
    upper: float | None
    p: float | None


def difference(means: Array, member: Mask, permutations: int) -> Difference:
    """Compare one group's raters with all others.

    Args:
        means: ``(n_raters,)`` each rater's own, sorted.
        member: ``(n_raters,)`` who is in the group; at least 2 are, and 2 are not.
        permutations: How many.

    Determinism:
        Draws are keyed by ``means`` and the group's size: nobody's name changes them.

    References:
        Welch 1947; Phipson & Smyth 2010.
    """
    inside, outside = means[member], means[~member]
    value = float(inside.mean() - outside.mean())
    parts = inside.var(ddof=1) / len(inside), outside.var(ddof=1) / len(outside)
    variance = parts[0] + parts[1]
    half = 0.0
    if variance > 0:
        df = variance**2 / (parts[0] ** 2 / (len(inside) - 1) + parts[1] ** 2 / (len(outside) - 1))
        half = float(stats.t.ppf(0.975, df) * np.sqrt(variance))
    # To nine digits: the last bit is of how they were added up.
    key = sha256_hex((np.round(means, 9) + 0.0).tobytes())
    draws = generator(0, "group difference", key, len(inside))
    beyond, total = 1, float(means.sum())
    for start in range(0, permutations, _AT_ONCE):
        drawn = np.tile(means, (min(_AT_ONCE, permutations - start), 1))
        sums = draws.permuted(drawn, axis=1)[:, : len(inside)].sum(axis=1)
        moved = sums / len(inside) - (total - sums) / len(outside)
        beyond += int((np.abs(moved) >= abs(value) - _SAME).sum())
    return Difference(value, value - half, value + half, beyond / (1 + permutations))


class Panel:
    """Ratings as sums an item and rater, from which those of any group follow by one product.

    Args:
        raters: ``(n,)`` index of the rater.
        items: ``(n,)`` index of the item.
        labels: ``(n,)``.
        n_raters: How many.

    Determinism:
        Raters are put in an order that follows from what they gave, not from their indices.
    """

    def __init__(
        self, raters: npt.NDArray[np.int64], items: npt.NDArray[np.int64], labels: Array, n_raters: int
    ) -> None:
        in_order = np.lexsort((labels, raters, items))
        raters, items, labels = raters[in_order], items[in_order], labels[in_order]
        self.order = by_content(raters, items, labels, n_raters)
        place = np.argsort(self.order)
        shape = int(items.max(initial=-1)) + 1, n_raters
        cells = items, place[raters]
        self._sums = [
            sparse.csr_matrix((values, cells), shape=shape)
            for values in (np.ones(len(labels)), labels, labels * labels)
        ]
        self._whole = [np.asarray(sums @ np.ones((n_raters, 1))) for sums in self._sums]
        self._key = sha256_hex(b"".join(sums.data.tobytes() for sums in self._sums))
        self.n_raters = n_raters

    def cohesion(self, member: Mask, permutations: int) -> Cohesion:
        """Judge one group.

        Args:
            member: ``(n_raters,)`` who is in it.
            permutations: Random groups of that size to compare it with.

        References:
            Prabhakaran et al. 2024 (GRASP); Besag and Clifford 1991 (fewer draws where p is large).
        """
        own = member[self.order]
        value, n_items = self._index(own[:, None].astype(float))
        draws = generator(0, "group cohesion", self._key, int(own.sum()))
        moved, beyond = np.empty(0), 0
        for size in _sizes(permutations, _IN_CACHE) if np.isfinite(value[0]) else ():
            drawn = self._index(draws.permuted(np.tile(own, (size, 1)), axis=1).T.astype(float))[0]
            moved = np.concatenate([moved, drawn[np.isfinite(drawn)]])
            if not len(moved):
                continue
            middle = np.median(moved)
            beyond = 1 + int((np.abs(moved - middle) >= abs(value[0] - middle) - _SAME).sum())
            if len(moved) >= _AT_LEAST and beyond > _CLEARLY_NOT * len(moved):
                break
        if not len(moved):
            return Cohesion(int(n_items[0]), None, None, None, None)
        lower, upper = (float(edge) for edge in np.quantile(moved, [0.025, 0.975]))
        return Cohesion(int(n_items[0]), float(value[0]), lower, upper, beyond / (1 + len(moved)))

    def _index(self, groups: Array) -> tuple[Array, Array]:
        """Return the index and the shared items of each column of ``(n_raters, k)`` groups."""
        (m, s, q) = (np.asarray(sums @ groups) for sums in self._sums)
        (others, s_others, q_others) = (
            whole - part for whole, part in zip(self._whole, (m, s, q), strict=True)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = ((m > 0) & (others > 0)).astype(float)
            across = _across((m, s, q), (others, s_others, q_others), shared)
            index = _alpha(m, s, q) / np.where(across >= LEAST_ACROSS, across, np.nan)
        return index, shared.sum(axis=0)


def _sizes(permutations: int, at_once: int) -> list[int]:
    return [min(at_once, permutations - start) for start in range(0, permutations, at_once)]


def _sum(one: Array, other: Array) -> Array:
    """Return the sums of the products, column by column."""
    sums: Array = np.einsum("ij,ij->j", one, other)
    return sums


def _alpha(m: Array, s: Array, q: Array) -> Array:
    """Return Krippendorff's alpha of each column, squared differences, from an item's counts and sums."""
    paired = (m >= 2).astype(float)
    n, total, squares = (_sum(paired, part) for part in (m, s, q))
    observed = 2 * _sum(paired / np.maximum(m - 1, 1), m * q - s * s) / n
    expected = 2 * (n * squares - total * total) / (n * (n - 1))
    alpha: Array = 1 - observed / expected
    return alpha


def _across(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array], shared: Array) -> Array:
    """Return the cross-replication reliability of each column: Wong et al. 2021, equations 9 and 10."""
    (m1, s1, q1), (m2, s2, q2) = one, other
    n1, total1, squares1 = (_sum(shared, part) for part in one)
    n2, total2, squares2 = (_sum(shared, part) for part in other)
    apart = m2 * q1
    apart += m1 * q2
    apart -= 2 * s1 * s2
    # (m1 + m2) / (m1 m2), where both have rated.
    weight = shared / np.maximum(m1, 1)
    weight += shared / np.maximum(m2, 1)
    observed = _sum(apart, weight) / (n1 + n2)
    expected = (n2 * squares1 + n1 * squares2 - 2 * total1 * total2) / (n1 * n2)
    across: Array = 1 - observed / expected
    return across
