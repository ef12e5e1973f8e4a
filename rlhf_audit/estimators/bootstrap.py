"""Intervals of Krippendorff's alpha by drawing items, and raters, with replacement.

Every alpha here is that of scores x with the distance (x - y)^2: of two labels 0 and 1 that is the nominal
one, of midranks the ordinal one, of values the interval one.

References:
    Hayes and Krippendorff 2007, Communication Methods and Measures 1:77.
    Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1:386.
    Cameron, Gelbach and Miller 2011, Journal of Business & Economic Statistics 29:238.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_PARTS = 1000
"""Items beyond so many are drawn in so many random parts."""

_PAIRS = 20_000_000
"""Pairs of ratings above which the raters' pairs are counted in a random part of the items."""


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
    items: Indices, raters: Indices, scores: Array, n_draws: int, generator: np.random.Generator
) -> Draws:
    """Return alpha of ``n`` ratings, and of ``n_draws`` samples like them.

    Args:
        items: ``(n,)`` from 0; each has two ratings or more.
        raters: ``(n,)`` from 0.
        scores: ``(n,)``
        n_draws: How many samples.
        generator: Of every draw.

    Determinism:
        The same bits for every order of the rows, if raters are numbered by content.
    """
    order = np.lexsort((raters, items))
    items, raters, scores = items[order], raters[order], scores[order]
    _, items = np.unique(items, return_inverse=True)
    sums = _item_sums(items.reshape(-1), scores)
    alpha = float(_alpha(sums.sum(axis=0)[None])[0])
    parts = _parts(sums, generator)
    weights = generator.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), n_draws)
    over_items = _alpha(np.stack([(weights * column).sum(axis=1) for column in parts.T], axis=1))
    raters_drawn, share = _over_raters(items.reshape(-1), raters, scores, n_draws, generator)
    # The share of the raters' scatter that chance in single answers makes is in the items' scatter already.
    # Few raters drawn from themselves scatter too little: by the usual n - 1, and by tails of Student's t.
    n_raters = int(raters.max()) + 1
    few = float(stats.t.ppf(0.975, n_raters - 1) / stats.norm.ppf(0.975)) if n_raters > 2 else 1.0
    wider = share * few * float(np.sqrt(n_raters / max(n_raters - 1, 1)))
    return Draws(alpha, over_items, over_items + wider * (raters_drawn - alpha))


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
    items: Indices, raters: Indices, scores: Array, n_draws: int, generator: np.random.Generator
) -> tuple[Array, float]:
    """Return alpha of raters drawn, and how much of its scatter about alpha is theirs, as a factor."""
    m = np.bincount(items)
    n_raters = int(raters.max()) + 1
    share = _own_share(items, raters, scores, m)
    pairs = float((m.astype(np.float64) ** 2).sum())
    if pairs > _PAIRS:
        kept = generator.permutation(len(m))[: max(1, int(len(m) * _PAIRS / pairs))]
        inside = np.isin(items, kept)
        items, raters, scores = items[inside], raters[inside], scores[inside]
    shape = (len(m), n_raters)
    rows = [
        sparse.csr_matrix((data, (items, raters)), shape) for data in (np.ones(len(items)), scores, scores**2)
    ]
    per_pair = sparse.diags(1 / (m - 1))
    ones, values, squares = rows
    met = (ones.T @ per_pair @ ones).toarray()
    crossed = (squares.T @ per_pair @ ones).toarray()
    apart = crossed + crossed.T - 2 * (values.T @ per_pair @ values).toarray()
    for table in (met, apart):
        np.fill_diagonal(table, 0.0)
    own = np.stack(
        [np.bincount(raters, x, n_raters) for x in (np.ones(len(items)), scores, scores**2)], axis=1
    )
    weights = generator.multinomial(n_raters, np.full(n_raters, 1 / n_raters), n_draws).astype(np.float64)
    n, total, squared = (np.einsum("dr,r->d", weights, column) for column in own.T)
    observed, together = _quadratic(weights, apart), _quadratic(weights, met)
    chance = 2 * (n * squared - total**2) / (n * (n - 1))
    return 1 - observed / np.where(together > 0, together, np.nan) / np.where(
        chance > 0, chance, np.nan
    ), share


def _quadratic(weights: Array, table: Array) -> Array:
    """Return w'Tw of each row w, added up in an order that no number of threads changes."""
    found = np.empty(len(weights))
    for place, row in enumerate(weights):
        drawn = np.flatnonzero(row)
        found[place] = (table[np.ix_(drawn, drawn)] * np.outer(row[drawn], row[drawn])).sum()
    return found


def _own_share(items: Indices, raters: Indices, scores: Array, m: Indices) -> float:
    """Return the square root of the share of the raters' variance that is not of single answers.

    By each rating's linear part in alpha: summed within raters, and each alone.
    """
    n = len(items)
    total, squares = np.bincount(items, scores), np.bincount(items, scores**2)
    apart = (m[items] * scores**2 - 2 * scores * total[items] + squares[items]) / (m[items] - 1)
    observed = float(apart.sum() / n)
    centred = scores - scores.sum() / n
    chance = 2 * float((centred**2).sum() / n)
    if chance == 0:
        return 0.0
    part = (-2 * (apart - observed) + observed / chance * (2 * centred**2 - chance)) / (n * chance)
    within, alone = float((np.bincount(raters, part) ** 2).sum()), float((part**2).sum())
    return float(np.sqrt(max(0.0, 1 - alone / within))) if within > 0 else 0.0
