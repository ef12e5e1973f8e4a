"""Rows of the audits of pairs of raters, from what their SELECTs read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit.audits.panels import Indices, Panel, panels
from rlhf_audit.estimators import copying as pairs

Row = dict[str, Any]

_NOBODY: Row = {
    "subject": "all", "n": 0, "value": None, "lower": None, "upper": None, "p": None,
    "flagged": False, "note": "insufficient",
}  # fmt: skip
_Z = 1.959963984540054
_MOST_LABELS, _CLASSES = 10, 5


def copying(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a pair; the SELECT gives ratings as one panel's, and comparisons."""
    rows: list[Row] = []
    by_panel = panels(table)
    del table
    for panel in by_panel:
        labels = _classes(panel)
        found = pairs.find(
            panel.items, panel.raters, labels, int(parameters["n_min"]), parameters["threshold"]
        )
        rows += [_row(found, number, panel, parameters) for number in range(len(found.a))]
    return rows or [dict(_NOBODY)]


def _row(found: pairs.Pairs, number: int, panel: Panel, parameters: Mapping[str, float]) -> Row:
    pair = sorted((panel.names[found.a[number]], panel.names[found.b[number]]))
    excess, se, n = float(found.excess[number]), float(found.se[number]), int(found.n[number])
    told = int(found.informative[number])
    identical = bool(found.identical[number]) and told >= parameters["n_min"]
    flagged = excess >= parameters["threshold"] or identical
    together = f"wrong together on {found.wrong_together[number]} of {found.wrong[number]} items"
    note = "ok"
    if flagged:
        note = f"identical on {told} informative items; {together}" if identical else f"agree; {together}"
    return {
        "subject": f"{'/'.join(pair)}{panel.suffix}",
        "n": n, "value": excess, "lower": max(excess - _Z * se, -1.0), "upper": min(excess + _Z * se, 1.0),
        "p": float(found.p[number]), "flagged": flagged, "note": note,
    }  # fmt: skip


def _classes(panel: Panel) -> Indices:
    """Return each label's number; of many different labels the class of equal size that it falls in."""
    if len(panel.scale) <= _MOST_LABELS:
        return panel.labels
    edges = np.unique(np.quantile(panel.scale[panel.labels], np.arange(1, _CLASSES) / _CLASSES))
    return np.searchsorted(edges, panel.scale, side="right").astype(np.int32)[panel.labels]
