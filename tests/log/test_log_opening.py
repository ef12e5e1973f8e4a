"""Logs that are none, are of another format, are broken, or were just cloned or just begun."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_log
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.consent import register
from rlhf_audit.errors import DamagedError, LogError, UsageError
from rlhf_audit.log import durable, journal, keys, ledger, reader, store
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_without_its_empty_folders_works(tmp_path: Path) -> None:
    """Git keeps none: a log that was cloned lacks them."""
    log = small_log.empty(tmp_path / "log")
    for folder in log.layout.folders:
        if not any(folder.iterdir()):
            folder.rmdir()
    again = Log(log.layout.root)
    assert verify(log.layout.root).ok
    assert erase.heal(again) == []
    rater_id = small_log.join(again)
    small_log.acts(again, rater_id)
    assert verify(log.layout.root).ok
    assert stat.S_IMODE(log.layout.keys.stat().st_mode) == 0o700


@pytest.mark.parametrize("version", [99, "1", None, [1]])
def test_another_format_is_refused_by_name(tmp_path: Path, version: Any) -> None:
    log = small_log.empty(tmp_path / "log")
    header = json.loads(log.layout.header.read_bytes()) | {"format_version": version}
    log.layout.header.write_bytes(json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    with pytest.raises(LogError) as caught:
        Log(log.layout.root)
    assert "another format" in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"format_version":1}', b"\xff\xfe", b"1"])
def test_a_broken_header_is_named(tmp_path: Path, raw: bytes) -> None:
    log = small_log.empty(tmp_path / "log")
    log.layout.header.write_bytes(raw)
    with pytest.raises(LogError, match=r"log\.json"):
        Log(log.layout.root)
    found = verify(log.layout.root)
    assert [one.file for one in found.problems] == ["log.json"]


def test_there_is_no_log(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(LogError, match="no log here"):
            Log(root)
        with pytest.raises(LogError, match="no log here"):
            verify(root)
    assert not any(tmp_path.iterdir())


def test_init_wants_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for root in (tmp_path, tmp_path / "mine"):
        with pytest.raises(UsageError):
            store.create(root, signing_key=small_log.KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_init_begins_again_where_one_was_cut_short(tmp_path: Path) -> None:
    """A kill leaves what it leaves; ``fault_driver`` kills at every change of the disk."""
    log = store.create(tmp_path / "log", signing_key=small_log.KEY, terms=b"the terms")
    log.layout.header.rename(tmp_path / "log" / "log.json.tmp")
    again = store.create(tmp_path / "log", signing_key=small_log.KEY, terms=b"other terms")
    assert again.log_id != log.log_id and verify(again.layout.root).ok
    assert [path.read_bytes() for path in again.layout.terms.iterdir()] == [b"other terms"]


@pytest.mark.parametrize("name", ["terms/mine.md", "ledger/mine", "mine/x", "keys/r-00000000.key", "x.tmp"])
def test_init_takes_nothing_for_its_own_that_is_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        store.create(tmp_path / "log", signing_key=small_log.KEY)
    assert path.read_text() == "mine"


def test_a_log_that_lost_its_header_is_no_room_for_another(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    log.layout.header.unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="not empty"):
        store.create(log.layout.root, signing_key=small_log.KEY)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("inner", ["reports/x", "x", "reports/../x/y", "keys"])
def test_no_log_is_made_inside_another(tmp_path: Path, inner: str) -> None:
    log = small_log.empty(tmp_path / "log")
    with pytest.raises(UsageError, match="lies inside a log") as refused:
        store.create(log.layout.root / inner, signing_key=small_log.KEY)
    assert refused.value.exit_code == 2
    assert verify(log.layout.root).ok


def test_a_log_takes_its_place_in_an_empty_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a mounted disk, or where we stand: it is filled, never replaced."""
    monkeypatch.chdir(tmp_path)
    inode = tmp_path.stat().st_ino
    assert verify(store.create(Path(), signing_key=small_log.KEY).layout.root).ok
    assert tmp_path.stat().st_ino == inode


def test_of_an_enrolment_that_was_refused_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = small_log.empty(tmp_path / "log")
    monkeypatch.setattr(ledger.Ledger, "append", no_space)
    with pytest.raises(OSError):
        register.enrol(log, "Zebedee Unusual")
    assert not any(log.layout.keys.iterdir()), "their name must not wait for the next opening"


def test_an_append_that_can_not_be_finished_now_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told that it failed may rely on it, and who is told nothing on the contrary."""
    log = small_log.empty(tmp_path / "log")
    with monkeypatch.context() as patched:
        patched.setattr(
            ledger.Ledger, "_roll_forward", lambda self: self._layout.pending.exists() and no_space()
        )
        rater_id, _ = register.enrol(log)
    assert log.layout.pending.exists()
    assert register.rater(Log(log.layout.root), rater_id)
    with monkeypatch.context() as patched:
        patched.setattr(durable, "sync_folder", no_space)
        with pytest.raises(OSError):
            log.append("export", {"path": "../out", "rater_ids": []})
    assert erase.heal(Log(log.layout.root)) == [] and not log.layout.pending.exists()
    again = Log(log.layout.root)
    assert not list(again.ledger.of("export")) and register.rater(again, rater_id)
    assert verify(log.layout.root).ok


def test_the_key_must_be_there_and_be_this_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, raters = small_log.plain(tmp_path / "log")
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "none"))
    with pytest.raises(DamagedError, match="not on this machine"):
        register.withdraw(Log(log.layout.root), raters[0])
    (tmp_path / "none").write_text("not a key")
    with pytest.raises(DamagedError, match="can't be read"):
        register.withdraw(Log(log.layout.root), raters[0])
    assert verify(log.layout.root).ok, "to verify needs the public key alone"


def test_key_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log")
    path = log.layout.key_file(raters[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    raw = path.read_bytes()
    for wrong in (raw[:-1], raw + b"\n", raw.replace(b":", b": ", 1), b"", b"[]", b"\xff", raw.upper()):
        path.write_bytes(wrong)
        with pytest.raises(LogError, match=f"keys/{raters[0]}"):
            keys.read(log.layout, raters[0])


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_garbage_in_a_journal_never_crashes_its_reader(chunks: list[bytes]) -> None:
    import tempfile

    from rlhf_audit.log.layout import Layout

    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        layout.journal_folder("s-0001").mkdir(parents=True)
        (layout.journal_folder("s-0001") / "events.jsonl").write_bytes(b"\n".join(chunks))
        with pytest.raises(LogError):
            list(journal.read(layout, "s-0001"))


def test_a_sealed_file_that_is_none_is_refused(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    path = log.layout.episodes_file("s-0001")
    for raw in (b"", b"PAR1", b"not Parquet", path.read_bytes()[:-20], np.random.default_rng(0).bytes(999)):
        path.write_bytes(raw)
        with pytest.raises(LogError, match=r"episodes/s-0001\.parquet"):
            list(reader.session(log, "s-0001").episodes)
