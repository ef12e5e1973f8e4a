"""Intervals of Krippendorff's alpha by drawing items, and raters, with replacement.

Every alpha here is that of scores x with the distance (x - y)^2: of two labels 0 and 1 that is the nominal
one, of midranks the ordinal one, of values the interval one.

References:
    Hayes and Krippendorff 2007, Communication Methods and Measures 1:77.
    Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1:386.
    Cameron, Gelbach and Miller 2011, Journal of Business & Economic Statistics 29:238.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.integer]

_PARTS = 1000
"""Items beyond so many are drawn in so many random parts."""

_PAIRS = 20_000_000
"""Pairs of ratings above which the raters' pairs are counted in a random part of the items."""

_AT_ONCE = 100_000
"""Ratings that are looked at together: what is kept of them is sums."""


@dataclass(frozen=True)
class Draws:
    """Alpha, and what the draws gave.

    Attributes:
        over_items: ``(n_draws,)``, with these raters.
        over_both: ``(n_draws,)``, with raters drawn too.
    """

    alpha: float
    over_items: Array
    over_both: Array


def draw(
    items: Indices,
    raters: Indices,
    labels: Indices,
    scores: Array,
    n_draws: int,
    generator: np.random.Generator,
) -> Draws:
    """Return alpha of ``n`` ratings, and of ``n_draws`` samples like them.

    Args:
        items: ``(n,)`` from 0; each has two ratings or more, of different raters.
        raters: ``(n,)`` from 0.
        labels: ``(n,)`` from 0.
        scores: ``(k,)`` of each label.
        n_draws: How many samples.
        generator: Of every draw.

    Determinism:
        The same bits for every order of the rows, if raters are numbered by content.
    """
    given = _Given(items, raters, labels, scores)
    sums = np.concatenate([_item_sums(one.items, one.scores) for one in given])
    alpha = float(_alpha(sums.sum(axis=0)[None])[0])
    parts = _parts(sums, generator)
    weights = generator.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), n_draws)
    over_items = _alpha(np.stack([(weights * column).sum(axis=1) for column in parts.T], axis=1))
    over_items = alpha + np.sqrt(len(parts) / max(len(parts) - 1, 1)) * _centred(over_items)
    raters_drawn, scatter = _over_raters(given, sums, n_draws, generator)
    off = _centred(raters_drawn)
    drawn = float(np.nanmean(off**2)) if np.isfinite(off).any() else 0.0
    # Few raters drawn from themselves scatter too little: the jackknife says how much, t how far tails go.
    n_raters = given.n_raters
    few = float(stats.t.ppf(0.975, n_raters - 1) / stats.norm.ppf(0.975)) if n_raters > 2 else 1.0
    wider = few * float(np.sqrt(scatter / drawn)) if drawn > 0 else 0.0
    return Draws(alpha, over_items, over_items + wider * off)


@dataclass(frozen=True)
class _Some:
    """All ratings of some items, in order.

    Attributes:
        first: How many items come before.
        items: ``(n,)`` from 0.
        raters: ``(n,)``
        scores: ``(n,)``
    """

    first: int
    items: Indices
    raters: Indices
    scores: Array


class _Given:
    """The ratings in the order of items and raters, some at a time: sorted in place, as one number each."""

    def __init__(self, items: Indices, raters: Indices, labels: Indices, scores: Array) -> None:
        self.n_raters = int(raters.max()) + 1
        self.counts = np.bincount(labels, minlength=len(scores))
        self.scores = scores
        self._labels: Indices | None = None
        self._keys = items.astype(np.int64)
        self._keys *= self.n_raters
        self._keys += raters
        if int(items.max() + 1) * self.n_raters * len(scores) < 2**63:
            self._keys *= len(scores)
            self._keys += labels
            self._keys.sort()
        else:
            order = np.argsort(self._keys)
            self._keys, self._labels = self._keys[order], labels[order]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[_Some]:
        n_labels = len(self.scores) if self._labels is None else 1
        start = first = 0
        while start < len(self):
            last = int(self._keys[min(start + _AT_ONCE, len(self)) - 1]) // (self.n_raters * n_labels)
            end = int(np.searchsorted(self._keys, (last + 1) * self.n_raters * n_labels))
            keys = self._keys[start:end]
            labels = keys % n_labels if self._labels is None else self._labels[start:end]
            named, raters = np.divmod(keys // n_labels, self.n_raters)
            items = np.concatenate([[0], np.cumsum(np.diff(named) > 0)])
            yield _Some(first, items, raters, self.scores[labels])
            start, first = end, first + int(items[-1]) + 1


def _item_sums(items: Indices, scores: Array) -> Array:
    """Return ``(n_items, 4)``: ratings, sum, sum of squares, distances of pairs over m - 1."""
    m = np.bincount(items).astype(np.float64)
    total, squares = np.bincount(items, scores), np.bincount(items, scores**2)
    return np.stack([m, total, squares, 2 * (m * squares - total**2) / (m - 1)], axis=1)


def _alpha(sums: Array) -> Array:
    n, total, squares, apart = sums.T
    chance = 2 * (n * squares - total**2) / (n - 1)
    alpha: Array = 1 - apart / np.where(chance > 0, chance, np.nan)
    return alpha


def _parts(sums: Array, generator: np.random.Generator) -> Array:
    if len(sums) <= _PARTS:
        return sums
    part = np.arange(len(sums)) % _PARTS
    generator.shuffle(part)
    return np.stack([np.bincount(part, column, _PARTS) for column in sums.T], axis=1)


def _over_raters(
    given: _Given, sums: Array, n_draws: int, generator: np.random.Generator
) -> tuple[Array, float]:
    """Return alpha of raters drawn, and the variance that other raters make: all of it by the jackknife, less
    what chance in single answers makes, which is in the items' scatter already.
    """
    kept = np.ones(len(sums), bool)
    pairs = float((sums[:, 0] ** 2).sum())
    if pairs > _PAIRS:
        kept[generator.permutation(len(sums))[max(1, int(len(sums) * _PAIRS / pairs)) :]] = False
    n_raters, alone = given.n_raters, _Alone(given, sums)
    own, met, apart = np.zeros((3, n_raters)), np.zeros((n_raters,) * 2), np.zeros((n_raters,) * 2)
    for some in given:
        alone.add(some)
        inside = kept[some.first + some.items]
        raters, scores, m = (
            some.raters[inside], some.scores[inside], sums[some.first + some.items[inside], 0]
        )  # fmt: skip
        shape = int(some.items[-1]) + 1, n_raters
        values = np.ones(len(raters)), scores, scores**2
        own += np.stack([np.bincount(raters, x, n_raters) for x in values])
        ones, linear, squares = (
            sparse.csr_matrix((x / np.sqrt(m - 1), (some.items[inside], raters)), shape) for x in values
        )
        met += (ones.T @ ones).toarray()
        crossed = (squares.T @ ones).toarray()
        apart += crossed + crossed.T - 2 * (linear.T @ linear).toarray()
    for table in (met, apart):
        np.fill_diagonal(table, 0.0)
    tables = _RaterSums(own, met, apart)
    weights = generator.multinomial(n_raters, np.full(n_raters, 1 / n_raters), n_draws).astype(np.float64)
    share_kept = float(own[0].sum()) / len(given)
    return tables.alphas(weights), max(0.0, tables.jackknife() - alone.variance / share_kept)


@dataclass(frozen=True)
class _RaterSums:
    """What alpha is made of, by rater and by pair of raters.

    Attributes:
        own: ``(3, n_raters)`` ratings, their sum and sum of squares.
        met: ``(n_raters, n_raters)`` items of both, each over m - 1; 0 with oneself.
        apart: ``(n_raters, n_raters)`` distances on them, likewise.
    """

    own: Array
    met: Array
    apart: Array

    def alphas(self, weights: Array) -> Array:
        """Return alpha of each row of ``(n, n_raters)`` how often each rater counts."""
        sums = [np.einsum("dr,r->d", weights, column) for column in self.own]
        return self._alphas(sums, _quadratic(weights, self.apart), _quadratic(weights, self.met))

    def jackknife(self) -> float:
        """Return the variance of alpha by leaving out one rater after the other.

        References:
            Efron and Stein 1981, Annals of Statistics 9:586: it errs upwards.
        """
        n = len(self.met)
        without = self._alphas(
            [column.sum() - column for column in self.own],
            self.apart.sum() - 2 * self.apart.sum(axis=1),
            self.met.sum() - 2 * self.met.sum(axis=1),
        )
        found = _centred(without[np.isfinite(without)])
        return float((n - 1) / n * (found**2).sum())

    def _alphas(self, sums: Sequence[Array], observed: Array, together: Array) -> Array:
        n, total, squared = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = 2 * (n * squared - total**2) / (n * (n - 1))
            expected = np.where(together > 0, together, np.nan) * np.where(chance > 0, chance, np.nan)
            found: Array = 1 - observed / expected
        return found


def _centred(drawn: Array) -> Array:
    """Return the draws less their mean: a sample of a sample is off as the sample is, and in the same way."""
    some = drawn[np.isfinite(drawn)]
    return drawn - (some.sum() / len(some) if len(some) else 0.0)


def _quadratic(weights: Array, table: Array) -> Array:
    """Return w'Tw of each row w, added up in an order that no number of threads changes."""
    found = np.empty(len(weights))
    for place, row in enumerate(weights):
        drawn = np.flatnonzero(row)
        found[place] = (table[np.ix_(drawn, drawn)] * np.outer(row[drawn], row[drawn])).sum()
    return found


class _Alone:
    """The variance of alpha by chance in single answers: by each rating's linear part in it."""

    def __init__(self, given: _Given, sums: Array) -> None:
        self._sums, self._n = sums, len(given)
        self._observed = float(sums[:, 3].sum() / self._n)
        self._mean = float((given.counts * given.scores).sum() / self._n)
        self._chance = 2 * float((given.counts * (given.scores - self._mean) ** 2).sum() / self._n)
        self.variance = 0.0

    def add(self, some: _Some) -> None:
        """Count these ratings, too."""
        if self._chance == 0:
            return
        m, total, squares, _ = self._sums[some.first : some.first + int(some.items[-1]) + 1][some.items].T
        apart = (m * some.scores**2 - 2 * some.scores * total + squares) / (m - 1)
        spread = 2 * (some.scores - self._mean) ** 2 - self._chance
        part = -2 * (apart - self._observed) + self._observed / self._chance * spread
        part /= self._n * self._chance
        self.variance += float((part**2).sum())
