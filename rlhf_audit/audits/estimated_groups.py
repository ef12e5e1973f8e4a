"""Rows of the audits of groups, from what their SELECTs read.

Personal data:
    A group of fewer than 5 raters has no row, and no value is exact: raters' own are known to who reads this.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlhf_audit.estimators import groups

Row = dict[str, Any]
Member = npt.NDArray[np.bool_]

FEWEST = 5
"""Raters of a group, and of those that remain."""
_DECIMALS = 2
_NOBODY: Row = {
    "subject": "all", "n": 0, "value": None, "lower": None, "upper": None, "p": None,
    "flagged": False, "note": "insufficient",
}  # fmt: skip


def group_bias(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a group; the SELECT gives ``rater_id, n, bias, name, value``."""
    raters = table.group_by("rater_id").aggregate([("n", "min"), ("bias", "min")])
    means, counts = (raters.column(name).to_numpy() for name in ("bias_min", "n_min"))
    in_order = np.lexsort((counts, means))
    place = {raters.column("rater_id")[int(index)].as_py(): number for number, index in enumerate(in_order)}

    def judged(member: Member) -> Row:
        found = groups.difference(means[in_order], member, int(parameters["permutations"]))
        large = abs(found.value) >= parameters["threshold"]
        way = "answers higher" if found.value > 0 else "answers lower"
        return {
            "n": int(member.sum()), "value": found.value, "lower": found.lower, "upper": found.upper,
            "p": found.p, "flagged": large, "note": way if large else "ok",
        }  # fmt: skip

    return _rows(table, place, judged, parameters["n_min"])


def group_cohesion(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a group; the SELECT gives ``rater_id, item, label, name, value``."""
    names = table.column("rater_id").combine_chunks().dictionary_encode()
    place = {name: number for number, name in enumerate(names.dictionary.to_pylist())}
    codes = names.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    items = np.unique(table.column("item").to_numpy(), return_inverse=True)[1].astype(np.int64)
    # A rater of two groups has each rating twice.
    cells, first = np.unique(codes * (items.max(initial=0) + 1) + items, return_index=True)
    del cells
    panel = groups.Panel(codes[first], items[first], table.column("label").to_numpy()[first], len(place))

    def judged(member: Member) -> Row:
        found = panel.cohesion(member, int(parameters["permutations"]))
        enough = found.n_items >= parameters["n_min"]
        outside = found.value is not None and not _within(found)
        note = "insufficient"
        if enough and found.value is None:
            note = "no agreement with the others to compare with"
        elif enough:
            closer = found.value is not None and found.upper is not None and found.value > found.upper
            note = "ok" if not outside else "agrees more" if closer else "agrees less"
            note += "" if not outside else " within itself than random groups do"
        return {
            "n": found.n_items, "value": found.value, "lower": found.lower, "upper": found.upper,
            "p": found.p, "flagged": outside and enough, "note": note,
        }  # fmt: skip

    return _rows(table, place, judged, 0)


def _within(found: groups.Cohesion) -> bool:
    return (
        found.value is not None
        and found.lower is not None
        and found.upper is not None
        and found.lower <= found.value <= found.upper
    )


def _rows(
    table: pa.Table, place: Mapping[str, int], judged: Callable[[Member], Row], n_min: float
) -> list[Row]:
    rows = [
        {"subject": f"{name}={value}", **_rounded(judged(member))}
        for (name, value), member in _members(table, place)
    ]
    for row in rows:
        if row["n"] < n_min:
            row |= {"flagged": False, "note": "insufficient"}
    return rows or [dict(_NOBODY)]


def _members(table: pa.Table, place: Mapping[str, int]) -> Iterator[tuple[tuple[str, str], Member]]:
    """Yield each group that may still be shown: who of it has no data here does not count."""
    told = table.select(["rater_id", "name", "value"]).group_by(["rater_id", "name", "value"]).aggregate([])
    found: dict[str, dict[str, Member]] = {}
    for row in told.to_pylist():
        if row["name"] is not None:
            own = found.setdefault(row["name"], {})
            own.setdefault(row["value"], np.zeros(len(place), bool))[place[row["rater_id"]]] = True
    for name in sorted(found):
        large = {value: one for value, one in sorted(found[name].items()) if one.sum() >= FEWEST}
        n_others = len(place) - sum(int(one.sum()) for one in large.values())
        if large and 0 < n_others < FEWEST:
            # What remains could be worked out.
            del large[min(large, key=lambda value: (int(large[value].sum()), value))]
        for value, member in large.items():
            if len(place) - member.sum() >= FEWEST:
                yield (name, value), member


def _rounded(row: Row) -> Row:
    numbers = {name: row[name] for name in ("value", "lower", "upper")}
    return row | {
        name: None if number is None else round(number, _DECIMALS) for name, number in numbers.items()
    }
