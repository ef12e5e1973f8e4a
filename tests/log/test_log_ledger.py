"""The ledger: published vectors, an independent reader of its note, every way to damage or interrupt it."""

import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import small_log
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical
from rlhf_audit.errors import LedgerError
from rlhf_audit.log import checkpoint, durable, merkle, views
from rlhf_audit.log.store import Log

# The eight leaves and roots of Certificate Transparency's own tests of RFC 6962.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:size]]
    assert merkle.root(leaves).hex() == ROOTS[size - 1]


def test_the_root_of_nothing() -> None:
    assert merkle.root([]) == hashlib.sha256(b"").digest()


def rfc6962(leaves: list[bytes]) -> bytes:
    """The RFC's own recursive words."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + rfc6962(leaves[:split]) + rfc6962(leaves[split:])).digest()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_roots_are_those_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle.root([merkle.leaf_hash(leaf) for leaf in leaves]) == rfc6962(leaves)


def test_the_checkpoint_is_a_c2sp_note(tmp_path: Path) -> None:
    """Read by c2sp.org/signed-note and tlog-checkpoint alone, with nothing of ours."""
    log = small_log.empty(tmp_path / "log")
    note = log.layout.checkpoint.read_bytes()
    text, _, signatures = note.rpartition(b"\n\n")
    origin, size, root, rest = (text + b"\n").decode().split("\n", 3)
    assert origin == f"rlhf_audit/{log.log_id}" and rest == ""
    lines = log.layout.entries.read_bytes().split(b"\n")[:-1]
    assert int(size) == len(lines) == 2
    assert base64.b64decode(root, validate=True) == rfc6962(lines)
    dash, name, blob = signatures.decode().removesuffix("\n").split(" ")
    raw = base64.b64decode(blob, validate=True)
    public = bytes.fromhex(json.loads(log.layout.header.read_bytes())["public_key"])
    assert (dash, name) == ("—", origin)
    assert raw[:4] == hashlib.sha256(name.encode() + b"\n" + b"\x01" + public).digest()[:4]
    Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], text + b"\n")


def test_every_flipped_bit_of_a_checkpoint_is_refused() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    note = checkpoint.sign(checkpoint.Checkpoint("rlhf_audit/x", 7, bytes(32)), key)
    assert checkpoint.read(note, "rlhf_audit/x", public).size == 7
    for place in range(len(note)):
        for bit in range(8):
            wrong = bytearray(note)
            wrong[place] ^= 1 << bit
            with pytest.raises(LedgerError):
                checkpoint.read(bytes(wrong), "rlhf_audit/x", public)
    with pytest.raises(LedgerError):
        checkpoint.read(note, "rlhf_audit/y", public)
    with pytest.raises(LedgerError):
        checkpoint.read(note + b"\n", "rlhf_audit/x", public)


def grown(root: Path, n: int = 6) -> Log:
    log = small_log.empty(root)
    for i in range(n):
        log.append("export", {"path": f"../{i}", "rater_ids": []})
    return log


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "removed": (lambda lines: lines[:3] + lines[4:], "line 4 is out of order"),
    "duplicated": (lambda lines: lines[:4] + lines[3:], "line 5 is out of order"),
    "swapped": (swapped, "line 4 is out of order"),
    "edited": (
        lambda lines: [line.replace(b"../1", b"../9") for line in lines],
        "line 5 does not follow the line before it",
    ),
    "edited last": (lambda lines: [line.replace(b"../5", b"../9") for line in lines], "checkpoint signs"),
    "last removed": (lambda lines: lines[:-1], "checkpoint signs"),
    "one more": (lambda lines: [*lines, lines[-1]], "line 9 is out of order"),
    "no time": (lambda lines: [line.replace(b'"at"', b'"au"') for line in lines], "line 1 "),
    "no event": (lambda lines: [line.replace(b'"event"', b'"fvent"') for line in lines], "line 1 "),
    "not JSON": (lambda lines: [lines[0][:-1], *lines[1:]], "line 1 is not JSON"),
    "spaces": (lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]], "line 1 is not canonical JSON"),
    "NaN": (lambda lines: [lines[0].replace(b'"seq":0', b'"seq":NaN'), *lines[1:]], "line 1 is not"),
    "empty": (lambda lines: [], "checkpoint signs"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_named(how: str, tmp_path: Path) -> None:
    log = grown(tmp_path / "log")
    change, words = DAMAGE[how]
    lines = change(log.layout.entries.read_bytes().split(b"\n")[:-1])
    log.layout.entries.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(LedgerError, match=r"ledger/entries\.jsonl") as caught:
        Log(tmp_path / "log")
    assert words in str(caught.value)
    before = log.layout.entries.read_bytes()
    with pytest.raises(LedgerError):
        log.append("export", {"path": "../x", "rater_ids": []})
    assert log.layout.entries.read_bytes() == before


def test_a_missing_ledger_and_half_a_line_are_named(tmp_path: Path) -> None:
    log = grown(tmp_path / "log")
    raw = log.layout.entries.read_bytes()
    log.layout.entries.write_bytes(raw[:-9])
    with pytest.raises(LedgerError, match="ends in the middle of a line"):
        Log(tmp_path / "log")
    for path in (log.layout.entries, log.layout.checkpoint):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(LedgerError, match=f"ledger/{path.name} is missing"):
            Log(tmp_path / "log")
        path.write_bytes(data)
        log.layout.entries.write_bytes(raw)
    assert len(Log(tmp_path / "log").ledger.entries) == 8


def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Log, dict[str, bytes]]:
    """A log in the middle of an append, and its ledger's files from before."""
    log = grown(tmp_path / "log")
    before = {path.name: path.read_bytes() for path in (log.layout.entries, log.layout.checkpoint)}
    with monkeypatch.context() as patched:
        patched.setattr(type(log.ledger), "_roll_forward", lambda self: False)
        log.append("export", {"path": "../cut", "rater_ids": []})
    assert log.layout.pending.exists()
    return log, before


@pytest.mark.parametrize("stage", ["pending", "half a line", "lines", "checkpoint"])
def test_an_append_cut_short_is_rolled_forward(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = interrupted(tmp_path, monkeypatch)
    pending = json.loads(log.layout.pending.read_bytes())
    line = pending["lines"][0].encode() + b"\n"
    if stage != "pending":
        with log.layout.entries.open("ab") as stream:
            stream.write(line[:20] if stage == "half a line" else line)
    if stage == "checkpoint":
        durable.write(log.layout.checkpoint, pending["checkpoint"].encode())
    names = set(log.layout.ledger.iterdir())
    reader = Log(tmp_path / "log")
    assert reader.ledger.entries[-1].body["path"] == "../cut"
    assert set(log.layout.ledger.iterdir()) == names, "a reader writes nothing"
    with reader.writing():
        assert not log.layout.pending.exists()
    reader.append("export", {"path": "../after", "rater_ids": []})
    paths = [entry.body["path"] for entry in Log(tmp_path / "log").ledger.of("export")]
    assert paths == [*(f"../{i}" for i in range(6)), "../cut", "../after"]


@pytest.mark.parametrize("how", ["torn", "other line", "other key", "no lines", "spaces", "old", "twice"])
def test_a_torn_or_forged_pending_append_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = interrupted(tmp_path, monkeypatch)
    raw = log.layout.pending.read_bytes()
    pending = json.loads(raw)
    if how == "torn":
        raw = raw[: len(raw) // 2]
    elif how == "other line":
        raw = raw.replace(b"../cut", b"../cup")
    elif how == "other key":
        head = checkpoint.Checkpoint(f"rlhf_audit/{log.log_id}", 9, bytes(32))
        note = checkpoint.sign(head, Ed25519PrivateKey.generate()).decode()
        raw = canonical.json_bytes(pending | {"checkpoint": note})
    elif how == "no lines":
        raw = canonical.json_bytes(pending | {"lines": []})
    elif how == "spaces":
        raw = json.dumps(pending).encode()
    elif how == "old":
        with log.writing():
            log.append("export", {"path": "../later", "rater_ids": []})
    elif how == "twice":
        raw = canonical.json_bytes(pending | {"lines": pending["lines"] * 2})
    opened = Log(tmp_path / "log")
    log.layout.pending.write_bytes(raw)
    entries, note = log.layout.entries.read_bytes(), log.layout.checkpoint.read_bytes()
    with pytest.raises(LedgerError, match=r"ledger/"):
        Log(tmp_path / "log")
    # Nor does one who had it open before write what is not signed.
    with pytest.raises(LedgerError), opened.writing():
        pass
    with pytest.raises(LedgerError):
        opened.append("export", {"path": "../x", "rater_ids": []})
    assert (log.layout.entries.read_bytes(), log.layout.checkpoint.read_bytes()) == (entries, note)


APPENDER = """
import sys
from pathlib import Path
from rlhf_audit.log.store import Log
log = Log(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    log.append("export", {"path": f"../{sys.argv[2]}-{i}", "rater_ids": []})
"""


def appenders(root: Path, names: str, each: int) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", APPENDER, str(root)]
    return [subprocess.Popen([*command, name, str(each)], cwd=Path(__file__).parents[2]) for name in names]


def test_two_appenders_lose_nothing_and_a_reader_sees_no_false_alarm(tmp_path: Path) -> None:
    log = small_log.empty(tmp_path / "log")
    at_work = appenders(log.layout.root, "ab", 40)
    sizes = []
    while any(process.poll() is None for process in at_work):
        reader = Log(log.layout.root)
        sizes.append(len(reader.ledger.entries))
        with views.connect(reader, reader.clock.now()) as connection:
            counted = connection.execute("SELECT count(*) FROM ledger").fetchall()
        assert counted == [(sizes[-1],)]
    assert [process.returncode for process in at_work] == [0, 0]
    assert sizes == sorted(sizes) and len(set(sizes)) > 3
    paths = [entry.body["path"] for entry in Log(log.layout.root).ledger.of("export")]
    assert sorted(paths) == sorted(f"../{name}-{i}" for name in "ab" for i in range(40))
    for name in "ab":
        assert [path for path in paths if path[3] == name] == [f"../{name}-{i}" for i in range(40)]


@pytest.mark.sweep
def test_readers_for_long(tmp_path: Path) -> None:
    log = small_log.empty(tmp_path / "log")
    at_work = appenders(log.layout.root, "abc", 300)
    looks, alarms = 0, []
    stop = threading.Event()

    def look() -> None:
        nonlocal looks
        while not stop.is_set():
            try:
                Log(log.layout.root)
            except LedgerError as error:
                alarms.append(error.what)
            looks += 1

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert [process.wait() for process in at_work] == [0, 0, 0]
    stop.set()
    for thread in threads:
        thread.join()
    print(f"{looks} looks while 900 entries were appended: {len(alarms)} false alarms")
    assert not alarms
    assert len(Log(log.layout.root).ledger.entries) == 902


def test_random_bytes_in_place_of_a_ledger_never_crash_the_reader(tmp_path: Path) -> None:
    log = grown(tmp_path / "log", 2)
    shutil.copytree(log.layout.ledger, tmp_path / "kept")
    rng = random.Random(5)
    for _ in range(150):
        for name in ("entries.jsonl", "checkpoint"):
            raw = bytearray((tmp_path / "kept" / name).read_bytes())
            start = rng.randrange(len(raw))
            raw[start : start + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
            (log.layout.ledger / name).write_bytes(raw)
        same = all(
            (log.layout.ledger / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()
            for name in ("entries.jsonl", "checkpoint")
        )
        if not same:
            with pytest.raises(LedgerError):
                log.ledger._load()
