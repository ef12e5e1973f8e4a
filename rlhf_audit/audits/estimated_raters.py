"""Rows of the audits of single raters, from what their SELECTs read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlhf_audit.estimators import change_point

Row = dict[str, Any]

_SUFFIX = ":comparison"


def fatigue_onset(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a rater and kind of feedback.

    The SELECT gives ``rater, t, apart``, and ``rater_id`` and ``kind`` in one of the rater's rows.
    """
    named = table.filter(pc.is_valid(table["rater_id"]))
    texts = zip(*(named[name].to_pylist() for name in ("rater", "rater_id", "kind")), strict=True)
    names = {number: name + _SUFFIX * (kind == "comparison") for number, name, kind in texts}
    known = table.select(["rater", "t", "apart"]).filter(pc.is_valid(table["apart"]))
    # Each is let go before the next is made: of ten million answers either takes 150 MB.
    del table, named
    rater, t, apart = (known[name].to_numpy() for name in ("rater", "t", "apart"))
    del known
    place = rater.astype(np.int64)
    place <<= 32
    place |= t
    order = np.argsort(place)
    del place
    ends = np.searchsorted(rater, np.arange(1, len(names)), side="right", sorter=order)
    rows = [
        _onset(names[number], t[own], apart[own], parameters["n_min"])
        for number, own in enumerate(np.split(order, ends), 1)
        if number in names
    ]
    middle = {kind: _middle(rows, kind, parameters["n_min"]) for kind in (False, True)}
    for row in rows:
        value, usual = row["value"], middle[_compared(row)]
        large = value is not None and min(value, value - usual) >= parameters["threshold"]
        row["flagged"] = large and row["note"] != "insufficient"
        if row["note"] == "ok" and large:
            row["note"] = f"disagrees more from answer {row['from']} on"
    return rows


def _compared(row: Row) -> bool:
    return str(row["subject"]).endswith(_SUFFIX)


def _middle(rows: list[Row], compared: bool, n_min: float) -> float:
    """Return the median value of those of one kind with enough answers."""
    enough = [row for row in rows if row["value"] is not None and row["n"] >= n_min]
    judged = [row["value"] for row in enough if _compared(row) == compared]
    return float(np.median(judged)) if judged else 0.0


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
