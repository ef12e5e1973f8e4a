"""The Rasch audits: cells of ratings in, severities and fit out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from rlhf_audit import seeds
from rlhf_audit.estimators import rasch

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Row = dict[str, Any]

_Z = float(stats.norm.ppf(0.975))
_MOST_LABELS = 10
_EXACT_UP_TO = 8
_BINS = 32
_FEW_RATERS = 200
"""Up to so many the error allows for the thresholds' own; among more it is theirs no longer (ours)."""


@dataclass(frozen=True)
class _Panel:
    """Ratings as cells of a rater and a class of items; raters who gave the same are one pattern.

    Attributes:
        raters: All names, sorted.
        pattern: ``(raters,)`` which pattern each has.
        counts: ``(cells, labels)``.
        owner: ``(cells,)`` pattern, sorted.
        group: ``(cells,)`` class of items.
    """

    raters: tuple[str, ...]
    pattern: Indices
    counts: Array
    owner: Indices
    group: Indices


@dataclass(frozen=True)
class _Fitted:
    """One fit.

    Attributes:
        severity: ``(patterns,)`` logits, 0 for the mean rater, without what joint estimation adds; NaN where
            there is no finite one.
        error: ``(patterns,)`` of it.
        n: ``(patterns,)`` answers to items of classes in which the raters did not all say the same.
        cells: Which of the panel's cells were fitted.
        probabilities: Of each label, in those cells.
    """

    severity: Array
    error: Array
    n: Indices
    cells: npt.NDArray[np.bool_]
    probabilities: Array


def severity_rows(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return the rows of ``rasch_severity``."""
    panel = _panel(table)
    found = _fitted(panel)
    severity, error = found.severity[panel.pattern], found.error[panel.pattern]
    n = found.n[panel.pattern]
    judged = np.isfinite(severity) & (n >= parameters["n_min"])
    middle = float(np.median(severity[judged])) if judged.any() else 0.0
    limit = parameters["threshold"]
    rows = []
    for i, rater in enumerate(panel.raters):
        if not np.isfinite(severity[i]):
            rows.append(_without(rater, int(n[i]), parameters))
            continue
        value, se = float(severity[i]), float(error[i])
        large = abs(value) >= limit and abs(value - middle) >= limit and value * (value - middle) > 0
        note = ("severe" if value > 0 else "lenient") if large else "ok"
        rows.append(
            {
                "subject": rater, "n": int(n[i]), "value": value,
                "lower": value - _Z * se, "upper": value + _Z * se,
                "flagged": bool(large and judged[i]), "note": note if judged[i] else "insufficient",
                "p": float(2 * stats.norm.sf(abs(value / se))), "family": "raters",
            }
        )  # fmt: skip
    order = np.flatnonzero(judged)[np.argsort(severity[judged], kind="stable")]
    return rows + _spread_rows(severity[order], error[order])


def fit_rows(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return the rows of ``rater_fit``.

    Determinism:
        A rater's draws are seeded by what the rater gave, so that names and their order do not matter.
    """
    panel = _panel(table)
    found = _fitted(panel)
    counts, owner = panel.counts[found.cells], panel.owner[found.cells]
    fits: dict[int, tuple[Array, Array]] = {}
    for i in np.flatnonzero(np.isfinite(found.severity)):
        own = slice(*np.searchsorted(owner, [i, i + 1]))
        fits[int(i)] = _fit_of_one(counts[own], found.probabilities[own], int(parameters["draws"]))
    usual = _usual_fit(fits, panel.pattern, found.n, parameters)
    rows = []
    for rater, i in zip(panel.raters, panel.pattern.tolist(), strict=True):
        n = int(found.n[i])
        for j, name in enumerate(("infit", "outfit")):
            subject = f"{rater}:{name}"
            if i in fits:
                seen, drawn = fits[i]
                rows.append(_fit_row(subject, n, (float(seen[j]), usual[j]), drawn[:, j], parameters))
            else:
                rows.append({**_without(subject, n, parameters), "statistic": None})
    return rows


def _fit_of_one(counts: Array, p: Array, draws: int) -> tuple[Array, Array]:
    """Return the logarithms of infit and outfit: as seen ``(2,)`` and as drawn ``(draws, 2)``."""
    one = np.zeros(len(counts), np.int64)
    digest = hashlib.sha256(counts.tobytes() + p.shape[1].to_bytes(8, "big")).hexdigest()
    random = seeds.generator(0, "rater_fit", digest)
    drawn = rasch.replicates(counts, p, draws, random)
    with np.errstate(divide="ignore"):
        seen_logs = np.log(np.concatenate(rasch.mean_squares(counts, p, one)))
        drawn_logs = np.log(np.concatenate(rasch.mean_squares(drawn, p, one), axis=-1))
    return seen_logs, drawn_logs


def _usual_fit(
    fits: Mapping[int, tuple[Array, Array]], pattern: Indices, n: Indices, parameters: Mapping[str, float]
) -> tuple[float, float]:
    """Return the panel's median log infit and outfit: a few noisy raters make all others look regular."""
    judged = [fits[i][0] for i in pattern.tolist() if i in fits and n[i] >= parameters["n_min"]]
    infit, outfit = np.median(judged, axis=0) if judged else (0.0, 0.0)
    return float(infit), float(outfit)


def _fit_row(
    subject: str, n: int, logs: tuple[float, float], drawn: Array, parameters: Mapping[str, float]
) -> Row:
    seen, usual = logs
    sure = drawn[np.isfinite(drawn)]
    sd = float(sure.std()) if len(sure) > 1 else 0.0
    limit, above = float(np.log(parameters["threshold"])), seen - usual
    noisy, tame = min(seen, above) >= limit, max(seen, above) <= -limit
    note = (
        "noisy: strays from the model"
        if noisy
        else "overfits: more regular than the model, no fault by itself"
        if tame
        else "ok"
    )
    enough = n >= parameters["n_min"]
    strays = sorted((seen - float(sure.mean()), above), key=abs)[0] if sd > 0 else 0.0
    return {
        "subject": subject, "n": n, "value": float(np.exp(seen)),
        "lower": float(np.exp(seen - _Z * sd)), "upper": float(np.exp(seen + _Z * sd)),
        "flagged": bool(noisy and enough), "note": note if enough else "insufficient",
        "statistic": strays / sd if sd > 0 else None,
    }  # fmt: skip


def _without(subject: str, n: int, parameters: Mapping[str, float]) -> Row:
    row: Row = dict.fromkeys(("value", "lower", "upper", "p"))
    note = "insufficient" if n < parameters["n_min"] else "all answers at one end: see constant_rater"
    return {"subject": subject, "n": n, **row, "flagged": False, "note": note, "family": "raters"}


def _spread_rows(severity: Array, error: Array) -> list[Row]:
    blank: Row = dict.fromkeys(("value", "lower", "upper", "p"))
    blank |= {"n": len(severity), "flagged": False, "note": "insufficient", "family": "panel"}
    rows = [{**blank, "subject": "fixed chi2"}, {**blank, "subject": "separation reliability"}]
    if len(severity) < 2:
        return rows
    wide = rasch.spread(severity, error)
    rows[0] |= {"value": wide.chi2, "p": float(stats.chi2.sf(wide.chi2, wide.df)), "note": "ok"}
    ends = stats.chi2.ppf([0.975, 0.025], wide.df) / wide.df
    lower, upper = (max(0.0, 1 - float(end) * (1 - wide.reliability)) for end in ends)
    rows[1] |= {"value": wide.reliability, "lower": lower, "upper": upper, "note": "ok"}
    return rows


def _fitted(panel: _Panel) -> _Fitted:
    """Fit, patterns weighted by the raters who have them; without those at one end, who have no measure."""
    n_raters = np.bincount(panel.pattern)
    n = np.bincount(panel.owner, panel.counts.sum(axis=1) * _varied(panel), len(n_raters)).astype(np.int64)
    severity, error = np.full(len(n_raters), np.nan), np.full(len(n_raters), np.nan)
    cells = _varied(panel) > 0
    while cells.any():
        kept, levels = np.unique(panel.owner[cells], return_inverse=True)
        groups = np.unique(panel.group[cells], return_inverse=True)[1]
        counts = panel.counts[cells]
        at_one_end = rasch.extreme(counts, levels, groups)
        if at_one_end.any():
            cells &= ~np.isin(panel.owner, kept[at_one_end])
            continue
        weights = n_raters[kept]
        if weights.sum() < 2:  # there is nobody left to be compared with
            break
        found = rasch.fit(counts * weights[levels, None], [levels], groups, 300, 1e-12)
        centre = (weights * found.measures[0]).sum() / weights.sum()
        # Each is measured against the others of n, and so off the mean of all by n / (n - 1) too much.
        unbiased = 1 - 1 / weights.sum()
        severity[kept] = unbiased * (found.measures[0] - centre)
        if weights.sum() <= _FEW_RATERS:
            off = rasch.errors_off_the_mean(
                counts * weights[levels, None], found.probabilities, levels, groups, weights.astype(float)
            )
            # An item's sum is given: its raters' answers vary by m / (m - 1) more than if each stood alone.
            error[kept] = np.sqrt(unbiased) * off
        else:
            error[kept] = unbiased * found.errors[0] * np.sqrt(weights)
        return _Fitted(severity, error, n, cells, found.probabilities)
    return _Fitted(severity, error, n, cells, np.zeros((0, panel.counts.shape[1])))


def _varied(panel: _Panel) -> Array:
    n_groups = int(panel.group.max(initial=-1)) + 1
    given = np.zeros((n_groups, panel.counts.shape[1]))
    np.add.at(given, panel.group, panel.counts)
    return np.asarray(((given > 0).sum(axis=1) > 1)[panel.group], float)


def _panel(table: pa.Table) -> _Panel:
    names = np.array(table["rater_id"].to_pylist(), dtype=object)
    raters = sorted(set(names.tolist()))
    rater = np.searchsorted(np.array(raters, dtype=object), names) if raters else np.zeros(0, np.int64)
    objective = np.unique(np.array(table["objective"].to_pylist(), dtype=str), return_inverse=True)[1]
    m, total, value, n = (table[name].to_numpy().astype(float) for name in ("m", "total", "value", "n"))
    label = np.zeros(len(n), np.int64)
    used = m >= 2
    for one in np.unique(objective):
        own = objective == one
        found, codes = np.unique(value[own], return_inverse=True)
        label[own] = codes
        used[own] &= len(found) <= _MOST_LABELS
    exact = m <= _EXACT_UP_TO
    mean = total / np.maximum(m, 1)
    width = np.ptp(mean) / _BINS if len(mean) and np.ptp(mean) > 0 else 1.0
    place = np.where(exact, mean, np.floor(mean / width))
    keys = np.stack([objective, np.where(exact, m, 0), place], axis=1)[used]
    group = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    n_labels, n_groups = int(label.max(initial=0)) + 1, int(group.max(initial=-1)) + 1
    answers = np.zeros((len(raters), n_groups * n_labels))
    np.add.at(answers, (rater[used], group * n_labels + label[used]), n[used])
    patterns, pattern = np.unique(answers, axis=0, return_inverse=True)
    cells = patterns.reshape(len(patterns), n_groups, n_labels)
    owner, in_group = np.nonzero(cells.sum(axis=2))
    return _Panel(tuple(raters), pattern.ravel(), cells[owner, in_group], owner, in_group)
