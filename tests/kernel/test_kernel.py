"""Seeds, canonical bytes, the clock and the three lines of an error."""

import importlib
import inspect
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_audit import canonical, clock, errors, schema, seeds

ROOT = 20170612


def _digest(table: pa.Table) -> str:
    return canonical.sha256_hex(b"".join(canonical.table_bytes(table)))


# --- seeds ---


def test_children_are_the_same_on_every_machine() -> None:
    # Golden: a change here makes every recorded session unplayable.
    assert seeds.child_seed(0) == 3456079177858693020
    assert seeds.child_seed(3, "reset", 0) == 168224817528358838
    assert seeds.generator(3, "act").random() == 0.9355177746108931


def test_children_are_63_bits_and_do_not_meet() -> None:
    names = [(root, name, n) for root in range(20) for name in ("act", "reset", "rater") for n in range(40)]
    found = [seeds.child_seed(*name) for name in names]
    assert len(set(found)) == len(names)
    assert all(0 <= seed < 2**63 for seed in found)
    assert seeds.child_seed(1, "ab") != seeds.child_seed(1, "a", "b") != seeds.child_seed(11, "b")


def test_generators_do_not_share_a_state() -> None:
    one, other = seeds.generator(1, "a"), seeds.generator(1, "b")
    first = one.random(4).tolist()
    other.random(100)
    assert seeds.generator(1, "a").random(8)[:4].tolist() == first
    assert one.random(4).tolist() == seeds.generator(1, "a").random(8)[4:].tolist()
    state = np.random.get_state()[1].tolist()
    seeds.generator(1, "c").random(9)
    assert np.random.get_state()[1].tolist() == state


def test_seeds_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from rlhf_audit import seeds; print(seeds.child_seed(5, 'x', 1), seeds.generator(5, 'x').random())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "77")
    }
    assert len(outputs) == 1


def test_entropy_is_fresh_or_repeatable_as_asked() -> None:
    assert seeds.SystemEntropy().token(16) != seeds.SystemEntropy().token(16)
    one, same, other = (seeds.SeededEntropy(root) for root in (ROOT, ROOT, ROOT + 1))
    drawn = [one.token(size) for size in (4, 16, 1)]
    assert drawn == [same.token(size) for size in (4, 16, 1)]
    assert [len(token) for token in drawn] == [4, 16, 1]
    assert drawn[1] != other.token(16)


# --- canonical ---


def test_json_has_one_spelling() -> None:
    assert (
        canonical.json_bytes({"b": 1, "a": [None, True, "é\n"]}) == '{"a":[null,true,"é\\n"],"b":1}'.encode()
    )
    assert canonical.json_bytes({"a": 1, "b": 2}) == canonical.json_bytes({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical.json_bytes({"x": value})


_COLUMNS = {
    "i": pa.int64(),
    "f": pa.float64(),
    "g": pa.float32(),
    "b": pa.bool_(),
    "s": pa.string(),
    "t": pa.timestamp("us", tz="UTC"),
    "l": pa.list_(pa.float32(), 2),
}
_WHEN = datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC)
_VALUES = {
    "i": [0, None, -1, 2**62],
    "f": [0.0, None, -0.0, math.nan],
    "g": [1.5, 2.5, None, 3.5],
    "b": [True, False, None, True],
    "s": ["", None, "ab", "é"],
    "t": [_WHEN, None, _WHEN, _WHEN],
    "l": [[1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [5.0, 6.0]],
}


def _table(**changed: list) -> pa.Table:
    values = _VALUES | changed
    return pa.table({name: pa.array(values[name], kind) for name, kind in _COLUMNS.items()})


def test_a_tables_digest_does_not_depend_on_how_it_is_laid_out() -> None:
    whole = _table()
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 3)])
    padded = pa.concat_tables([_table(i=[9, 9, 9, 9]), whole]).slice(4)
    assert whole.num_rows == chunked.num_rows == padded.num_rows
    assert _digest(whole) == _digest(chunked) == _digest(padded) == _digest(whole.combine_chunks())


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [
        ("i", 0, None),
        ("i", 1, 0),
        ("i", 3, 2**62 + 1),
        ("f", 0, -0.0),
        ("f", 1, 0.0),
        ("f", 3, 1.0),
        ("g", 0, 1.5000001),
        ("b", 1, None),
        ("b", 2, False),
        ("s", 0, None),
        ("s", 1, ""),
        ("s", 2, "aB"),
        ("t", 0, _WHEN + timedelta(microseconds=1)),
        ("t", 1, datetime(1970, 1, 1, tzinfo=UTC)),
        ("l", 2, [3.0, 4.5]),
    ],
)
def test_a_tables_digest_sees_every_value(column: str, row: int, value: object) -> None:
    values = list(_VALUES[column])
    values[row] = value
    assert _digest(_table(**{column: values})) != _digest(_table())


def test_a_tables_digest_sees_order_names_and_types() -> None:
    table = _table()
    others = [
        table.take([1, 0, 2, 3]),
        table.rename_columns(["I", *table.column_names[1:]]),
        table.select(list(reversed(table.column_names))),
        table.set_column(2, "g", table.column("g").cast(pa.float64())),
        table.slice(0, 3),
        table.drop_columns(["s"]),
    ]
    assert len({_digest(one) for one in [table, *others]}) == len(others) + 1


def test_texts_do_not_run_into_each_other() -> None:
    left, right = (pa.table({"s": pa.array(texts, pa.string())}) for texts in (["ab", "c"], ["a", "bc"]))
    assert _digest(left) != _digest(right)


def test_an_empty_table_has_a_digest() -> None:
    table = schema.FEEDBACK.empty_table()
    assert _digest(table) == _digest(pa.table(table)) != _digest(_table())


def test_a_mac_depends_on_key_and_purpose_and_not_on_chunks() -> None:
    assert canonical.hmac_hex(b"k", "p", [b"ab", b"c"]) == canonical.hmac_hex(b"k", "p", [b"abc"])
    made = {
        canonical.hmac_hex(key, purpose, [data])
        for key in (b"k", b"l")
        for purpose in ("p", "q", "")
        for data in (b"abc", b"")
    }
    assert len(made) == 12


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    data = bytes(range(256)) * 5000
    path.write_bytes(data)
    assert canonical.file_sha256(path) == canonical.sha256_hex(data)


# --- clock ---


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_times_survive_the_text(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = clock.to_text(moment)
    assert text.endswith("Z") and len(text) == 27
    assert clock.from_text(text) == moment
    assert clock.from_text(text).tzinfo is UTC


def test_texts_sort_as_times_do() -> None:
    moments = [datetime(2026, 3, 4, tzinfo=UTC) + timedelta(microseconds=10**n) for n in range(14)]
    assert sorted(clock.to_text(moment) for moment in moments) == [clock.to_text(m) for m in moments]


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-03-04", "2026-03-04T09:00:00", "2026-13-04T00:00:00Z"]
)
def test_a_text_that_names_no_one_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        clock.from_text(text)


def test_clocks_tell_utc() -> None:
    start = datetime(2026, 3, 4, tzinfo=UTC)
    ticking = clock.TickingClock(start)
    assert [ticking.now() - start for _ in range(3)] == [timedelta(seconds=n) for n in range(3)]
    assert clock.SystemClock().now().utcoffset() == timedelta(0)


def test_nothing_but_the_kernel_reads_time_or_global_randomness() -> None:
    package = Path(canonical.__file__).parent
    forbidden = (
        "datetime.now(",
        "datetime.utcnow(",
        "time.time(",
        "import random",
        "np.random.seed",
        "uuid4(",
    )
    found = {
        f"{path.relative_to(package).as_posix()}: {word}"
        for path in package.rglob("*.py")
        for word in forbidden
        if word in path.read_text() and path.name not in ("clock.py", "seeds.py")
    }
    assert found == set()


# --- errors ---


def test_an_error_is_three_lines() -> None:
    error = errors.ConsentError("what", seen="this", needed="that", fix="do it")
    assert str(error) == "what\n  seen: this; needed: that\n  to fix: do it"
    assert str(errors.UsageError("what")) == "what"
    assert str(errors.UsageError("what", needed="that")) == "what\n  needed: that"
    assert str(errors.UsageError("what", fix="do it")) == "what\n  to fix: do it"


def test_every_error_has_an_exit_code_and_stands_in_the_tree_drawn() -> None:
    package = Path(canonical.__file__).parent
    for path in package.rglob("*.py"):
        if "errors" in path.name or "Error(" in path.read_text():
            importlib.import_module("rlhf_audit." + ".".join(path.relative_to(package).with_suffix("").parts))
    codes = {errors.RlhfAuditError: 1}
    todo = [errors.RlhfAuditError]
    while todo:
        for child in todo.pop().__subclasses__():
            codes[child] = child.exit_code
            todo.append(child)
    assert {codes[errors.UsageError], codes[errors.RefusedError], codes[errors.DamagedError]} == {2, 3, 4}
    for child, code in codes.items():
        assert code in (1, 2, 3, 4)
        if child.__module__ == errors.__name__:
            assert child.__name__ in (errors.__doc__ or "")
            assert code == next(b for b in child.__mro__ if "exit_code" in vars(b)).exit_code
            assert inspect.getdoc(child)


def test_the_near_match_is_near() -> None:
    assert errors.near("CartPol-v1", ["CartPole-v1", "Acrobot-v1"]) == "did you mean CartPole-v1?"
    assert errors.near("", ["CartPole-v1"]) == errors.near("x", []) == ""
