"""Any value in any kind of file changed or taken out: every verb ends with a code and three lines."""

import contextlib
import io
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical, verification
from rlhf_audit.cli.app import main
from rlhf_audit.log import ledger
from rlhf_audit.log.store import Log
from rlhf_audit.types import Feedback, Kind

VERBS = (
    ["show", "LOG", "feedback"],
    ["audit", "LOG", "agreement", "severity"],
    ["verify", "LOG"],
    ["replay", "LOG"],
)
NONSENSE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**400, 1.5, 1e308,
    "", "\x1b[2J\n", "\u202e", "../../x", [], [[]], {}, {"a": 1}, "r-00000000",
)  # fmt: skip
RAW = (
    b"",
    b"x",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"a":1,"a":2}',
    b'{"a":"\\ud800"}',
    b"\xff\xfe",
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ledger, verification):
        monkeypatch.setattr(module, "_PAUSE_S", 0.0)


@pytest.fixture
def home(tmp_path: Path) -> Callable[[], Path]:
    """Gives a fresh copy of a log with one of everything, and its policies."""
    made = small_log.full()

    def fresh() -> Path:
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        made.copy(tmp_path / "home")
        return tmp_path / "home"

    return fresh


def run(*args: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(arg) for arg in args])
    return code, out.getvalue(), err.getvalue()


def check(home: Path, what: object, verbs: Any = VERBS) -> dict[str, int]:
    codes = {}
    for verb in verbs:
        code, out, err = run(*(home / "log" if word == "LOG" else word for word in verb))
        assert code in (0, 1, 2, 3, 4), (what, verb, code, err)
        assert "Traceback" not in err and "\x1b" not in out + err, (what, verb, err)
        if code in (2, 3, 4):
            told = err.splitlines()[-3:]
            assert [line[:7] for line in told] == ["error: ", "  seen:", "  to fi"], (what, verb, err)
        codes[verb[0]] = code
    return codes


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield (*where, name)
        yield from places(part, (*where, name))


def changed(value: Any, draw: random.Random) -> Any:
    """The value with one place in it made nonsense of or taken out."""
    value = json.loads(json.dumps(value))
    *way, last = draw.choice(list(places(value)))
    part = value
    for name in way:
        part = part[name]
    if draw.random() < 0.3:
        del part[last]
    else:
        part[last] = draw.choice(NONSENSE)
    return value


def seal_line(body: Any) -> bytes:
    data = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def key_of(home: Path) -> Path:
    return sorted((home / "log" / "keys").glob("*.key"))[0]


JSON_FILES: dict[str, Callable[[Path], Path]] = {
    "header": lambda home: home / "log" / "log.json",
    "key": key_of,
    "manifest": lambda home: home / "policies" / "live" / "manifest.json",
}


@pytest.mark.parametrize("kind", JSON_FILES)
def test_a_value_of_a_json_file(kind: str, home: Callable[[], Path]) -> None:
    draw = random.Random(kind)
    for number in range(8):
        root = home()
        path = JSON_FILES[kind](root)
        path.write_bytes(canonical.json_bytes(changed(json.loads(path.read_bytes()), draw)) + b"\n")
        codes = check(root, (kind, number, path.read_bytes()[:3000]))
        assert codes["verify"] in (1, 4)
        if kind == "manifest":
            check(root, number, [["evaluate", root / "policies" / "live", "--episodes", 1]])


@pytest.mark.parametrize("kind", [*JSON_FILES, "pending"])
def test_a_json_file_that_is_none(kind: str, home: Callable[[], Path]) -> None:
    root = home()
    path = JSON_FILES.get(kind, lambda home: home / "log" / "ledger" / "pending.json")(root)
    for raw in RAW:
        path.write_bytes(raw)
        check(root, (kind, raw[:20]))
        if kind == "manifest":
            assert check(root, raw[:20], [["evaluate", path.parent]])["evaluate"] == 4


def journal(home: Path) -> list[dict[str, Any]]:
    """The events of an open session."""
    log = Log(home / "log")
    entry = next(log.ledger.of("session"))
    names = (
        "kind",
        "source",
        "env",
        "seed",
        "ask_every",
        "rates",
        "policy",
        "learn",
        "limits",
        "rater_id",
        "grant_id",
    )
    session_id = "s-0099"
    first: dict[str, Any] = {"event": "session"} | {name: entry.body[name] for name in names}
    begun = {"event": "episode", "episode_id": f"{session_id}-e0000", "episode": 0, "reset_seed": 1}
    packed = {"dtype": "<f4", "data": "AAAAAAAAAAAAAAAAAAAAAA=="}
    step = {
        "event": "step", "episode_id": f"{session_id}-e0000", "step": 0, "observation": packed,
        "next_observation": packed, "action": 0, "action_probability": 0.5, "env_reward": 1.0,
        "terminated": False, "truncated": False,
    }  # fmt: skip
    now = log.clock.now()
    row = asdict(Feedback(f"{session_id}-e0000", 0, Kind.RATING, 1.0, now, now, 0.1, 0, grant_id="g-0001"))
    at = "2026-01-01T00:00:00.000000Z"
    rated = {"event": "feedback"} | row | {"shown_at": at, "answered_at": at}
    return [first, begun | {"behaviour_policy_sha256": None}, step, rated]


def test_a_value_of_a_journal_line_with_a_good_checksum(home: Callable[[], Path]) -> None:
    """It is named and kept, and keeps nobody from anything else."""
    draw = random.Random(1)
    bad = [[{}], [[]], [5], [{"event": "session"}], [{"event": "step"}], [{"event": []}]]
    for number in range(20):
        root = home()
        events = journal(root)
        if number < len(bad):
            events = [*events[: number % 2], *bad[number]]
        else:
            which = draw.randrange(len(events))
            events[which] = changed(events[which], draw)
        folder = root / "log" / "journal" / "s-0099"
        folder.mkdir()
        (folder / "events.jsonl").write_bytes(b"".join(map(seal_line, events)))
        codes = check(root, (number, events))
        assert codes["show"] == 0 and codes["audit"] in (0, 1), (number, events)
        if (folder / "events.jsonl").exists():
            code, out, _ = run("verify", root / "log")
            assert code == 1 and "journal/s-0099/events.jsonl" in out, (number, out)


FILES = {
    "feedback": "feedback/rater_id=*/s-0001.parquet",
    "steps": "steps/*/s-0001.parquet",
    "episodes": "episodes/s-0001.parquet",
}


def altered(table: pa.Table, draw: random.Random) -> pa.Table:
    """The table with one column gone, renamed, of another type, all null, or with one value that can't be."""
    number = draw.randrange(table.num_columns)
    name, column = table.column_names[number], table.column(number)
    kind = column.type
    match draw.randrange(5):
        case 0:
            return table.drop_columns([name])
        case 1:
            return table.rename_columns(["x" if one == name else one for one in table.column_names])
        case 2:
            return table.set_column(number, name, pa.array(["x"] * table.num_rows))
        case 3:
            return table.set_column(number, name, pa.nulls(table.num_rows, kind))
        case _:
            values = column.to_pylist()
            values[0] = (
                draw.choice([-1, 99, 2**62]) if pa.types.is_integer(kind)
                else "\x1b[2J" if pa.types.is_string(kind)
                else float("nan") if pa.types.is_floating(kind)
                else [] if pa.types.is_nested(kind)
                else None
            )  # fmt: skip
            return table.set_column(number, name, pa.array(values, kind))


@pytest.mark.parametrize("kind", FILES)
def test_a_column_of_a_parquet_file(kind: str, home: Callable[[], Path]) -> None:
    draw = random.Random(kind)
    root = home()
    path = next((root / "log").glob(FILES[kind]))
    good = path.read_bytes()
    for number in range(12):
        pq.write_table(altered(pq.ParquetFile(io.BytesIO(good)).read(), draw), path)
        assert check(root, (kind, number, pq.ParquetFile(path).schema_arrow))["verify"] == 1
    for number in range(8):
        raw = bytearray(good)
        # The footer is where damage meets most readers.
        start = draw.choice([4, len(raw) - 300])
        for place in draw.sample(range(max(start, 0), len(raw) - 4), 8):
            raw[place] = draw.randrange(256)
        path.write_bytes(raw)
        codes = check(root, (kind, "bytes", number))
        assert codes["verify"] == 1


def test_a_damaged_footer_is_named(home: Callable[[], Path]) -> None:
    for pattern in FILES.values():
        root = home()
        path = next((root / "log").glob(pattern))
        raw = path.read_bytes()
        path.write_bytes(raw[:60] + bytes(40) + raw[100:])
        name = path.relative_to(root / "log").as_posix()
        queries = (
            [
                "sql",
                "LOG",
                "SELECT sum(f.value), sum(s.env_reward), sum(e.reset_seed)"
                " FROM feedback f JOIN steps s USING (episode_id, step) JOIN episodes e USING (episode_id)",
            ],
        )
        for verb in (*queries, ["replay", "LOG", "s-0001"]):
            code, _, err = run(*(root / "log" if word == "LOG" else word for word in verb))
            assert code == 4 and name in err, (verb, code, err)


def test_bytes_of_weights(home: Callable[[], Path]) -> None:
    draw = random.Random(2)
    root = home()
    path = root / "policies" / "live" / "weights.npz"
    good = path.read_bytes()
    for number in range(40):
        raw = bytearray(good)
        for _ in range(draw.choice([1, 4])):
            raw[
                draw.choice(
                    [draw.randrange(200), draw.randrange(len(raw)), len(raw) - 1 - draw.randrange(300)]
                )
            ] ^= 1 << draw.randrange(8)
        path.write_bytes(raw[: draw.choice([len(raw), len(raw), draw.randrange(len(raw))])])
        check(root, number, [["evaluate", path.parent, "--episodes", 1]])
    check(root, "weights", (["replay", "LOG"],))


def test_a_pipe_in_a_files_place_is_not_waited_for(home: Callable[[], Path]) -> None:
    for pattern in (*FILES.values(), "keys/*.key"):
        root = home()
        path = sorted((root / "log").glob(pattern))[0]
        path.unlink()
        os.mkfifo(path)
        assert check(root, pattern)["verify"] == 1
    for name in ("manifest.json", "weights.npz"):
        root = home()
        path = root / "policies" / "live" / name
        path.unlink()
        os.mkfifo(path)
        assert check(root, name, [["evaluate", path.parent]])["evaluate"] == 4
