"""What is true of each item, and how often each rater says so, from the answers alone.

Item i has one true label; rater r answers l where k is true with probability θ[r, k, l], whatever the others
say. Expectation maximisation finds the prevalence of the labels and every θ.

References:
    Dawid and Skene 1979, Applied Statistics 28:20.
    Varadhan and Roland 2008, Scandinavian Journal of Statistics 35:335 (SQUAREM, the longer steps).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TOLERANCE = 1e-9
"""Change of the log-likelihood in one step of EM that ends it."""

MOST_STEPS = 100_000
_NEVER = 1e-300
"""Stands for a probability of 0, whose logarithm there is none of."""

_AT_ONCE, _ROWS = 100_000, 1_000_000
"""Items that are compared together; rows that are counted together."""

_FEWER = 0.5
"""Share of different rows up to which equal rows are worth putting together."""


@dataclass(frozen=True)
class Fit:
    """What was found.

    Attributes:
        prevalence: ``(k,)`` of each label among the items.
        confusion: ``(n_raters, k, k)``: of rater r, true label, answer; 0 throughout where r was never asked.
        counts: ``(n_raters, k, k)`` expected numbers behind it.
        truth: ``(n_items, k)`` probability of each label; NaN for an item that nobody answered.
        log_likelihood: At the end.
        gains: What each step added to it, in order; none is below 0 but for rounding.
        converged: The last step of EM added less than the tolerance.
        variance: ``(n_raters, k, k)`` covariance of the diagonal of a rater's confusion, from the observed
            scores of these parameters, the other raters' taken as given.
        prevalence_variance: ``(k,)``, likewise.
    """

    prevalence: Array
    confusion: Array
    counts: Array
    truth: Array
    log_likelihood: float
    gains: tuple[float, ...]
    converged: bool
    variance: Array
    prevalence_variance: Array


class _Parameters(NamedTuple):
    prevalence: Array
    """``(k,)``"""
    answers: Array
    """``(n_raters * k, k)``: rater and answer, then true label."""


class _Expected(NamedTuple):
    truth: Array
    each: Array
    """``(n_rows,)`` log-likelihood of each row."""


class _Answers(NamedTuple):
    """Items that were answered alike are one row.

    Attributes:
        given: ``(n_rows, n_raters * k)`` how often a rater gave an answer.
        weight: ``(n_rows,)`` items a row stands for.
        row_of: ``(n_items,)``, -1 for none.
    """

    given: sparse.csr_matrix
    back: sparse.csc_matrix
    weight: Array
    row_of: Indices

    @property
    def n_items(self) -> int:
        """Items with an answer."""
        return int((self.row_of >= 0).sum())


def fit(
    items: npt.ArrayLike,
    raters: npt.ArrayLike,
    labels: npt.ArrayLike,
    n_items: int,
    n_raters: int,
    n_labels: int,
    most_steps: int = MOST_STEPS,
) -> Fit:
    """Maximise the likelihood by EM from each item's shares of answers, until a step gains less than 1e-9.

    Two steps of EM give the direction and length of a longer one (SQUAREM), which is taken only if the
    likelihood does not fall by it. Gains are summed item by item, so that they are exact to far below the
    rounding of the sum itself.

    Args:
        items: ``(n,)`` whole numbers below ``n_items``; an item may be answered again by the same rater.
        raters: ``(n,)``, below ``n_raters``.
        labels: ``(n,)``, below ``n_labels``.
        n_items: How many items; one may have no answers.
        n_raters: How many raters.
        n_labels: How many labels.
        most_steps: Where the model does not fit, the likelihood is flat and EM all but endless: so many steps
            end it, not converged.

    Determinism:
        The same bits for every order of the rows. Raters are added up in the order of their numbers: number
        them by something that outlasts a change of names.
    """
    answers = _answers(np.asarray(items), np.asarray(raters), np.asarray(labels), n_items, n_raters, n_labels)
    now = _maximise(answers, _shares(answers, n_labels), n_labels)
    expected = _expect(answers, now)
    gains: list[float] = []
    converged = not len(answers.weight)
    while not converged and len(gains) < most_steps:
        first = _maximise(answers, expected.truth, n_labels)
        expected_1 = _expect(answers, first)
        gains.append(_gain(answers, expected, expected_1))
        converged = abs(gains[-1]) < TOLERANCE
        if converged:
            now, expected = first, expected_1
            break
        second = _maximise(answers, expected_1.truth, n_labels)
        further = _extrapolated(now, first, second, n_labels)
        expected_2 = _expect(answers, further)
        gain = _gain(answers, expected_1, expected_2)
        if not gain >= 0:
            further, expected_2 = second, _expect(answers, second)
            gain = _gain(answers, expected_1, expected_2)
        gains.append(gain)
        now, expected = further, expected_2
    return _found(answers, now, expected, tuple(gains), converged, n_labels)


def _answers(
    items: npt.NDArray[np.integer],
    raters: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
    n_items: int,
    n_raters: int,
    n_labels: int,
) -> _Answers:
    width = n_raters * n_labels
    code = items.astype(np.int64)
    code *= width
    for start in range(0, len(code), _ROWS):
        own = slice(start, start + _ROWS)
        code[own] += raters[own].astype(np.int64) * n_labels + labels[own]
    code.sort()
    lengths = np.zeros(n_items, np.int64)
    for start in range(0, len(items), _ROWS):
        lengths += np.bincount(items[start : start + _ROWS], minlength=n_items)
    code %= width
    columns = code.astype(np.int32)
    del code
    answered = np.flatnonzero(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths[answered])])
    given = sparse.csr_matrix(
        (np.ones(len(columns), np.int8), columns, starts), shape=(len(answered), width), copy=False
    )
    row_of = np.full(n_items, -1)
    first, inverse, weight = _alike(columns, starts[:-1], width)
    if len(first) < _FEWER * len(answered):
        given = given[first]
    else:
        inverse, weight = np.arange(len(answered)), np.ones(len(answered), np.int64)
    row_of[answered] = inverse
    given = given.astype(np.float64)
    return _Answers(given, given.T, weight.astype(np.float64), row_of)


def _alike(columns: npt.NDArray[np.int32], starts: Indices, width: int) -> tuple[Indices, Indices, Indices]:
    """Return the first of each kind of equal rows, the kind of each row, and how many it has.

    By the sum of 64 random bits a column: two of a million unequal rows agree with a chance of 3e-8.
    """
    if not len(starts):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    bits = np.random.Generator(np.random.Philox(0)).integers(0, 2**64, width, np.uint64)
    marks = np.empty(len(starts), np.uint64)
    for row in range(0, len(starts), _AT_ONCE):
        own = starts[row : row + _AT_ONCE]
        end = starts[row + _AT_ONCE] if row + _AT_ONCE < len(starts) else len(columns)
        marks[row : row + _AT_ONCE] = np.add.reduceat(bits[columns[own[0] : end]], own - own[0])
    _, first, inverse, weight = np.unique(marks, return_index=True, return_inverse=True, return_counts=True)
    return first.astype(np.int64), inverse.reshape(-1).astype(np.int64), weight.astype(np.int64)


def _shares(answers: _Answers, n_labels: int) -> Array:
    """Where to begin: of each row's answers, the share of each label."""
    n_raters = answers.given.shape[1] // n_labels
    votes: Array = answers.given @ np.tile(np.eye(n_labels), (n_raters, 1))
    shares: Array = votes / votes.sum(axis=1, keepdims=True)
    return shares


def _maximise(answers: _Answers, truth: Array, n_labels: int) -> _Parameters:
    # Where every row is one item the product would be a copy.
    weighted = truth if len(answers.weight) == answers.n_items else truth * answers.weight[:, None]
    counts: Array = answers.back @ weighted
    asked = counts.reshape(-1, n_labels, n_labels).sum(axis=1, keepdims=True)
    shares = counts.reshape(-1, n_labels, n_labels) / np.where(asked > 0, asked, 1)
    total = np.array([column.sum() for column in weighted.T])
    return _Parameters(total / max(total.sum(), 1), shares.reshape(counts.shape))


def _expect(answers: _Answers, now: _Parameters) -> _Expected:
    joint: Array = answers.given @ np.log(np.maximum(now.answers, _NEVER))
    # Column by column: numpy is slow along a short last axis.
    for column, log_prevalence in zip(joint.T, np.log(np.maximum(now.prevalence, _NEVER)), strict=True):
        column += log_prevalence
    most = joint[:, 0].copy()
    for column in joint.T[1:]:
        np.maximum(most, column, out=most)
    for column in joint.T:
        column -= most
    np.exp(joint, out=joint)
    total = joint[:, 0].copy()
    for column in joint.T[1:]:
        total += column
    for column in joint.T:
        column /= total
    return _Expected(joint, np.log(total) + most)


def _gain(answers: _Answers, before: _Expected, after: _Expected) -> float:
    return float(np.sum(answers.weight * (after.each - before.each)))


def _extrapolated(zero: _Parameters, one: _Parameters, two: _Parameters, n_labels: int) -> _Parameters:
    step = [b - a for a, b in zip(zero, one, strict=True)]
    bend = [c - b - s for b, c, s in zip(one, two, step, strict=True)]
    straight = np.sqrt(sum(float(np.sum(b * b)) for b in bend))
    length = max(1.0, np.sqrt(sum(float(np.sum(s * s)) for s in step)) / straight) if straight else 1.0
    prevalence, answers = (
        # Nothing leaves 0, and nothing reaches it but by EM.
        np.where(last > 0, np.maximum(start + 2 * length * s + length**2 * b, last * 1e-3), 0.0)
        for start, s, b, last in zip(zero, step, bend, two, strict=True)
    )
    cube = answers.reshape(-1, n_labels, n_labels)
    asked = cube.sum(axis=1, keepdims=True)
    return _Parameters(
        prevalence / prevalence.sum(), (cube / np.where(asked > 0, asked, 1)).reshape(answers.shape)
    )


def _found(
    answers: _Answers, now: _Parameters, last: _Expected, gains: tuple[float, ...], converged: bool, k: int
) -> Fit:
    weighted = last.truth * answers.weight[:, None]
    counts = (answers.back @ weighted).reshape(-1, k, k).transpose(0, 2, 1)
    truth = np.full((len(answers.row_of), k), np.nan)
    truth[answers.row_of >= 0] = last.truth[answers.row_of[answers.row_of >= 0]]
    spread = now.prevalence * (1 - now.prevalence)
    scores = (answers.weight[:, None] * (last.truth - now.prevalence) ** 2).sum(axis=0)
    return Fit(
        prevalence=now.prevalence,
        confusion=now.answers.reshape(-1, k, k).transpose(0, 2, 1),
        counts=counts,
        truth=truth,
        log_likelihood=float(np.sum(answers.weight * last.each)),
        gains=gains,
        converged=converged,
        variance=_diagonal_variance(answers, weighted, last.truth, counts, k),
        prevalence_variance=spread**2 / np.where(scores > 0, scores, np.inf),
    )


def _diagonal_variance(answers: _Answers, weighted: Array, truth: Array, counts: Array, k: int) -> Array:
    """Invert the sum of squared scores of each rater's k rates of right answers.

    The score of the rate a_k in one answer is P(k is true) (1[answer is k] - a_k) / (a_k (1 - a_k)). What the
    unknown truth costs is thereby counted: an item whose truth is open says less.
    """
    products = np.stack([weighted[:, j] * truth[:, i] for j in range(k) for i in range(k)], axis=1)
    joint = (answers.back @ products).reshape(-1, k, k, k)  # rater, answer, j, i
    asked = counts.sum(axis=2)
    rate = (np.einsum("rkk->rk", counts) + 0.5) / (asked + 1)  # half an answer keeps it off 0 and 1
    score = (np.eye(k)[None] - rate[:, None, :]) / (rate * (1 - rate))[:, None, :]  # rater, answer, k
    information = np.einsum("rlji,rlj,rli->rji", joint, score, score)
    # A label that is hardly ever true tells little: one more answer's worth keeps this invertible.
    information += np.eye(k)[None] / (rate * (1 - rate))[:, :, None]
    inverse: Array = np.linalg.inv(information)
    return inverse
