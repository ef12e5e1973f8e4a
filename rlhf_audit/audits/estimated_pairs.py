"""Rows of the audits of pairs of raters, from what their SELECTs read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlhf_audit.estimators import copying as pairs
from rlhf_audit.estimators.content import by_content

Row = dict[str, Any]

_NOBODY: Row = {
    "subject": "all", "n": 0, "value": None, "lower": None, "upper": None, "p": None,
    "flagged": False, "note": "insufficient",
}  # fmt: skip
_Z = 1.959963984540054
_MOST_LABELS, _CLASSES = 10, 5


def copying(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a pair; the SELECT gives ``rater_id, item, value``."""
    if not len(table):
        return [dict(_NOBODY)]
    names = table.column("rater_id").combine_chunks().dictionary_encode()
    values = table.column("value").to_numpy()
    items = np.unique(table.column("item").to_numpy(), return_inverse=True)[1].astype(np.int64)
    codes = names.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    in_order = np.lexsort((values, codes, items))
    order = by_content(codes[in_order], items[in_order], values[in_order], len(names.dictionary))
    raters, labels = np.argsort(order)[codes], _classes(values)
    found = pairs.find(items, raters, labels, int(parameters["n_min"]), parameters["threshold"])
    listed = [names.dictionary[int(index)].as_py() for index in order]
    rows = [_row(found, number, listed, parameters) for number in range(len(found.a))]
    return rows or [dict(_NOBODY)]


def _row(found: pairs.Pairs, number: int, names: list[str], parameters: Mapping[str, float]) -> Row:
    excess, se, n = float(found.excess[number]), float(found.se[number]), int(found.n[number])
    told = int(found.informative[number])
    identical = bool(found.identical[number]) and told >= parameters["n_min"]
    flagged = excess >= parameters["threshold"] or identical
    together = f"wrong together on {found.wrong_together[number]} of {found.wrong[number]} items"
    note = "ok"
    if flagged:
        note = f"identical on {told} informative items; {together}" if identical else f"agree; {together}"
    return {
        "subject": "/".join(sorted((names[found.a[number]], names[found.b[number]]))),
        "n": n, "value": excess, "lower": max(excess - _Z * se, -1.0), "upper": min(excess + _Z * se, 1.0),
        "p": float(found.p[number]), "flagged": flagged, "note": note,
    }  # fmt: skip


def _classes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return each label's code; of many different labels the class of equal size that it falls in."""
    labels, codes = np.unique(values, return_inverse=True)
    if len(labels) > _MOST_LABELS:
        edges = np.unique(np.quantile(values, np.arange(1, _CLASSES) / _CLASSES))
        codes = np.searchsorted(edges, values, side="right")
    return codes.astype(np.int64)
