"""How far each rater's yes and no can be trusted, estimated without a known right answer.

Rater j says yes with probability α_j when the action is right and β_j when it is wrong. Expectation
maximisation finds both from the answers and from a probability, per row, that the action was right.

References:
    Dawid & Skene 1979; Raykar et al. 2010 (the classifier as the prior of the truth).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from rlhf_audit.errors import UsageError

Array = npt.NDArray[np.float64]

PRIOR_YES_WHEN_RIGHT = 0.8
PRIOR_YES_WHEN_WRONG = 0.2
PRIOR_STRENGTH = 2.0

_CLEAR = 0.25
_IDENTIFIED = 0.1
_FEWEST_ANSWERS = 10


class Verdict(StrEnum):
    """What a rater's answers say about the truth."""

    GOOD = "good"
    UNINFORMATIVE = "uninformative"
    INVERTED = "inverted"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True)
class Reliability:
    """One rater's.

    Attributes:
        yes_when_right: α, probability of a yes to a right action.
        yes_when_wrong: β, probability of a yes to a wrong one.
        n: Answers it rests on.
    """

    yes_when_right: float = PRIOR_YES_WHEN_RIGHT
    yes_when_wrong: float = PRIOR_YES_WHEN_WRONG
    n: int = 0

    @property
    def informedness(self) -> float:
        """α − β (Youden's J): 1 for a perfect rater, 0 for one who says nothing, −1 for a perfect inverse."""
        return self.yes_when_right - self.yes_when_wrong


@dataclass(frozen=True)
class ReliabilityFit:
    """What EM found.

    Attributes:
        raters: By rater index.
        right: ``(n,)`` posterior probability that each row's action was right.
        objective: Log-likelihood plus log-prior before each M-step and after the last; it never falls.
        converged: The last move was below the tolerance.
    """

    raters: tuple[Reliability, ...]
    right: Array
    objective: tuple[float, ...]
    converged: bool


def fit(
    right_prior: npt.ArrayLike,
    values: npt.ArrayLike,
    raters: npt.ArrayLike,
    n_raters: int,
    start: Sequence[Reliability] | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-9,
) -> ReliabilityFit:
    """Estimate every rater's α and β by EM.

    E: r = l₁p / (l₁p + l₀(1 − p)), with l₁ and l₀ the likelihood of the answer if right and if wrong.
    M: smoothed counts, α = (Σ r f + .8 s) / (Σ r + s) and β = (Σ (1 − r) f + .2 s) / (Σ (1 − r) + s), s = 2:
    the mode under Beta priors. Identifiable only while honest raters carry the majority, see ``identified``.

    Args:
        right_prior: ``(n,)`` p, probability that the judged action is right, from a policy that did not see
            the row (cross-fitted). 0 or 1 makes the row a gold item, whose truth is known.
        values: ``(n,)``, 1 for yes and 0 for no.
        raters: ``(n,)`` rater indices.
        n_raters: How many raters; one without rows keeps the prior's mean.
        start: Where to begin; the prior's mean by default.
        max_iterations: Bound on M-steps.
        tolerance: The largest move of any α or β that ends it.

    Raises:
        UsageError: The arrays do not fit each other.
    """
    p, f, rater = np.asarray(right_prior, float), np.asarray(values, float), np.asarray(raters, np.int64)
    _check(p, f, rater, n_raters)
    n = np.bincount(rater, minlength=n_raters)
    begin = start or [Reliability()] * n_raters
    alpha = np.array([reliability.yes_when_right for reliability in begin])
    beta = np.array([reliability.yes_when_wrong for reliability in begin])
    right, value = _expect(p, f, rater, alpha, beta)
    objective = [value]
    converged = False
    while not converged and len(objective) <= max_iterations:
        before = np.concatenate([alpha, beta])
        alpha = _smoothed(right, f, rater, n_raters, PRIOR_YES_WHEN_RIGHT)
        beta = _smoothed(1 - right, f, rater, n_raters, PRIOR_YES_WHEN_WRONG)
        right, value = _expect(p, f, rater, alpha, beta)
        # By α and β, not by the objective: a logarithm's last bit is not the same on every CPU.
        converged = bool(np.abs(np.concatenate([alpha, beta]) - before).max(initial=0.0) < tolerance)
        objective.append(value)
    found = [Reliability(float(a), float(b), int(c)) for a, b, c in zip(alpha, beta, n, strict=True)]
    return ReliabilityFit(tuple(found), right, tuple(objective), converged)


def identified(raters: Sequence[Reliability]) -> bool:
    """Tell whether the fit may be claimed at all.

    The likelihood is the same when right and wrong change places and every rater is turned round. What tells
    the two apart is that honest raters carry the majority; where the mean informedness of an answer is near
    0, the symmetric point, nothing does, and no verdict may be given without gold items or trusted raters.
    """
    n = sum(reliability.n for reliability in raters)
    if n == 0:
        return False
    return sum(reliability.n * reliability.informedness for reliability in raters) / n > _IDENTIFIED


def verdict(reliability: Reliability) -> Verdict:
    """Sort a rater by informedness: above .25 good, below −.25 inverted, else uninformative.

    Fewer than 10 answers are insufficient for any of them. Ask ``identified`` first.

    >>> verdict(Reliability(0.95, 0.05, 40)), verdict(Reliability(0.97, 0.96, 40))
    (<Verdict.GOOD: 'good'>, <Verdict.UNINFORMATIVE: 'uninformative'>)
    """
    if reliability.n < _FEWEST_ANSWERS:
        return Verdict.INSUFFICIENT
    if reliability.informedness > _CLEAR:
        return Verdict.GOOD
    return Verdict.INVERTED if reliability.informedness < -_CLEAR else Verdict.UNINFORMATIVE


def _check(p: Array, f: Array, rater: npt.NDArray[np.int64], n_raters: int) -> None:
    lengths = {len(p), len(f), len(rater)}
    if len(lengths) != 1:
        raise UsageError(
            "answers and probabilities do not fit", seen=f"lengths {sorted(lengths)}", needed="one"
        )
    if len(rater) and not (rater.min() >= 0 and rater.max() < n_raters):
        raise UsageError("a rater index is out of range", needed=f"0 to {n_raters - 1}")
    if not (((p >= 0) & (p <= 1)).all() and ((f == 0) | (f == 1)).all()):
        raise UsageError("an answer is 0 or 1, and a probability lies in between")


def _expect(
    p: Array, f: Array, rater: npt.NDArray[np.int64], alpha: Array, beta: Array
) -> tuple[Array, float]:
    if_right = p * np.where(f > 0.5, alpha[rater], 1 - alpha[rater])
    if_wrong = (1 - p) * np.where(f > 0.5, beta[rater], 1 - beta[rater])
    both = if_right + if_wrong
    return if_right / both, float(np.log(both).sum()) + _log_prior(alpha, beta)


def _log_prior(alpha: Array, beta: Array) -> float:
    s, a, b = PRIOR_STRENGTH, PRIOR_YES_WHEN_RIGHT, PRIOR_YES_WHEN_WRONG
    terms = a * np.log(alpha) + (1 - a) * np.log(1 - alpha) + b * np.log(beta) + (1 - b) * np.log(1 - beta)
    return float(s * terms.sum())


def _smoothed(share: Array, f: Array, rater: npt.NDArray[np.int64], n_raters: int, prior: float) -> Array:
    yes = np.bincount(rater, share * f, n_raters)
    total = np.bincount(rater, share, n_raters)
    smoothed: Array = (yes + PRIOR_STRENGTH * prior) / (total + PRIOR_STRENGTH)
    return smoothed
