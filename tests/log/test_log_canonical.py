"""Different tables have different canonical bytes; how a table is laid out in memory changes none."""

import itertools
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_audit import canonical

_TYPES = {
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pa.int8(), st.integers(-128, 127)),
    "float": (pa.float64(), st.floats(allow_nan=False)),
    "half": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
    "when": (pa.timestamp("us", tz="UTC"), st.integers(-(2**53), 2**53)),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=3)),
    "texts": (pa.list_(pa.string()), st.lists(st.sampled_from(["", "a", "ab", "b"]), max_size=3)),
    "fixed": (pa.list_(pa.float32(), 2), st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=2)),
}
Columns = list[tuple[str, str, list[Any]]]


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    n = draw(st.integers(0, 4))
    kinds = draw(st.lists(st.sampled_from(sorted(_TYPES)), min_size=1, max_size=3))
    found = []
    for number, kind in enumerate(kinds):
        values = draw(st.lists(st.none() | _TYPES[kind][1], min_size=n, max_size=n))
        found.append((draw(st.sampled_from(["a", "b", "ab"])) + str(number), kind, values))
    return found


def table(found: Columns) -> pa.Table:
    return pa.table({name: pa.array(values, _TYPES[kind][0]) for name, kind, values in found})


def bytes_of(one: pa.Table) -> bytes:
    return b"".join(canonical.table_bytes(one))


def exact(found: Columns) -> str:
    """Tells -0.0 from 0.0 and 1 from True, unlike ==."""
    return repr([(name, kind, values) for name, kind, values in found])


@settings(max_examples=300, deadline=None)
@given(columns(), columns())
def test_different_tables_have_different_bytes(one: Columns, other: Columns) -> None:
    assert (bytes_of(table(one)) == bytes_of(table(other))) == (exact(one) == exact(other))


@settings(max_examples=200, deadline=None)
@given(columns(), st.data())
def test_one_change_changes_the_bytes(found: Columns, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(found) - 1))
    name, kind, values = found[place]
    if not values:
        return
    row = data.draw(st.integers(0, len(values) - 1))
    value = data.draw(st.none() | _TYPES[kind][1])
    changed = [*found[:place], (name, kind, [*values[:row], value, *values[row + 1 :]]), *found[place + 1 :]]
    assert (bytes_of(table(found)) == bytes_of(table(changed))) == (exact(found) == exact(changed))


@settings(max_examples=200, deadline=None)
@given(columns(), st.data())
def test_chunks_do_not_change_the_bytes(found: Columns, data: st.DataObject) -> None:
    whole = table(found)
    cuts = sorted(data.draw(st.lists(st.integers(0, whole.num_rows), max_size=3)))
    edges = [0, *cuts, whole.num_rows]
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    assert bytes_of(pa.concat_tables(parts)) == bytes_of(whole)


def test_order_types_names_and_nulls_count() -> None:
    a = pa.table({"x": pa.array([1, 2], pa.int64())})
    others = [
        pa.table({"x": pa.array([2, 1], pa.int64())}),
        pa.table({"x": pa.array([1, 2], pa.uint64())}),
        pa.table({"y": pa.array([1, 2], pa.int64())}),
        pa.table({"x": pa.array([1, None], pa.int64())}),
        pa.table({"x": pa.array([1, 0], pa.int64())}),
        pa.table({"x": pa.array([1, 2], pa.timestamp("us"))}),
        pa.table({"x": pa.array([1, 2], pa.timestamp("us", tz="UTC"))}),
        pa.table({"x": pa.array([1, 2], pa.int64()), "z": pa.array([1, 2])}),
        pa.table({"x": pa.array([], pa.int64())}),
        pa.table({"x": pa.array(["a", "bc"])}),
        pa.table({"x": pa.array(["ab", "c"])}),
        pa.table({"x": pa.array([float("nan"), 0.0])}),
        pa.table({"x": pa.array([float("nan"), -0.0])}),
    ]
    assert len({bytes_of(one) for one in [a, *others]}) == len(others) + 1
