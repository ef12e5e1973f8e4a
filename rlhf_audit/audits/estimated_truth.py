"""The audits that rest on Dawid and Skene's model: how good the raters are, and which items stay open."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlhf_audit.audits.panels import Array, Indices, Panel, panels
from rlhf_audit.estimators import dawid_skene, intervals

Row = dict[str, Any]

NOT_AT_END = "; EM not at its end: no clear maximum"
"""What a note ends in where `max_steps` stopped it."""

_PEAKS = 0.555
"""Sarle's bimodality of an even spread: more is more than one peak."""


def truth_inference(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a rater and a row a label, of each panel."""
    rows: list[Row] = []
    by_panel = panels(table)
    del table
    for panel in by_panel:
        if len(panel.scale) > parameters["max_labels"]:
            n = np.bincount(panel.raters)
            rows += [
                _row(f"{name}{panel.suffix}", int(n[i]), panel.number, note="too many different labels")
                for i, name in enumerate(panel.names)
            ]
        else:
            rows += _accuracies(panel, _fit(panel, parameters["max_steps"]), int(parameters["n_min"]))
    return rows


def item_controversy(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row for each of the most disputed items, and one a panel."""
    rows: list[Row] = []
    named = table.filter(pc.is_valid(table["name"]))
    names = dict(zip(named["item"].to_pylist(), named["name"].to_pylist(), strict=True))
    by_panel = panels(table)
    del table
    for panel in by_panel:
        if len(panel.scale) > parameters["max_labels"]:
            n = panel.n_rated
            rows.append(_row(f"all items{panel.suffix}", n, panel.number, note="too many different labels"))
        else:
            rows += _disputed(panel, names, parameters)
    return rows


def _fit(panel: Panel, most_steps: float) -> dawid_skene.Fit:
    return dawid_skene.fit(
        panel.items,
        panel.raters,
        panel.labels,
        panel.n_items,
        len(panel.names),
        len(panel.scale),
        int(most_steps),
    )


def _row(subject: str, n: int, panel: int, *, note: str = "ok", **more: Any) -> Row:
    empty = {"value": None, "lower": None, "upper": None, "flagged": False, "statistic": None, "p": None}
    return {"subject": subject, "n": n, "panel": panel, "note": note, **empty, **more}


def _accuracies(panel: Panel, fit: dawid_skene.Fit, n_min: int) -> list[Row]:
    n = np.bincount(panel.raters, minlength=len(panel.names))
    rate = np.einsum("rkk->rk", fit.confusion)
    # A label that never was true in a rater's items says nothing of them.
    met = fit.counts.sum(axis=2) > 0
    weight = np.where(met, fit.prevalence, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    accuracy = (weight * rate).sum(axis=1)
    variance = (weight[:, :, None] * weight[:, None, :] * fit.variance).sum(axis=(1, 2))
    smoothed = (accuracy * n + 0.5) / (n + 1)
    lower, upper = intervals.wilson(accuracy, smoothed * (1 - smoothed) / variance)
    enough = n >= n_min
    usual = float(np.median(accuracy[enough])) if enough.any() else 0.0
    commonest = float(fit.prevalence.max())
    rows = []
    for i, name in enumerate(panel.names):
        low = bool(lower[i] <= commonest and accuracy[i] < usual)
        note = "not surely better than always naming the commonest label" if low else "ok"
        note += "" if fit.converged else NOT_AT_END
        rows.append(
            _row(
                f"{name}{panel.suffix}", int(n[i]), panel.number, note=note if enough[i] else "insufficient",
                value=float(accuracy[i]), lower=float(lower[i]), upper=float(upper[i]),
                flagged=low and bool(enough[i]),
                statistic=float((accuracy[i] - usual) / np.sqrt(variance[i])),
            )
        )  # fmt: skip
    return rows + _prevalences(panel, fit, n_min)


def _prevalences(panel: Panel, fit: dawid_skene.Fit, n_min: int) -> list[Row]:
    n = int(np.isfinite(fit.truth[:, 0]).sum())
    share = fit.prevalence
    smoothed = (share * n + 0.5) / (n + 1)
    variance = np.where(fit.prevalence_variance > 0, fit.prevalence_variance, smoothed * (1 - smoothed) / n)
    lower, upper = intervals.wilson(share, smoothed * (1 - smoothed) / variance)
    return [
        _row(
            f"label {value:g}{panel.suffix}", n, panel.number, note="ok" if n >= n_min else "insufficient",
            value=float(share[k]), lower=float(lower[k]), upper=float(upper[k]),
        )
        for k, value in enumerate(panel.scale)
    ]  # fmt: skip


def _disputed(panel: Panel, names: Mapping[int, str], parameters: Mapping[str, float]) -> list[Row]:
    k = len(panel.scale)
    counts = np.bincount(panel.items * k + panel.labels, minlength=panel.n_items * k).reshape(-1, k)
    m = counts.sum(axis=1)
    judged = np.flatnonzero(m)
    apart = 1 - (counts * (counts - 1)).sum(axis=1)[judged] / (m * (m - 1))[judged]
    spread = float(np.sort((apart - apart.mean()) ** 2).sum())
    mean, n = float(np.sort(apart).sum() / len(judged)), len(judged)
    half = intervals.Z * float(np.sqrt(spread / (n * (n - 1)))) if n > 1 else 0.0
    # Items that do not vary at all tell as much as n answers to one question.
    lower, upper = (mean - half, mean + half) if half > 0 else intervals.wilson(mean, n)
    fit = _fit(panel, parameters["max_steps"])
    stopped = "" if fit.converged else NOT_AT_END
    whole = _row(
        f"all items{panel.suffix}", n, panel.number, note=f"ok{stopped}",
        value=mean, lower=float(max(lower, 0.0)), upper=float(min(upper, 1.0)),
    )  # fmt: skip
    ordered = np.sort(fit.truth[judged], axis=1)
    margin = ordered[:, -1] - (ordered[:, -2] if k > 1 else 0.0)
    n_listed = min(int(parameters["max_rows"]), int(np.ceil(parameters["top"] * n)))
    candidates = np.flatnonzero(np.isin(judged + panel.first_item, np.fromiter(names, np.int64)))
    order = np.lexsort((judged[candidates], margin[candidates], -apart[candidates]))
    listed = candidates[order][:n_listed]
    rows = [whole]
    for place in listed[apart[listed] > 0]:
        item = int(judged[place])
        p = min(1.0, _p_value(panel, fit, item) * n / n_listed)
        lower, upper = intervals.wilson(apart[place], m[item] // 2)
        rows.append(
            _row(
                f"item {names[item + panel.first_item]}{panel.suffix}", int(m[item]), panel.number,
                note=_described(counts[item], panel.scale, float(margin[place])) + stopped,
                value=float(apart[place]), lower=float(lower), upper=float(upper), flagged=True, p=p,
            )
        )  # fmt: skip
    return rows


def _described(counts: Indices, scale: Array, margin: float) -> str:
    share = counts[counts > 0] / counts.sum()
    note = f"disputed; entropy {-float((share * np.log2(share)).sum()):.2f} bit; margin {margin:.2f}"
    peaks = _bimodality(np.repeat(scale, counts)) if len(scale) > 2 else None
    return (
        note
        if peaks is None
        else f"{note}; bimodality {peaks:.2f}" + (", several peaks" if peaks > _PEAKS else "")
    )


def _bimodality(x: Array) -> float | None:
    """Return Sarle's coefficient, (skewness² + 1) / kurtosis, corrected for a small sample."""
    m = len(x)
    centred = x - x.mean()
    second = float((centred**2).mean())
    if m < 4 or second == 0:
        return None
    skewness = float((centred**3).mean()) / second**1.5 * np.sqrt(m * (m - 1)) / (m - 2)
    excess = (m - 1) / ((m - 2) * (m - 3)) * ((m + 1) * (float((centred**4).mean()) / second**2 - 3) + 6)
    return float((skewness**2 + 1) / (excess + 3 * (m - 1) ** 2 / ((m - 2) * (m - 3))))


def _p_value(panel: Panel, fit: dawid_skene.Fit, item: int) -> float:
    """The chance of as many wrong answers, under the true label that makes them likeliest."""
    own = np.flatnonzero(panel.items == item)
    own = own[np.argsort(panel.raters[own])]
    found = 0.0
    for label in range(len(panel.scale)):
        wrong = 1 - fit.confusion[panel.raters[own], label, label]
        chances = np.ones(1)
        for share in wrong:
            chances = np.convolve(chances, [1 - share, share])
        n_wrong = int((panel.labels[own] != label).sum())
        found = max(found, float(chances[n_wrong:].sum()))
    return min(found, 1.0)
