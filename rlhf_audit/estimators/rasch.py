"""How severe each rater is and how well each fits, on one logit scale: many-facet Rasch models.

The probability of label k (0, 1, …) is proportional to exp(k η − F_gk), where η is the sum of the other
facets' measures less the rater's severity, and F_g the cumulative thresholds of the answer's group: one group
for the rating-scale model, several for partial credit.

References:
    Andrich 1978 (rating scale); Masters 1982 (partial credit); Linacre 1989 (facets, joint estimation, fixed
    χ², separation); Wright and Masters 1982 (infit and outfit); Sage 2021 (cut-offs by parametric bootstrap).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from rlhf_audit.errors import UsageError

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_LONGEST_STEP = 1.0


@dataclass(frozen=True)
class RaschFit:
    """What joint maximum likelihood found.

    Attributes:
        measures: Of each facet, ``(levels,)`` logits; the first facet's are severities: higher answers lower.
        errors: Standard errors of the measures, from the information of each alone.
        thresholds: ``(groups, labels)`` cumulative F; infinite for a label that the group lacks.
        probabilities: ``(n, labels)`` of each label in each row, as fitted.
        log_likelihood: Of the rows.
        converged: The last move was below the tolerance.
    """

    measures: tuple[Array, ...]
    errors: tuple[Array, ...]
    thresholds: Array
    probabilities: Array
    log_likelihood: float
    converged: bool


@dataclass(frozen=True)
class Spread:
    """Whether severities differ by more than their errors.

    Attributes:
        chi2: Fixed-effect χ² of equal severities, with ``df`` degrees of freedom.
        reliability: Share of the severities' variance that is no error.
    """

    chi2: float
    df: int
    reliability: float


def fit(
    counts: npt.ArrayLike,
    facets: Sequence[Indices],
    groups: Indices | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-12,
) -> RaschFit:
    """Estimate all measures and thresholds by joint maximum likelihood.

    Each facet in turn takes a Newton step, then the thresholds one of proportional fitting, until nothing
    moves. With one group its thresholds average 0, and so does every facet but the first; with several groups
    the first facet does instead.

    Args:
        counts: ``(n, labels)`` how often each label was given in each cell.
        facets: Of each facet ``(n,)`` levels, from 0; the first is the rater, who lowers the label.
        groups: ``(n,)`` whose thresholds a row follows; one for all if None.
        max_iterations: Bound on rounds.
        tolerance: The largest move, in logits, that ends it.

    Raises:
        UsageError: A level gave only the lowest, or only the highest, labels that it could: it has no finite
            measure, and must be left out.
    """
    n_k = np.asarray(counts, float)
    group = np.zeros(len(n_k), np.int64) if groups is None else groups
    labels = np.arange(n_k.shape[1])
    observed = _by_group(n_k, group)
    if any(extreme(n_k, levels, group).any() for levels in facets):
        raise UsageError("a level with nothing but extreme answers has no measure", needed="leave it out")
    with np.errstate(divide="ignore"):
        thresholds = -np.log(observed)
    thresholds -= np.min(thresholds, axis=1, keepdims=True)
    measures = [np.zeros(int(levels.max(initial=-1)) + 1) for levels in facets]
    totals = n_k.sum(axis=1)
    move, rounds = np.inf, 0
    while move >= tolerance and rounds < max_iterations:
        move, rounds = 0.0, rounds + 1
        for j, levels in enumerate(facets):
            p = _probabilities(measures, facets, thresholds, group)
            step = _newton_step(n_k, p, levels) * (-1 if j == 0 else 1)
            measures[j] = measures[j] + step
            if j or groups is not None:
                shift = measures[j].mean()
                measures[j] = measures[j] - shift
                step = step - step.mean()
                if j == 0:  # what the raters lose the thresholds gain: nothing fitted moves
                    thresholds = thresholds + shift * labels
            move = max(move, float(np.abs(step).max(initial=0.0)))
        p = _probabilities(measures, facets, thresholds, group)
        step = _fitting_step(observed, _by_group(p * totals[:, None], group))
        thresholds = thresholds + step
        move = max(move, float(np.abs(step - step.mean(axis=1, keepdims=True)).max(initial=0.0)))
    _place(measures, thresholds, free=groups is None)
    p = _probabilities(measures, facets, thresholds, group)
    variance = _moments(p, labels)[1]
    errors = [1 / np.sqrt(np.bincount(levels, totals * variance)) for levels in facets]
    given = n_k > 0
    likelihood = float((n_k[given] * np.log(p[given])).sum())
    return RaschFit(tuple(measures), tuple(errors), thresholds, p, likelihood, move < tolerance)


def extreme(counts: Array, levels: Indices, groups: Indices) -> npt.NDArray[np.bool_]:
    """Tell of each level whether it gave only the lowest, or only the highest, labels of its groups."""
    present = _by_group(counts, groups) > 0
    labels = np.arange(counts.shape[1])
    least = np.where(present, labels, counts.shape[1]).min(axis=1)[groups]
    most = np.where(present, labels, -1).max(axis=1)[groups]
    totals, score = counts.sum(axis=1), counts @ labels
    above = np.bincount(levels, score - totals * least)
    below = np.bincount(levels, totals * most - score)
    return np.asarray((above == 0) | (below == 0))


def mean_squares(counts: Array, probabilities: Array, levels: Indices) -> tuple[Array, Array]:
    """Return infit and outfit of each level: squared residuals over their variance, weighted by it or not.

    Args:
        counts: ``(…, n, labels)``; leading axes are kept.
        probabilities: ``(n, labels)``.
        levels: ``(n,)``, sorted.
    """
    labels = np.arange(probabilities.shape[1])
    mean, variance = _moments(probabilities, labels)
    squares = (counts * (labels - mean[:, None]) ** 2).sum(axis=-1)
    totals = counts.sum(axis=-1)
    starts = np.flatnonzero(np.diff(levels, prepend=-1))
    some = variance > 0
    outfit = np.divide(squares, variance, out=np.zeros_like(squares), where=some)

    def sums(per_row: Array) -> Array:
        return np.add.reduceat(per_row, starts, axis=-1)

    return sums(squares) / sums(totals * variance), sums(outfit) / sums(totals * some)


def errors_off_the_mean(
    counts: Array, probabilities: Array, levels: Indices, groups: Indices, size: Array
) -> Array:
    """Return the standard error of each level's distance from the mean, where thresholds are estimated too.

    It is the inverse of the measures' information, less what the thresholds take of it: a level that is far
    from the others knows less of its thresholds than they do.

    Args:
        counts: ``(n, labels)``, of all raters of the level.
        probabilities: ``(n, labels)`` as fitted.
        levels: ``(n,)`` from 0.
        groups: ``(n,)`` from 0.
        size: ``(levels,)`` raters who are taken for one level, as they answered alike.
    """
    labels = np.arange(counts.shape[1])
    totals = counts.sum(axis=1)
    mean, variance = _moments(probabilities, labels)
    own = np.bincount(levels, totals * variance)
    apart = totals[:, None] * probabilities * (labels - mean[:, None])
    taken = np.zeros((len(size), int(groups.max()) + 1, len(labels) - 1))
    np.add.at(taken, (levels, groups), apart[:, 1:])
    share = np.einsum("lgj,gjk->lgk", taken, _inverse_by_group(totals, probabilities, groups))
    flat = taken.reshape(len(size), -1), share.reshape(len(size), -1)
    information = np.diag(own) - np.einsum("lx,mx->lm", *flat)
    met = sparse.coo_matrix((np.ones(len(levels)), (levels, groups))).astype(bool)
    together = csgraph.connected_components(met @ met.T, directed=False)[1]
    # A shift of all that met leaves the likelihood as it is: something is added there, and drops out.
    inverse = _inverse(information + own.mean() * (together[:, None] == together))
    weight = size / size.sum()
    of_mean = (inverse * weight).sum(axis=1)
    centred = inverse.diagonal() - 2 * of_mean + (of_mean * weight).sum()
    return np.asarray(np.sqrt(centred + (size - 1) / own))


def replicates(counts: Array, probabilities: Array, draws: int, random: np.random.Generator) -> Array:
    """Draw ``(draws, n, labels)`` tables that the model might have given, each row of as many answers."""
    totals = counts.sum(axis=1).astype(np.int64)
    return random.multinomial(totals, probabilities, size=(draws, len(totals))).astype(float)


def spread(severities: Array, errors: Array) -> Spread:
    """Return fixed χ² and separation reliability, never below 0."""
    weights = 1 / errors**2
    chi2 = float((weights * severities**2).sum() - (weights * severities).sum() ** 2 / weights.sum())
    variance = float(severities.var(ddof=1))
    reliability = max(0.0, 1 - float((errors**2).mean()) / variance) if variance > 0 else 0.0
    return Spread(chi2, len(severities) - 1, reliability)


def _newton_step(counts: Array, probabilities: Array, levels: Indices) -> Array:
    labels = np.arange(counts.shape[1])
    totals = counts.sum(axis=1)
    mean, variance = _moments(probabilities, labels)
    surplus = np.bincount(levels, counts @ labels - totals * mean)
    step = surplus / np.bincount(levels, totals * variance)
    return np.asarray(np.clip(step, -_LONGEST_STEP, _LONGEST_STEP))


def _fitting_step(observed: Array, expected: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(observed > 0, np.log(expected / observed), 0.0)


def _inverse_by_group(totals: Array, probabilities: Array, groups: Indices) -> Array:
    """Return ``(groups, labels - 1, labels - 1)``: the inverse information of each group's thresholds."""
    p = probabilities[:, 1:]
    of_row = totals[:, None, None] * (p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :])
    found = np.zeros((int(groups.max()) + 1, *of_row.shape[1:]))
    np.add.at(found, groups, of_row)
    # the lowest label of a group is what the others are measured from, and one that it lacks has none
    given = _by_group(totals[:, None] * probabilities, groups) > 0
    lowest = given.argmax(axis=1)
    free = given[:, 1:] & (np.arange(1, probabilities.shape[1]) != lowest[:, None])
    both = free[:, :, None] & free[:, None, :]
    inverse = np.linalg.inv(np.where(both, found, np.eye(p.shape[1])))
    return np.where(both, inverse, 0.0)


def _inverse(table: Array) -> Array:
    """Invert a positive definite matrix by Gauss and Jordan: no number of threads changes a bit."""
    found = table.copy()
    for i in range(len(found)):
        pivot, row = found[i, i], found[i] / found[i, i]
        column = found[:, i].copy()
        column[i] = 0.0
        found -= column[:, None] * row
        found[:, i] = -column / pivot
        found[i] = row
        found[i, i] = 1 / pivot
    return found


def _by_group(rows: Array, groups: Indices) -> Array:
    columns = [np.bincount(groups, rows[:, k]) for k in range(rows.shape[1])]
    return np.stack(columns, axis=1)


def _probabilities(
    measures: Sequence[Array], facets: Sequence[Indices], thresholds: Array, groups: Indices
) -> Array:
    eta = -measures[0][facets[0]]
    for measure, levels in zip(measures[1:], facets[1:], strict=True):
        eta = eta + measure[levels]
    logits = eta[:, None] * np.arange(thresholds.shape[1]) - thresholds[groups]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _moments(probabilities: Array, labels: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    mean = probabilities @ labels
    return mean, np.maximum(probabilities @ labels**2 - mean**2, 0.0)


def _place(measures: list[Array], thresholds: Array, *, free: bool) -> None:
    """Fix what the likelihood leaves open, in place: label 0 has threshold 0; one group's average is 0."""
    if not free:
        return
    thresholds -= thresholds[:, :1]
    shift = thresholds[0, -1] / (thresholds.shape[1] - 1)
    thresholds -= shift * np.arange(thresholds.shape[1])
    measures[0] += shift
