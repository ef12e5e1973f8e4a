"""Agreement of raters who all judged the same items: intraclass correlations, and Kendall's W."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

_HIGH = 0.975


@dataclass(frozen=True)
class Estimate:
    """One coefficient and its 95 per cent interval."""

    value: float
    lower: float
    upper: float


def intraclass(x: Array) -> dict[str, Estimate]:
    """Return the six intraclass correlations; none if the ratings do not vary at all.

    (1, ·) other raters for each item; (2, ·) these raters, drawn from many; (3, ·) just these raters, and
    differences of level do not count. (·, 1) a single rating, (·, k) the mean of all k.

    Args:
        x: ``(n_items, n_raters)``, both 2 or more.

    References:
        Shrout and Fleiss 1979, Psychological Bulletin 86:420; McGraw and Wong 1996 (the intervals).
    """
    n, k = x.shape
    grand = x.mean()
    between = k * float(((x.mean(axis=1) - grand) ** 2).sum()) / (n - 1)
    judges = n * float(((x.mean(axis=0) - grand) ** 2).sum()) / (k - 1)
    all_ = float(((x - grand) ** 2).sum())
    within = max(all_ - between * (n - 1), 0.0) / (n * (k - 1))
    error = max(all_ - between * (n - 1) - judges * (k - 1), 0.0) / ((n - 1) * (k - 1))
    if all_ == 0:
        return {}
    one = _single(between, within, n, k, n * (k - 1))
    three = _single(between, error, n, k, (n - 1) * (k - 1))
    two = _agreement(between, judges, error, n, k)
    found = {"1": one, "2": two, "3": three}
    singles = {f"ICC({model},1)": estimate for model, estimate in found.items()}
    return singles | {f"ICC({model},k)": _mean_of(estimate, k) for model, estimate in found.items()}


def kendall(x: Array) -> tuple[Estimate, float, float]:
    """Return W, corrected for ties, W uncorrected, and p of no concordance.

    The interval is Kendall and Babington Smith's F turned round, as that of ICC(3, k) is.

    Args:
        x: ``(n_items, n_raters)``; not all of a rater's labels equal for at least one rater.

    References:
        Kendall and Babington Smith 1939, Annals of Mathematical Statistics 10:275.
    """
    n, k = x.shape
    ranks = stats.rankdata(x, axis=0)
    sums = ranks.sum(axis=1)
    scatter = 12 * float(((sums - sums.mean()) ** 2).sum())
    ties = sum(
        float((count**3 - count).sum())
        for column in x.T
        for count in [np.unique(column, return_counts=True)[1]]
    )
    w = scatter / (k**2 * (n**3 - n) - k * ties)
    free = n - 1 - 2 / k
    f = (k - 1) * w / (1 - w) if w < 1 else np.inf
    bounds = [f / stats.f.ppf(_HIGH, free, (k - 1) * free), f * stats.f.ppf(_HIGH, (k - 1) * free, free)]
    lower, upper = (bound / (k - 1 + bound) if np.isfinite(bound) else 1.0 for bound in bounds)
    p = float(stats.chi2.sf(k * (n - 1) * w, n - 1))
    return Estimate(w, float(lower), float(upper)), scatter / (k**2 * (n**3 - n)), p


def _single(between: float, rest: float, n: int, k: int, free: int) -> Estimate:
    f = between / rest if rest > 0 else np.inf
    low, high = f / stats.f.ppf(_HIGH, n - 1, free), f * stats.f.ppf(_HIGH, free, n - 1)
    value, lower, upper = (_from_f(ratio, k) for ratio in (f, low, high))
    return Estimate(value, lower, upper)


def _from_f(f: float, k: int) -> float:
    return 1.0 if np.isinf(f) else float((f - 1) / (f + k - 1))


def _agreement(between: float, judges: float, error: float, n: int, k: int) -> Estimate:
    value = (between - error) / (between + (k - 1) * error + k * (judges - error) / n)
    if error == 0:
        return Estimate(value, value, value)
    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    free = (a * judges + b * error) ** 2 / (
        (a * judges) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    rest = k * judges + (k * n - k - n) * error
    low, high = stats.f.ppf(_HIGH, n - 1, free), stats.f.ppf(_HIGH, free, n - 1)
    lower = n * (between - low * error) / (low * rest + n * between)
    upper = n * (high * between - error) / (rest + n * high * between)
    return Estimate(float(value), float(lower), float(upper))


def _mean_of(single: Estimate, k: int) -> Estimate:
    """Spearman and Brown's step from one rating to the mean of k, the ends of the interval too."""
    value, lower, upper = (k * r / (1 + (k - 1) * r) for r in (single.value, single.lower, single.upper))
    return Estimate(value, lower, upper)
