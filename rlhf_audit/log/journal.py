"""An open session's events: an append-only file of checksummed lines that survives a kill at any byte.

Rater events are synced before they are acknowledged, and so is every step before them. A torn last line was
never acknowledged and is dropped. The steps themselves are in ``trajectory.py``'s parts, in the same folder.
"""

import contextlib
import errno
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.clock import from_text, to_text
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import durable, encryption
from rlhf_audit.log.encryption import Cipher
from rlhf_audit.log.layout import Layout, checked_rater_id, is_session_id
from rlhf_audit.types import Feedback, Kind

_EVENTS = "events.jsonl"
_PART = re.compile(r"part-[0-9]{4,}-[0-9]{5,}(\.side|\.(steps|episodes)\.parquet(\.tmp)?)?")
_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "session": {
        "rater_id": (str,),
        "grant_id": (str,),
        "kind": (str,),
        "source": (str,),
        "env": (dict,),
        "seed": (int,),
        "ask_every": (int,),
        "rates": (str, type(None)),
        "policy": (dict, type(None)),
        "learn": (dict, type(None)),
        "limits": (dict,),
        "info": (list,),
        "observations": (str,),
    },
    "part": {
        "stream": (int,),
        "part": (int,),
        "slots": (int,),
        "boot": (str,),
    },
    "sealed": {
        "stream": (int,),
        "part": (int,),
        "parts": (int,),
        "steps_sha256": (str,),
        "episodes_sha256": (str,),
    },
    "episode": {
        "stream": (int,),
        "episode": (int,),
        "reset_options": (str, type(None)),
        "behaviour_policy_sha256": (str, type(None)),
    },
    "mark": {"marks": (list,)},
    "feedback": {
        "episode_id": (str,),
        "step": (int,),
        "kind": (str,),
        "value": (int, float, type(None)),
        "objective": (str,),
        "other_episode_id": (str, type(None)),
        "other_step": (int, type(None)),
        "n_steps": (int,),
        "action": (int, type(None)),
        "consent": (bool,),
        "grant_id": (str,),
        "shown_at": (str,),
        "answered_at": (str,),
        "latency_s": (int, float),
        "position": (int,),
        "supersedes": (int, type(None)),
        "marks": (list,),
    },
    "weights": {"sha256": (str,)},
}
_MARK: Mapping[str, tuple[type, ...]] = {
    "stream": (int,),
    "part": (int,),
    "from": (int,),
    "slots": (int,),
    "crc32": (int,),
    "side": (list, type(None)),
}


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

    def feedback(self, row: Feedback, marks: Sequence[Mapping[str, Any]]) -> None:
        """Note a rater's event; when this returns it is on the disk, and so is what ``marks`` says."""
        body = {
            name: to_text(value) if isinstance(value, datetime) else value
            for name, value in asdict(row).items()
        }
        self._give({"event": "feedback", **body, "marks": list(marks)}, sync=True)

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
    checked, number = _Events(layout, session_id), 0
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


class _Events:
    """Checks the events of one session, in their order.

    A checksum tells a torn line; it does not tell who wrote the line.
    """

    def __init__(self, layout: Layout, session_id: str) -> None:
        self._layout = layout
        self._session_id = session_id
        self._begun = False
        self._rater_id = ""
        self._cipher: Cipher | None = None
        self._parts: dict[int, int] = {}

    def event(self, data: bytes) -> dict[str, Any]:
        """Return an event that ``log.writer`` can seal.

        Raises:
            ValueError: It is none, or not one that can follow; nothing of it is repeated.
            LogError: It is encrypted, and its rater's key is missing or damaged.
        """
        body = canonical.parse_object(data)
        event = body.get("event")
        if self._begun and isinstance(body.get("encrypted"), str):
            body = canonical.parse_object(self._opened(body["encrypted"]))
        if not isinstance(event, str) or event not in _FIELDS:
            raise ValueError("an event that nobody writes")
        if (event == "session") == self._begun:
            raise ValueError("a session that begins twice, or not at all")
        _check_fields(event, body, _FIELDS[event])
        try:
            self._follow(event, body)
        except (ValueError, KeyError, TypeError, OverflowError, UsageError) as error:
            raise ValueError(f"a {event} with a value that can't be") from error
        return body

    def _opened(self, text: str) -> bytes:
        if self._cipher is None:
            self._cipher = encryption.of_rater(self._layout, self._rater_id)
        return self._cipher.decrypt(text, self._session_id)

    def _follow(self, event: str, body: Mapping[str, Any]) -> None:
        if event == "session":
            self._begun = True
            self._rater_id = checked_rater_id(body["rater_id"])
            self._layout.steps_file(body["env"]["env_id"], self._session_id)
        elif event == "part":
            # The newest one may begin twice: the first time was interrupted.
            turn = self._parts.get(body["stream"], 0)
            if body["part"] not in (turn, max(0, turn - 1)) or not 0 < body["slots"] < 1 << 32:
                raise ValueError("a part out of turn")
            self._parts[body["stream"]] = body["part"] + 1
        elif event == "sealed":
            first, turn = body["part"], self._parts[body["stream"]]
            if first < 0 or not 0 < body["parts"] <= turn - first:
                raise ValueError("other parts")
        elif event == "episode":
            if not self._parts[body["stream"]] or body["episode"] < 0:
                raise ValueError("an episode of no part")
        elif event == "mark":
            self._check_marks(body["marks"])
        elif event == "feedback":
            feedback_row(body)
            self._check_marks(body["marks"])

    def _check_marks(self, marks: Sequence[Any]) -> None:
        for mark in marks:
            _check_fields("mark", mark, _MARK)
            # One that was begun before its part's end may come after it.
            if not 0 <= mark["part"] < self._parts[mark["stream"]] or not 0 <= mark["from"] <= mark["slots"]:
                raise ValueError("a mark of another part")
            side = mark["side"] or [0, 0]
            whole = len(side) == 2 and all(isinstance(one, int) and 0 <= one < 1 << 63 for one in side)
            if not whole or not 0 <= mark["crc32"] < 1 << 32 or mark["slots"] > 1 << 33:
                raise ValueError("a mark of something else")


def _check_fields(event: str, body: Any, fields: Mapping[str, tuple[type, ...]]) -> None:
    for name, kinds in fields.items():
        if not isinstance(body, dict) or name not in body or not _fits(body[name], kinds):
            raise ValueError(f"a {event} whose {name} is missing or of another type")


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


def feedback_row(body: Mapping[str, Any]) -> Feedback:
    """Return a feedback event's row."""
    known = {name: body[name] for name in Feedback.__dataclass_fields__}
    known |= {"kind": Kind(body["kind"])}
    known |= {name: from_text(body[name]) for name in ("shown_at", "answered_at")}
    return Feedback(**known)


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


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, kinds)
