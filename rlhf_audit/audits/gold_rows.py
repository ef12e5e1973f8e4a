"""Rows of the audit that compares with labels known to be right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from rlhf_audit.audits.estimated_truth import NOT_AT_END
from rlhf_audit.audits.panels import Array, Indices, Panel, panels
from rlhf_audit.estimators import dawid_skene, intervals

Row = dict[str, Any]


@dataclass(frozen=True)
class _Known:
    """The ratings of items whose right label is known, by rater and then by item.

    Attributes:
        raters: ``(n,)`` as in the panel.
        items: ``(n,)`` as in the panel.
        right: ``(n,)``
    """

    raters: Indices
    items: Indices
    right: npt.NDArray[np.bool_]


def gold_accuracy(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a rater and three of the panel; the SELECT gives ``gold`` beside what ``panels`` reads."""
    rows: list[Row] = []
    numbers, gold_of = table["panel"].to_numpy(), table["gold"].to_numpy()
    for panel in panels(table):
        gold = gold_of[numbers == panel.number]
        order = np.lexsort((panel.items, panel.raters))
        order = order[np.isfinite(gold[order])]
        right = panel.scale[panel.labels[order]] == gold[order]
        known = _Known(panel.raters[order], panel.items[order], right)
        if len(panel.scale) > parameters["max_labels"]:
            n = np.bincount(known.raters, minlength=len(panel.names))
            rows += [
                _row(panel, name, int(n[i]), note="too many different labels")
                for i, name in enumerate(panel.names)
            ]
            continue
        truth = np.full(panel.n_items, np.nan)
        truth[panel.items] = gold
        rows += _of_raters(panel, known, parameters)
        rows += [_of_all(panel, known, parameters["n_min"]), *_inferred(panel, truth, parameters)]
    return rows


def _of_raters(panel: Panel, known: _Known, parameters: Mapping[str, float]) -> list[Row]:
    n_raters = len(panel.names)
    n = np.bincount(known.raters, minlength=n_raters)
    k = np.bincount(known.raters, known.right, n_raters)
    m = np.bincount(known.items, minlength=panel.n_items)[known.items]
    n_right = np.bincount(known.items, known.right, panel.n_items)[known.items]
    shared = m >= 2
    peers = (n_right[shared] - known.right[shared]) / (m[shared] - 1)
    n_shared = np.bincount(known.raters[shared], minlength=n_raters)
    same_items = np.bincount(known.raters[shared], peers, n_raters) / np.maximum(n_shared, 1)
    rows = []
    for i, name in enumerate(panel.names):
        row = _row(panel, name, int(n[i]))
        if n[i]:
            row |= _share(k[i] / n[i], n[i])
        n_others = int(n.sum() - n[i])
        if n[i] < parameters["n_min"]:
            row["note"] = "insufficient"
        elif n_others:
            others = float(k.sum() - k[i]) / n_others
            row["p"] = float(stats.binomtest(int(k[i]), int(n[i]), others).pvalue)
            if others - row["value"] >= parameters["threshold"]:
                harder = n_shared[i] and same_items[i] - row["value"] < parameters["threshold"]
                row["flagged"] = not harder
                row["note"] = (
                    "harder items than the others'" if harder else "less often right than the others"
                )
        rows.append(row)
    return rows


def _of_all(panel: Panel, known: _Known, n_min: float) -> Row:
    """Return the row of all answers, an item's being as alike as they are."""
    m = np.bincount(known.items, minlength=panel.n_items)
    n_right = np.bincount(known.items, known.right, panel.n_items)
    n, n_items = len(known.items), int((m > 0).sum())
    row = _row(panel, "all answers", n_items, note="ok" if n_items >= n_min else "insufficient")
    if n:
        share = float(known.right.sum()) / n
        spread = float(np.sort((n_right - share * m) ** 2).sum()) / n**2
        worth = share * (1 - share) / spread if spread > 0 else n_items
        row |= _share(share, worth)
    return row


def _inferred(panel: Panel, truth: Array, parameters: Mapping[str, float]) -> list[Row]:
    """Return how often what is inferred from all answers is right; ``truth`` is NaN where it is not known."""
    k = len(panel.scale)
    counts = np.bincount(panel.items * k + panel.labels, minlength=panel.n_items * k).reshape(-1, k)
    enough = counts.sum(axis=1) >= parameters["min_ratings"]
    used = enough[panel.items]
    judged = np.flatnonzero(enough & np.isfinite(truth))
    majority = k - 1 - counts[judged, ::-1].argmax(axis=1)
    found = {"majority": (majority, "")}
    if len(judged):
        fit = dawid_skene.fit(
            panel.items[used], panel.raters[used], panel.labels[used], panel.n_items, len(panel.names), k,
            int(parameters["max_steps"]),
        )  # fmt: skip
        likeliest = fit.truth[judged].argmax(axis=1)
        found["Dawid-Skene"] = likeliest, "" if fit.converged else NOT_AT_END
    rows = []
    for name, (labels, behind) in found.items():
        n = len(judged)
        note = f"ok{behind}" if n >= parameters["n_min"] else "insufficient"
        row = _row(panel, name, n, note=note)
        if n:
            row |= _share(float((panel.scale[labels] == truth[judged]).sum()) / n, n)
        rows.append(row)
    return rows


def _share(value: float, n: float) -> Row:
    lower, upper = intervals.wilson(value, n)
    # Of all or none an end is the share itself, but for rounding.
    return {
        "value": float(value),
        "lower": float(np.minimum(lower, value)),
        "upper": float(np.maximum(upper, value)),
    }


def _row(panel: Panel, name: str, n: int, *, note: str = "ok") -> Row:
    return {
        "subject": f"{name}{panel.suffix}", "n": n, "panel": panel.number, "value": None, "lower": None,
        "upper": None, "p": None, "flagged": False, "note": note,
    }  # fmt: skip
