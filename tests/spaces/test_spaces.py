"""Every space goes into Arrow and Parquet and comes back to the bit."""

import json
from pathlib import Path
from typing import Any

import duckdb
import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces as gs
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_audit.errors import DamagedError, UsageError
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.describing import describe
from rlhf_audit.spaces.reading import from_json

DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "bool"]


@st.composite
def boxes(draw: st.DrawFn) -> gs.Box:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    if dtype.kind == "b":
        return gs.Box(0, 1, shape, dtype.type)
    low, high = (0, 200) if dtype.kind == "u" else (-100, 100)
    return gs.Box(low, high, shape, dtype.type)


simple = st.one_of(
    boxes(),
    st.builds(gs.Discrete, st.integers(1, 9), start=st.integers(-3, 3)),
    st.builds(gs.MultiDiscrete, st.lists(st.integers(1, 5), min_size=1, max_size=3)),
    st.builds(gs.MultiBinary, st.integers(1, 5)),
    st.builds(gs.MultiBinary, st.just([2, 3])),
)
texts = st.builds(gs.Text, st.integers(1, 9))
graphs = st.builds(
    lambda node, edge: gs.Graph(gs.Box(-1, 1, (node,)), gs.Discrete(3) if edge else None),
    st.integers(1, 3),
    st.booleans(),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(gs.Tuple),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda m: gs.Dict({f"k {i}": s for i, s in enumerate(m)})
        ),
        inner.map(gs.Sequence),
        st.lists(inner, min_size=1, max_size=3).map(gs.OneOf),
    )


everything = st.recursive(st.one_of(simple, texts, graphs), nested, max_leaves=6)


def through_parquet(column: pa.Array, folder: Path) -> pa.ChunkedArray:
    path = folder / "column.parquet"
    pq.write_table(pa.table({"x": column}), path)
    return pq.read_table(path).column("x")


def same(left: Any, right: Any) -> bool:
    if isinstance(right, gs.GraphInstance):
        left = gs.GraphInstance(*left)
        return all(
            (a is None) == (b is None) and (a is None or same(a, b)) for a, b in zip(left, right, strict=True)
        )
    if isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in right)
    if isinstance(right, tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(right, np.ndarray | np.generic):
        return bool(
            left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        )
    return bool(data_equivalence(left, right))


def described(space: gs.Space[Any]) -> Space:
    return from_json(json.loads(json.dumps(describe(space))))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(space=everything, seed=st.integers(0, 2**32 - 1), n=st.integers(0, 4))
def test_any_space_comes_back_to_the_bit(space: gs.Space[Any], seed: int, n: int, tmp_path: Path) -> None:
    space.seed(seed)
    values = [space.sample() for _ in range(n)]
    known = described(space)
    column = pa.array([known.plain(value) for value in values], known.arrow)
    back = known.read(through_parquet(column, tmp_path))
    assert len(back) == n
    assert all(same(a, b) for a, b in zip(back, values, strict=True))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    space=st.one_of(simple, nested(simple).filter(lambda s: isinstance(s, gs.Dict | gs.Tuple))),
    n=st.integers(1, 4),
)
def test_a_fixed_space_splits_into_columns_and_joins_again(
    space: gs.Space[Any], n: int, tmp_path: Path
) -> None:
    space.seed(n)
    values = [space.sample() for _ in range(n)]
    known = described(space)
    assert known.parts is not None
    columns = [np.zeros((n, *part.shape), part.dtype) for part in known.parts]
    for row, value in enumerate(values):
        for column, piece in zip(columns, known.split(value), strict=True):
            column[row] = piece
    made = known.column(iter(columns))
    assert made.type == known.arrow
    back = known.read(through_parquet(made, tmp_path))
    assert all(same(a, b) for a, b in zip(back, values, strict=True))


def test_stacked_sequences_come_back(tmp_path: Path) -> None:
    space = gs.Sequence(gs.Dict(a=gs.Box(-1, 1, (2,)), b=gs.Tuple([gs.Discrete(3)])), stack=True, seed=3)
    values = [space.sample() for _ in range(5)]
    known = described(space)
    back = known.read(through_parquet(pa.array(map(known.plain, values), known.arrow), tmp_path))
    assert all(same(a, b) for a, b in zip(back, values, strict=True))


def test_an_image_is_raw_bytes_and_a_vector_a_fixed_size_list() -> None:
    assert described(gs.Box(0, 255, (84, 84, 4), np.uint8)).arrow == pa.large_binary()
    assert described(gs.Box(-1, 1, (4,))).arrow == pa.list_(pa.float32(), 4)
    assert described(gs.Discrete(3)).arrow == pa.int64()


def test_odd_floats_keep_their_bits(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0x80000000, 0xFF800000, 1], np.uint32).view(np.float32)
    known = described(gs.Box(-np.inf, np.inf, (4,)))
    back = known.read(through_parquet(known.column(iter([bits[None]])), tmp_path))
    assert back[0].tobytes() == bits.tobytes()


def test_duckdb_reads_the_columns_as_they_are(tmp_path: Path) -> None:
    space = gs.Dict(
        a=gs.Box(-1, 1, (2,)), b=gs.Discrete(4), c=gs.Text(5), d=gs.Box(0, 255, (20, 20, 3), np.uint8)
    )
    known = described(space)
    value = {"a": np.array([0.5, -1], np.float32), "b": 3, "c": "abc", "d": np.full((20, 20, 3), 7, np.uint8)}
    through_parquet(pa.array([known.plain(value)], known.arrow), tmp_path)
    query = f"SELECT x.a[1], x.b, x.c, octet_length(x.d) FROM '{tmp_path}/column.parquet'"
    assert duckdb.connect().execute(query).fetchall() == [(0.5, 3, "abc", 1200)]


def test_large_uneven_bounds_are_named_by_digest() -> None:
    low = np.zeros((64, 64), np.float32)
    low[3, 3] = -1
    bounds = describe(gs.Box(low, np.ones((64, 64), np.float32)))
    assert set(bounds["low"]) == {"sha256"} and bounds["high"] == 1.0


def test_what_is_no_space_is_refused() -> None:
    with pytest.raises(UsageError, match="type Odd"):
        describe(type("Odd", (gym.Space,), {})())
    with pytest.raises(UsageError, match="not text"):
        describe(gs.Dict({1: gs.Discrete(2)}))  # type: ignore[dict-item]
    for broken in (
        {},
        {"type": "Box"},
        {"type": "Box", "dtype": "O", "shape": []},
        {"type": "Nope"},
        {"type": "Dict", "spaces": 3},
    ):
        with pytest.raises(DamagedError):
            from_json(broken)
