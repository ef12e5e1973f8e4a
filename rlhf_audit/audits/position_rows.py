"""The audit of position bias: comparisons in, the odds of the side shown first out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from rlhf_audit.estimators import logistic

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

_Z = float(stats.norm.ppf(0.975))
_RANDOM_P = 0.01
_KNOWN = 0.9
_COVARIATES = ("first_earned_more", "others_prefer_first")
_ADJUSTED = "; adjusted for quality, as the side was not randomised"
_REFUSED = "refused: the side was not randomised, and no quality is known"


def rows(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return the rows of ``position_bias``.

    Determinism:
        Data are sorted by their own values before anything is added up.
    """
    names = np.array(table["rater_id"].to_pylist(), dtype=object)
    raters = sorted(set(names.tolist()))
    columns = {name: _floats(table[name]) for name in ("first_preferred", "n", *_COVARIATES)}
    columns["swapped"] = np.array([bool(one) for one in table["swapped"].to_pylist()], float)
    order = np.lexsort([columns[name] for name in sorted(columns)])
    names, columns = names[order], {name: column[order] for name, column in columns.items()}
    places = {rater: i for i, rater in enumerate(raters)}
    group = np.array([places[name] for name in names], np.int64)
    known = [name for name in _COVARIATES if _is_known(columns[name], columns["n"])]
    randomised = known and _looks_randomised(columns, known, parameters["n_randomised"])
    decided = columns["first_preferred"] != 0.5
    if randomised:
        return _plain(raters, group[decided], {k: v[decided] for k, v in columns.items()}, parameters)
    for name in known:
        decided &= np.isfinite(columns[name])
    chosen = {name: column[decided] for name, column in columns.items()}
    if not known:
        return [_refused(rater, int(n)) for rater, n in _counted(raters, group[decided], chosen)]
    return _adjusted(raters, group[decided], chosen, known, parameters)


def _plain(
    raters: list[str],
    group: npt.NDArray[np.int64],
    columns: Mapping[str, Array],
    parameters: Mapping[str, float],
) -> list[Row]:
    first = np.bincount(group, columns["n"] * (columns["first_preferred"] > 0.5), len(raters))
    found = []
    for (rater, n), k in zip(_counted(raters, group, columns), first, strict=True):
        if n == 0:
            found.append({**_refused(rater, 0), "note": "insufficient"})
            continue
        test = stats.binomtest(int(k), int(n), 0.5)
        ends = test.proportion_ci(method="wilson")
        ends = float(ends.low), float(ends.high)
        found.append(
            _row(rater, int(n), float(k / n), ends, float(test.pvalue), parameters["n_min"], parameters)
        )
    return found


def _adjusted(
    raters: list[str],
    group: npt.NDArray[np.int64],
    columns: Mapping[str, Array],
    known: list[str],
    parameters: Mapping[str, float],
) -> list[Row]:
    x = np.column_stack([columns[name] / _scale(columns[name], columns["n"]) for name in known])
    y = (columns["first_preferred"] > 0.5).astype(float)
    fitted = logistic.intercepts(y, x, columns["n"], group, len(raters))
    counted = _counted(raters, group, columns)
    judged = [fitted.value[i] for i, (_, n) in enumerate(counted) if n >= parameters["n_adjusted"]]
    middle = float(np.median(judged)) if judged else 0.0
    found = []
    for i, (rater, n) in enumerate(counted):
        if n == 0:
            found.append({**_refused(rater, 0), "note": "insufficient"})
            continue
        a, se = float(fitted.value[i]), float(fitted.error[i])
        ends = _odds(a - _Z * se), _odds(a + _Z * se)
        # What the covariates miss is alike for all: nobody is blamed for it.
        p = float(2 * stats.norm.sf(min(abs(fitted.score[i]), abs(a - middle) / se)))
        row = _row(rater, int(n), _odds(a), ends, p, parameters["n_adjusted"], parameters)
        beyond = _odds(a) - _odds(middle)
        if row["flagged"] and (abs(beyond) < parameters["threshold"] or beyond * a < 0):
            row |= {"flagged": False, "note": "as the panel does"}
        suffix = "" if row["note"] == "insufficient" else _ADJUSTED
        found.append({**row, "note": row["note"] + suffix})
    return found


def _looks_randomised(columns: Mapping[str, Array], known: list[str], fewest: float) -> bool:
    n, swapped = columns["n"], columns["swapped"]
    total = n.sum()
    if total < fewest:
        return False
    tests = [abs(float(2 * (n * swapped).sum() - total)) / float(np.sqrt(total))]
    for name in known:
        sure = np.isfinite(columns[name])
        x, w = columns[name][sure], n[sure]
        tests.append(abs(float((w * x).sum())) / float(np.sqrt((w * x * x).sum())))
    return all(2 * stats.norm.sf(z) >= _RANDOM_P for z in tests)


def _is_known(column: Array, n: Array) -> bool:
    sure = np.isfinite(column)
    return bool(n[sure].sum() >= _KNOWN * n.sum() and len(np.unique(np.abs(column[sure]))) > 1)


def _scale(column: Array, n: Array) -> float:
    return float(np.sqrt((n * column**2).sum() / n.sum())) if len(n) else 1.0


def _odds(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _counted(
    raters: list[str], group: npt.NDArray[np.int64], columns: Mapping[str, Array]
) -> list[tuple[str, float]]:
    return list(zip(raters, np.bincount(group, columns["n"], len(raters)).tolist(), strict=True))


def _row(
    rater: str,
    n: int,
    value: float,
    ends: tuple[float, float],
    p: float,
    n_min: float,
    parameters: Mapping[str, float],
) -> Row:
    large = abs(value - 0.5) >= parameters["threshold"]
    side = "prefers what was shown first" if value > 0.5 else "prefers what was shown second"
    enough = n >= n_min
    return {
        "subject": rater, "n": n, "value": value, "lower": ends[0], "upper": ends[1], "p": p,
        "flagged": bool(large and enough), "note": "insufficient" if not enough else side if large else "ok",
    }  # fmt: skip


def _refused(rater: str, n: int) -> Row:
    row: Row = dict.fromkeys(("value", "lower", "upper", "p"))
    return {"subject": rater, "n": n, **row, "flagged": False, "note": _REFUSED}


def _floats(column: pa.ChunkedArray) -> Array:
    return np.array([np.nan if one is None else one for one in column.to_pylist()], float)
