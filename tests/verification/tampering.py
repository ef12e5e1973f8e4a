"""What is done to a log to see whether it is noticed, by `verify` and by docs/verify.py."""

import contextlib
import functools
import importlib.util
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import small_log
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import canonical, verification
from rlhf_audit.errors import LogError, RlhfAuditError
from rlhf_audit.log import anchors, checkpoint, compaction, keyring, merkle, rotation
from rlhf_audit.log.layout import Layout
from rlhf_audit.verification import Beliefs
from rlhf_audit.withdrawal import erase

NEW_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


@functools.cache
def independent() -> ModuleType:
    """docs/verify.py, as its own users have it: a file."""
    spec = importlib.util.spec_from_file_location(
        "independent", Path(__file__).parents[2] / "docs" / "verify.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class World:
    """A small log with one of everything, earlier states of it, and where it was anchored.

    Attributes:
        home: Holds ``log``, ``policies`` and ``anchor``.
        states: What the log held at earlier times, path to bytes, the oldest first.
    """

    home: Path
    states: tuple[dict[str, bytes], ...] = field(repr=False)

    @property
    def root(self) -> Path:
        return self.home / "log"

    @property
    def anchor(self) -> Path:
        return self.home / "anchor"

    def restore(self, state: dict[str, bytes] | None = None) -> None:
        """Make the log and its policies what they were."""
        state = self.states[-1] if state is None else state
        there = {path for path in self.home.rglob("*") if not path.is_dir() and path != self.anchor}
        for path in there - {self.home / name for name in state}:
            path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        for name, data in state.items():
            path = self.home / name
            if path not in there or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def snapshot(home: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(home.rglob("*")) if path.is_file() and "anchor" not in path.parts]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths}


def build(home: Path) -> World:
    """Two raters who stay and one who is erased; a report and a policy; a rotated key; merged files."""
    log = small_log.empty(home / "log")
    states = [snapshot(home)]
    raters = [small_log.join(log, alias=f"Person Number {n}") for n in range(3)]
    first = small_log.acts(log, raters[0], n=3)
    for rater_id in (raters[1], raters[1], raters[2]):
        small_log.rates(log, rater_id, first)
    states.append(snapshot(home))
    facts = {"rater_ids": raters[:1]}
    log.place(home / "log" / "reports" / "one", {"report.json": b"{}\n"}, "report", facts)
    policy = {"rater_ids": raters[:1], "name": "p", "weights_sha256": "0" * 64}
    log.place(home / "policies" / "p", {"weights.npz": b"weights\n"}, "training", policy)
    states.append(snapshot(home))
    small_log.acts(log, raters[0], n=2, seed=8)
    compaction.compact(log)
    states.append(snapshot(home))
    rotation.rotate(log, NEW_KEY)
    erase.apply(log, raters[2])
    anchors.write(log, home / "anchor")
    log.append("import", {"session_id": first, "format": "csv", "source_sha256": "0" * 64, "reference": ""})
    states.append(snapshot(home))
    return World(home, tuple(states))


@dataclass(frozen=True)
class Seen:
    """Which files each verifier names; none for a log that is as it was."""

    ours: frozenset[str]
    independent: frozenset[str]


def look(world: World, since: bool = True) -> Seen:
    """Ask both verifiers, once each."""
    try:
        found = verification._look(world.root, Beliefs(world.anchor if since else None))
        ours = {one.file for one in found.problems}
    except LogError as error:
        # No log, or one of another format: told with its own exit code.
        assert "log.json" in str(error)
        ours = {"log.json"}
    except RlhfAuditError as error:
        ours = {f"refused: {error.what}"}
    notes = [world.anchor.read_bytes()] if since else []
    other = {name for name, _ in independent().check(world.root, *notes)}
    return Seen(frozenset(ours), frozenset(other))


def as_named(world: World, path: Path) -> str:
    return Path(os.path.relpath(path, world.root)).as_posix()


@dataclass(frozen=True)
class Escape:
    """Something that was done and not noticed, or not where it was done."""

    what: str
    seen: Seen


def judged(world: World, what: str, places: set[str]) -> Iterator[Escape]:
    """Yield an escape unless both verifiers name one of these places."""
    seen = look(world)
    if not (seen.ours & places and seen.independent & places):
        yield Escape(what, seen)


def flipped(world: World, path: Path, places: Iterator[int], rng: random.Random) -> Iterator[Escape]:
    """Change one byte at a time."""
    raw, name = path.read_bytes(), as_named(world, path)
    for place in places:
        change = rng.randrange(1, 256)
        path.write_bytes(raw[:place] + bytes([raw[place] ^ change]) + raw[place + 1 :])
        yield from judged(world, f"{name} byte {place} ^ {change:#x}", {name})
    path.write_bytes(raw)


def _files(world: World) -> list[Path]:
    return [path for path in small_log.every_file(world.home) if path != world.anchor]


def _edit(world: World, rng: random.Random) -> set[str]:
    path = rng.choice(_files(world))
    raw = bytearray(path.read_bytes())
    start, length = rng.randrange(len(raw)), rng.randrange(1, 30)
    before = bytes(raw)
    raw[start : start + length] = rng.randbytes(rng.randrange(30))
    path.write_bytes(bytes(raw) if bytes(raw) != before else before + b"x")
    return {as_named(world, path)}


def _truncate(world: World, rng: random.Random) -> set[str]:
    path = rng.choice(_files(world))
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.randrange(len(raw))])
    return {as_named(world, path)}


def _drop(world: World, rng: random.Random) -> set[str]:
    path = rng.choice(_files(world))
    path.unlink()
    return {as_named(world, path)}


def _duplicate(world: World, rng: random.Random) -> set[str]:
    path = rng.choice([path for path in _files(world) if path.is_relative_to(world.root)])
    other = path.with_name(
        rng.choice([f"s-{rng.randrange(9000, 9999)}", ".copy", "r-00000000"]) + path.suffix
    )
    shutil.copy(path, other)
    return {as_named(world, other)}


def _swap(world: World, rng: random.Random) -> set[str]:
    files = _files(world)
    one = rng.choice(files)
    like = [path for path in files if path.suffix == one.suffix and path.read_bytes() != one.read_bytes()]
    other = rng.choice(like or [path for path in files if path != one])
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    return {as_named(world, one), as_named(world, other)}


def _answers(world: World, rng: random.Random) -> set[str]:
    """Another rater's answers, or the other answer, in a file that is Parquet as good as before."""
    files = sorted(world.root.glob("feedback/*/*.parquet"))
    path = rng.choice(files)
    table = pq.ParquetFile(path).read()
    if rng.random() < 0.5:
        given = pq.ParquetFile(rng.choice([other for other in files if other != path])).read()
        row = rng.randrange(given.num_rows)
        table = pa.concat_tables([table.slice(1), given.slice(row, 1)])
    else:
        values = table.column("value").to_pylist()
        row = rng.randrange(len(values))
        values[row] = 1.0 if values[row] == 0.0 else 0.0
        number = table.schema.get_field_index("value")
        table = table.set_column(number, table.schema.field(number), pa.array(values, pa.float64()))
    pq.write_table(table, path)
    return {as_named(world, path)}


def _lines(world: World, rng: random.Random) -> set[str]:
    """Entries lost, doubled or in another order, under the checkpoint as it is."""
    path = Layout(world.root).entries
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind == 2:
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    else:
        lines = lines[: at + 1]
    path.write_bytes(b"".join(lines))
    return {"ledger/entries.jsonl"}


def _roll_back_all(world: World, rng: random.Random) -> set[str]:
    world.restore(rng.choice(world.states[:-1]))
    return {"ledger/entries.jsonl"}


def _roll_back_one(world: World, rng: random.Random) -> set[str]:
    now = world.states[-1]
    older = [
        (name, data) for state in world.states[:-1] for name, data in state.items() if now.get(name) != data
    ]
    name, data = rng.choice(older)
    (world.home / name).parent.mkdir(parents=True, exist_ok=True)
    (world.home / name).write_bytes(data)
    return {as_named(world, world.home / name)}


def _fork(world: World, rng: random.Random) -> set[str]:
    """Another history, whole in itself and signed by the operator's own keys."""
    layout = Layout(world.root)
    log_id = canonical.parse_object(layout.header.read_bytes())["log_id"]
    entries = [canonical.parse_object(line) for line in layout.entries.read_bytes().splitlines()]
    n_anchored = int(world.anchor.read_text().split("\n")[1])
    # The created entry stays: without it there is no log to be taken for this one.
    at, kind = rng.randrange(1, n_anchored), rng.randrange(5)
    if kind == 0:
        entries[at]["at"] = entries[at]["at"].replace("T", "T0", 1)
    elif kind == 1:
        del entries[at]
    elif kind == 2:
        # Said again behind the last anchored entry it would be new, and nobody could tell it from what is.
        at = min(at, n_anchored - 2)
        entries.insert(at, dict(entries[at]))
    elif kind == 3:
        other = rng.choice([n for n in range(1, n_anchored) if n != at])
        entries[at], entries[other] = entries[other], entries[at]
    else:
        fake = {"event": "consent", "rater_id": "r-00000000", "state": "given", "at": entries[at]["at"]}
        entries[at:] = [fake] * rng.randrange(1, len(entries))
    _resign(layout, f"rlhf_audit/{log_id}", entries)
    return {"ledger/entries.jsonl"}


def _resign(layout: Layout, origin: str, entries: list[dict[str, object]]) -> None:
    lines: list[bytes] = []
    key = small_log.KEY
    for number, entry in enumerate(entries):
        before = merkle.leaf_hash(lines[-1]).hex() if lines else ""
        entry = {**entry, "seq": number, "prev": before}
        if entry["event"] == keyring.ROTATED:
            entry.pop("signature", None)
            entry, key = keyring.signed(entry, key), NEW_KEY
        lines.append(canonical.json_bytes(entry))
    root = merkle.root([merkle.leaf_hash(line) for line in lines])
    layout.entries.write_bytes(b"".join(line + b"\n" for line in lines))
    layout.checkpoint.write_bytes(checkpoint.sign(checkpoint.Checkpoint(origin, len(lines), root), key))


ACTS: dict[str, Callable[[World, random.Random], set[str]]] = {
    "edit": _edit,
    "truncation": _truncate,
    "drop": _drop,
    "duplicate": _duplicate,
    "swap": _swap,
    "answers": _answers,
    "entries": _lines,
    "rollback": _roll_back_all,
    "rollback of a file": _roll_back_one,
    "fork": _fork,
}


def random_acts(world: World, count: int, seed: int) -> Iterator[Escape]:
    """Do one thing at a time, each kind as often; undo it; yield what went unseen."""
    rng = random.Random(seed)
    for number in range(count):
        name = list(ACTS)[number % len(ACTS)]
        places = ACTS[name](world, rng)
        yield from judged(world, f"{name} {number}: {sorted(places)}", places)
        world.restore()
