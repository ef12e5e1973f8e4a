"""Rows of the audits of single raters, from what their SELECTs read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlhf_audit.estimators import change_point

Row = dict[str, Any]


def fatigue_onset(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a rater; the SELECT gives ``rater, t, apart`` and the name in one of the rater's rows."""
    named = table.filter(pc.is_valid(table["rater_id"]))
    names = dict(zip(named["rater"].to_pylist(), named["rater_id"].to_pylist(), strict=True))
    known = table.filter(pc.is_valid(table["apart"]))
    rater, t, apart = (known[name].to_numpy() for name in ("rater", "t", "apart"))
    order = np.argsort(rater.astype(np.int64) << 32 | t)
    ends = np.searchsorted(rater, np.arange(1, len(names)), side="right", sorter=order)
    rows = [
        _onset(names[number], t[own], apart[own], parameters["n_min"])
        for number, own in enumerate(np.split(order, ends), 1)
        if number in names
    ]
    judged = [row["value"] for row in rows if row["value"] is not None and row["n"] >= parameters["n_min"]]
    middle = float(np.median(judged)) if judged else 0.0
    for row in rows:
        large = (
            row["value"] is not None and min(row["value"], row["value"] - middle) >= parameters["threshold"]
        )
        row["flagged"] = large and row["note"] != "insufficient"
        if row["note"] == "ok" and large:
            row["note"] = f"disagrees more from answer {row['from']} on"
    return rows


def _onset(name: str, t: Any, apart: Any, n_min: float) -> Row:
    row: Row = {
        "subject": name, "n": len(t), "value": None, "lower": None, "upper": None, "p": None,
        "flagged": False, "note": "ok", "from": None,
    }  # fmt: skip
    change = change_point.find(apart)
    if change is None:
        row["note"] = "always as far from the others"
    else:
        usual = float(apart.sum() / len(apart))
        rise, half = change.step / usual, change.half / usual
        row |= {"value": rise, "lower": rise - half, "upper": rise + half, "p": change.p}
        row["from"] = int(t[change.place])
    if len(t) < n_min:
        row["note"] = "insufficient"
    return row
