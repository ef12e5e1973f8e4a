"""An open session's events: an append-only file of checksummed lines that survives a kill at any byte.

Rater events are synced before they are acknowledged, and so is every step before them. A torn last line was
never acknowledged and is dropped. The steps themselves are in ``trajectory.py``'s parts, in the same folder.
"""

import contextlib
import errno
import math
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.clock import to_text
from rlhf_audit.errors import LogError
from rlhf_audit.log import durable, events
from rlhf_audit.log.encryption import Cipher
from rlhf_audit.log.layout import Layout, is_session_id
from rlhf_audit.types import Feedback

_EVENTS = "events.jsonl"
_PART = re.compile(r"part-[0-9]{4,}-[0-9]{5,}(\.side|\.(steps|episodes)\.parquet(\.tmp)?)?")


class Journal:
    """Appends the events of one session."""

    def __init__(
        self, layout: Layout, session_id: str, meta: Mapping[str, Any], cipher: Cipher | None = None
    ) -> None:
        self._folder = layout.journal_folder(session_id)
        # The folder appears with its first line whole: a kill in between leaves a temporary name only.
        making = _set_aside(self._folder)
        durable.destroy_tree(making)
        making.mkdir(mode=0o700)
        durable.write(making / _EVENTS, _line({"event": "session", **meta}), mode=0o600)
        making.rename(self._folder)
        durable.sync_folder(layout.journal)
        self._stream = (self._folder / _EVENTS).open("ab", buffering=0)
        self._lock = threading.Lock()
        self._cipher, self._session_id = cipher, session_id

    @property
    def folder(self) -> Path:
        """Where the session is, until it is sealed."""
        return self._folder

    def feedback(self, row: Feedback, marks: Sequence[Mapping[str, Any]], *, sync: bool = True) -> None:
        """Note a rater's event; with ``sync`` it, and what ``marks`` says, is on the disk on return."""
        body = {
            name: to_text(value) if isinstance(value, datetime) else value
            for name, value in vars(row).items()
        }
        if math.isnan(row.latency_s):
            # JSON has no form for it.
            body["latency_s"] = None
        self._give({"event": "feedback", **body, "marks": list(marks)}, sync=sync)

    def sync(self) -> None:
        """Bring what was noted without it to the disk."""
        with self._lock:
            os.fsync(self._stream.fileno())

    def weights(self, sha256: str) -> None:
        """Note the digest of what a learning session has taught so far."""
        # From a few answers they could be guessed.
        self._give({"event": "weights", "sha256": sha256})

    def _give(self, event: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append what a rater gave; encrypted in a sealed log."""
        if self._cipher is not None:
            told = self._cipher.encrypt(canonical.json_bytes(event), self._session_id)
            event = {"event": event["event"], "encrypted": told}
        self.put(event, sync=sync)

    def put(self, event: Mapping[str, Any], sync: bool = False) -> None:
        """Append an event, from any thread; with ``sync``, it is on the disk when this returns."""
        line = _line(event)
        with self._lock:
            written = self._stream.write(line)
            if written != len(line):
                # A full disk may take half a line; what follows a torn line would be lost, so it goes.
                os.ftruncate(self._stream.fileno(), os.fstat(self._stream.fileno()).st_size - (written or 0))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                self._sync(len(line))

    def _sync(self, size: int) -> None:
        try:
            os.fsync(self._stream.fileno())
        except OSError:
            # Told that it was refused, its maker may give it again: it must not be there twice.
            os.ftruncate(self._stream.fileno(), os.fstat(self._stream.fileno()).st_size - size)
            raise

    def close(self) -> None:
        """Sync and close; the session stays open on disk until it is sealed. May be called again."""
        if not self._stream.closed:
            try:
                os.fsync(self._stream.fileno())
            finally:
                self._stream.close()


def open_sessions(layout: Layout) -> list[str]:
    """Return the ids of sessions whose journal is there, oldest first."""
    return sorted(
        path.name for path in layout.journal.glob("*") if is_session_id(path.name) and path.is_dir()
    )


def drop_half_made(layout: Layout) -> None:
    """Destroy journals that a crash left half-made or half-destroyed. Call inside ``log.writing()``."""
    for path in layout.journal.glob(f"*{durable.TEMPORARY_SUFFIX}"):
        durable.destroy_tree(path)


def read(layout: Layout, session_id: str) -> Iterator[dict[str, Any]]:
    """Yield a journal's whole events, in order, up to a torn line.

    Raises:
        LogError: A kill can't have made it so: the first line is not whole, or an answer stands behind a line
            that is not. What was acknowledged is then not dropped.
    """
    path = layout.journal_folder(session_id) / _EVENTS
    name = layout.relative(path)
    if not path.exists():
        return
    if not path.is_file():
        raise _damaged(name, "is not a file")
    checked, number = events.Checker(layout, session_id), 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            data = _whole(line)
            if data is None:
                behind = (_whole(later) for later in lines)
                if number == 1 or any(later and b'"event":"feedback"' in later for later in behind):
                    raise _damaged(name, f"is damaged in line {number}")
                return
            try:
                body = checked.event(data)
            except ValueError as error:
                # Its checksum is right: no kill has made it so.
                raise _damaged(name, f"is damaged in line {number}", str(error)) from error
            yield body
    if not number:
        raise _damaged(name, "is damaged in line 1")


def _damaged(name: str, problem: str, seen: str = "other bytes") -> LogError:
    return LogError(
        f"{name} {problem}",
        seen=seen,
        needed="the session's events as they were recorded",
        fix="put the file back from a copy, or erase its rater",
    )


def mentions(layout: Layout, session_id: str, words: Iterable[str]) -> bool:
    """Say whether any of ``words`` stands in a journal, damaged or not."""
    path = layout.journal_folder(session_id) / _EVENTS
    data = path.read_bytes() if path.is_file() else b""
    return any(word.encode() in data for word in words)


def discard(layout: Layout, session_id: str) -> None:
    """Overwrite and remove a journal: it holds what a rater gave."""
    folder = layout.journal_folder(session_id)
    going = _set_aside(folder)
    # Renamed first: a half-overwritten journal must never look like an open session.
    if folder.exists():
        folder.rename(going)
        durable.sync_folder(layout.journal)
    durable.destroy_tree(going)


def journal_files(layout: Layout) -> set[Path]:
    """Return every file that belongs to an open session, or to one that is being opened or discarded."""
    folders = [layout.journal_folder(session_id) for session_id in open_sessions(layout)]
    folders += [path for path in layout.journal.glob(f"s-*{durable.TEMPORARY_SUFFIX}") if path.is_dir()]
    names = (_EVENTS, _EVENTS + durable.TEMPORARY_SUFFIX)
    parts: set[Path] = set()
    for folder in folders:
        # One that is being sealed may go while it is looked at.
        with contextlib.suppress(FileNotFoundError):
            parts |= {path for path in folder.glob("part-*") if _PART.fullmatch(path.name)}
    return {folder / name for folder in folders for name in names} | parts


def _set_aside(folder: Path) -> Path:
    return folder.with_name(folder.name + durable.TEMPORARY_SUFFIX)


def _line(body: Mapping[str, Any]) -> bytes:
    data = canonical.json_bytes(body)
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _whole(line: bytes) -> bytes | None:
    line = line.removesuffix(b"\n")
    checksum, _, data = line.partition(b" ")
    return data if data and checksum == b"%08x" % zlib.crc32(data) else None
