"""Full disks and half-made files: a plain error, nothing half-written, healed on the next open."""

import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, LogError
from rlhf_audit.log import durable, reader, writer
from rlhf_audit.log.store import Log
from rlhf_audit.recording.record import Request, record
from rlhf_audit.types import Feedback, Kind
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


def test_writing_replaces_a_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write(path, b"old", mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for call in ("rename", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, no_space)
            with pytest.raises(OSError, match="No space"):
                durable.write(path, b"new")
        assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]
    durable.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_destroyed_file_was_overwritten(tmp_path: Path) -> None:
    path, link, outside = tmp_path / "secret", tmp_path / "link", tmp_path / "outside"
    path.write_bytes(b"very secret" * 500)
    outside.write_bytes(b"not ours")
    (tmp_path / "secret.tmp").write_bytes(b"very secret, half-written")
    link.symlink_to(outside)
    os.link(path, tmp_path / "other name of the same bytes")
    durable.destroy(path)
    durable.destroy(path)
    durable.destroy(link)
    assert names(tmp_path) == ["other name of the same bytes", "outside"]
    assert b"very secret" not in (tmp_path / "other name of the same bytes").read_bytes()
    assert outside.read_bytes() == b"not ours"


def test_a_rewrite_can_be_done_again_after_each_crash(tmp_path: Path) -> None:
    path, old = tmp_path / "file", tmp_path / ".file.old"

    def change(before: Path, after: Path) -> None:
        after.write_bytes(before.read_bytes().replace(b"secret", b"------"))

    for there, aside, written in (
        (b"a secret", None, b"a ------"),  # nothing done
        (None, b"a secret", b"a ------"),  # the old one is set aside
        (b"a ------", b"a secret", b"a ------"),  # the new one is in place
        (b"a ------", b"\x99\x01 half", b"a ------"),  # the old one is half overwritten
        (b"a ------", None, b"a ------"),  # all done
    ):
        for target, data in ((path, there), (old, aside)):
            target.unlink(missing_ok=True)
            if data is not None:
                target.write_bytes(data)
        durable.rewrite(path, change)
        assert path.read_bytes() == written and names(tmp_path) == ["file"]

    def refuse(before: Path, after: Path) -> None:
        raise LogError("no")

    with pytest.raises(LogError):
        durable.rewrite(path, refuse)
    assert path.read_bytes() == b"a ------" and names(tmp_path) == ["file"]


# --- the journal


def opened(tmp_path: Path) -> tuple[Log, list[str], writer.SessionWriter]:
    log, raters = small_log.plain(tmp_path / "log")
    grant = register.grant_for(log, raters[0], log.clock.now())
    facts = writer.SessionFacts(
        **{
            name: log.ledger.entries[-1].body[name]
            for name in ("kind", "source", "env", "seed", "ask_every", "rates", "policy", "learn", "limits")
        }
    )
    return log, raters, writer.SessionWriter(log, grant, facts)


def answer(log: Log, number: int) -> Feedback:
    now = log.clock.now()
    return Feedback("s-0001-e0000", number, Kind.RATING, 1.0, now, now, 0.1, number, grant_id="g-0001")


def test_an_answer_that_the_disk_refused_is_not_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _, session = opened(tmp_path)
    session.feedback(answer(log, 0))
    path = log.layout.journal_folder(session.session_id) / "events.jsonl"
    before = path.read_bytes()
    full = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, full[1]))
    try:
        with pytest.raises(OSError, match=r"No space|too large"):
            session.feedback(answer(log, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, full)
    assert path.read_bytes() == before
    session.feedback(answer(log, 2))
    assert session.seal()
    rows = reader.session(log, session.session_id).feedback
    assert rows is not None and [row.step for row in rows] == [0, 2]
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("cut", [1, 2, 9, 10, 11, 30])
def test_a_torn_last_line_was_never_acknowledged(tmp_path: Path, cut: int) -> None:
    log, _, session = opened(tmp_path)
    for number in range(3):
        session.feedback(answer(log, number))
    path = log.layout.journal_folder(session.session_id) / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert verify(log.layout.root).ok
    assert erase.heal(log) == ["sealed session s-0003, which had been cut short"]
    rows = reader.session(log, "s-0003").feedback
    # Without its newline alone the line is whole.
    assert rows is not None and [row.step for row in rows] == ([0, 1, 2] if cut == 1 else [0, 1])
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("line", [0, 2])
def test_a_damaged_journal_is_named_and_kept(tmp_path: Path, line: int) -> None:
    """No kill makes a bad line with a good answer behind it: what was acknowledged is not thrown away."""
    log, raters, session = opened(tmp_path)
    for number in range(4):
        session.feedback(answer(log, number))
    path = log.layout.journal_folder(session.session_id) / "events.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[line] = lines[line][:20] + b"?" + lines[line][21:]
    path.write_bytes(b"\n".join(lines))
    found = verify(log.layout.root)
    assert [(one.file, one.problem) for one in found.problems] == [
        ("journal/s-0003/events.jsonl", f"is damaged in line {line + 1}")
    ]
    assert erase.heal(log) == []
    assert path.read_bytes() == b"\n".join(lines)
    with pytest.raises(LogError, match="journal/s-0003"):
        session.seal()
    # Another rater's erasure leaves it; this rater's takes it.
    erase.apply(log, raters[1])
    assert path.exists()
    erase.apply(log, raters[0])
    assert not any(log.layout.journal.iterdir())
    assert verify(log.layout.root).ok


def test_a_missing_key_does_not_cost_an_open_session(tmp_path: Path) -> None:
    log, raters, session = opened(tmp_path)
    session.feedback(answer(log, 0))
    key = log.layout.key_file(raters[0])
    raw = key.read_bytes()
    key.unlink()
    assert erase.heal(log) == []
    assert not verify(log.layout.root).ok
    key.write_bytes(raw)
    assert erase.heal(log) == ["sealed session s-0003, which had been cut short"]
    assert verify(log.layout.root).ok


def test_a_stranger_in_the_journal_folder_is_named_and_kept(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    (log.layout.journal / "notes").mkdir()
    (log.layout.journal / "notes" / "mine.txt").write_text("mine")
    assert erase.heal(log) == []
    assert [one.file for one in verify(log.layout.root).problems] == ["journal/notes/mine.txt"]
    small_log.acts(log, next(iter(log.ledger.of("enrolled"))).body["rater_id"])
    assert (log.layout.journal / "notes" / "mine.txt").exists()


def test_a_plan_touches_no_session_that_is_being_opened(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log")
    making = log.layout.journal / "s-0003.tmp"
    making.mkdir()
    (making / "events.jsonl").write_text("half")
    before = snapshot(log.layout.root)
    plan.make(Log(log.layout.root), raters[0])
    assert snapshot(log.layout.root) == before


def test_no_session_without_a_grant(tmp_path: Path) -> None:
    log, raters, session = opened(tmp_path)
    session.seal()
    grant = register.grant_for(log, raters[0], log.clock.now())
    with pytest.raises(ConsentError):
        writer.SessionWriter(log, None, session)  # type: ignore[arg-type]
    other = small_log.empty(tmp_path / "other", 2)
    with pytest.raises(ConsentError):
        writer.SessionWriter(other, grant, session)  # type: ignore[arg-type]


# --- a full disk, at every write


@pytest.mark.parametrize("act", ["record", "withdraw", "enrol", "erase"])
def test_a_full_disk_leaves_nothing_half_written(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, raters = small_log.plain(tmp_path / "base")

    def run(log: Log) -> None:
        if act == "record":
            record(log, Request(raters[0], "scripted:oracle", rates="s-0001", ask_every=20, max_feedback=2))
        elif act == "withdraw":
            register.withdraw(log, raters[0])
        elif act == "enrol":
            register.enrol(log, "Somebody", {}, "oracle")
        else:
            erase.apply(log, raters[0])

    refused = 0
    for n in range(1, 200, 3 if act == "erase" else 1):
        root = tmp_path / "log"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(base.layout.root, root)
        failed = False
        with monkeypatch.context() as patched:
            counted = [0]

            def failing(real: Any, counted: list[int] = counted, n: int = n) -> Any:
                def call(*args: Any, **kwargs: Any) -> Any:
                    counted[0] += 1
                    return no_space() if counted[0] >= n else real(*args, **kwargs)

                return call

            patched.setattr(os, "fsync", failing(os.fsync))
            patched.setattr(pq, "write_table", failing(pq.write_table))
            try:
                run(Log(root))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                failed = True
        if counted[0] < n:
            assert not failed
            break
        refused += failed
        erase.heal(Log(root))
        found = verify(root)
        assert found.ok, (n, found.problems)
        if any(Log(root).ledger.of("erasure-intent")):
            assert len(list(Log(root).ledger.of("receipt"))) == 1
        # Who is told nothing can rely on it: an append counts from its first synced file on.
        event = {"record": "session", "withdraw": "withdrawal", "enrol": "enrolled", "erase": "receipt"}[act]
        n_before, n_after = (len(list(one.ledger.of(event))) for one in (base, Log(root)))
        assert failed or n_after == n_before + 1, f"{act}: write {n} was refused, and nobody was told"
    assert refused >= 2


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import small_log
from rlhf_audit.log.store import Log
log = Log(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    small_log.acts(log, next(iter(log.ledger.of("enrolled"))).body["rater_id"], n=6)
except OSError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("limit", [100, 3_000, 5_000])
def test_files_that_may_not_grow(limit: int, tmp_path: Path) -> None:
    """The operating system itself refuses, in the middle of a file, to Arrow as well."""
    log, _ = small_log.plain(tmp_path / "log")
    command = [sys.executable, "-c", LIMITED, str(log.layout.root), str(limit), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.startswith("refused"), (done.stdout, done.stderr[-500:])
    erase.heal(Log(log.layout.root))
    found = verify(log.layout.root)
    assert found.ok, found.problems
