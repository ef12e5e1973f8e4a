"""An open session: an append-only file of checksummed lines that survives a kill at any byte.

Rater events are synced before they are acknowledged. A torn last line was never acknowledged and is dropped.
"""

import base64
import errno
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit import canonical
from rlhf_audit.clock import from_text, to_text
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import durable
from rlhf_audit.log.layout import Layout, checked_rater_id, is_session_id
from rlhf_audit.types import Feedback, Kind, Observation, Transition

_EVENTS = "events.jsonl"
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
    },
    "episode": {
        "episode_id": (str,),
        "episode": (int,),
        "reset_seed": (int,),
        "behaviour_policy_sha256": (str, type(None)),
    },
    "step": {
        "episode_id": (str,),
        "step": (int,),
        "observation": (dict,),
        "next_observation": (dict,),
        "action": (int,),
        "action_probability": (int, float, type(None)),
        "env_reward": (int, float),
        "terminated": (bool,),
        "truncated": (bool,),
    },
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
    },
    "weights": {"sha256": (str,)},
}


class Journal:
    """Appends the events of one session."""

    def __init__(self, layout: Layout, session_id: str, meta: Mapping[str, Any]) -> None:
        self._folder = layout.journal_folder(session_id)
        # The folder appears with its first line whole: a kill in between leaves a temporary name only.
        making = _set_aside(self._folder)
        durable.destroy_tree(making)
        making.mkdir(mode=0o700)
        durable.write(making / _EVENTS, _line({"event": "session", **meta}), mode=0o600)
        making.rename(self._folder)
        durable.sync_folder(layout.journal)
        self._stream = (self._folder / _EVENTS).open("ab", buffering=0)

    def episode(self, **facts: Any) -> None:
        """Note that an episode begins."""
        self._put(_line({"event": "episode", **facts}))

    def step(self, step: Transition, next_observation: Observation) -> None:
        """Note a step and the observation after it."""
        body = asdict(step) | {
            "event": "step",
            "observation": _pack(step.observation),
            "next_observation": _pack(next_observation),
        }
        self._put(_line(body))

    def feedback(self, row: Feedback) -> None:
        """Note a rater's event; when this returns it is on the disk."""
        body = {
            name: to_text(value) if isinstance(value, datetime) else value
            for name, value in asdict(row).items()
        }
        self._put(_line({"event": "feedback", **body}))
        os.fsync(self._stream.fileno())

    def weights(self, sha256: str) -> None:
        """Note the digest of what a learning session has taught so far."""
        self._put(_line({"event": "weights", "sha256": sha256}))

    def _put(self, line: bytes) -> None:
        written = self._stream.write(line)
        if written != len(line):
            # A full disk may take half a line; what follows a torn line would be lost, so it goes.
            os.ftruncate(self._stream.fileno(), os.fstat(self._stream.fileno()).st_size - (written or 0))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Sync and close; the session stays open on disk until it is sealed."""
        os.fsync(self._stream.fileno())
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
    lines = path.read_bytes().split(b"\n")
    checked = _Events(layout, session_id)
    for number, line in enumerate(lines):
        data = _whole(line)
        if data is None:
            behind = (_whole(later) for later in lines[number + 1 :])
            if number == 0 or any(later and b'"event":"feedback"' in later for later in behind):
                raise _damaged(name, f"is damaged in line {number + 1}")
            return
        try:
            body = checked.event(data)
        except ValueError as error:
            # Its checksum is right: no kill has made it so.
            raise _damaged(name, f"is damaged in line {number + 1}", str(error)) from error
        yield body


class _Events:
    """Checks the events of one session, in their order.

    A checksum tells a torn line; it does not tell who wrote the line.
    """

    def __init__(self, layout: Layout, session_id: str) -> None:
        self._layout = layout
        self._session_id = session_id
        self._begun = False
        self._episodes: set[str] = set()
        self._observation: tuple[np.dtype[Any], int] | None = None

    def event(self, data: bytes) -> dict[str, Any]:
        """Return an event that ``log.writer`` can seal.

        Raises:
            ValueError: It is none, or not one that can follow; nothing of it is repeated.
        """
        body = canonical.parse_object(data)
        event = body.get("event")
        if not isinstance(event, str) or event not in _FIELDS:
            raise ValueError("an event that nobody writes")
        if (event == "session") == self._begun:
            raise ValueError("a session that begins twice, or not at all")
        for name, kinds in _FIELDS[event].items():
            if name not in body or not _fits(body[name], kinds):
                raise ValueError(f"a {event} whose {name} is missing or of another type")
        try:
            self._follow(event, body)
        except (ValueError, KeyError, TypeError, OverflowError, UsageError) as error:
            raise ValueError(f"a {event} with a value that can't be") from error
        return body

    def _follow(self, event: str, body: Mapping[str, Any]) -> None:
        if event == "session":
            self._begun = True
            checked_rater_id(body["rater_id"])
            self._layout.steps_file(body["env"]["env_id"], self._session_id)
        elif event == "episode":
            self._episodes.add(body["episode_id"])
        elif event == "step":
            step, after = transition(body)
            for seen in (step.observation, after):
                shape = (seen.dtype, seen.size)
                if step.episode_id not in self._episodes or shape != (self._observation or shape):
                    raise ValueError("another episode, or another shape")
                self._observation = shape
        elif event == "feedback":
            feedback_row(body)


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


def transition(body: Mapping[str, Any]) -> tuple[Transition, Observation]:
    """Return a step event's step, and the observation after it."""
    step = Transition(
        body["episode_id"],
        body["step"],
        _unpack(body["observation"]),
        body["action"],
        body["action_probability"],
        body["env_reward"],
        body["terminated"],
        body["truncated"],
    )
    return step, _unpack(body["next_observation"])


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
    return {folder / name for folder in folders for name in names}


def _set_aside(folder: Path) -> Path:
    return folder.with_name(folder.name + durable.TEMPORARY_SUFFIX)


def _line(body: Mapping[str, Any]) -> bytes:
    data = canonical.json_bytes(body)
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _whole(line: bytes) -> bytes | None:
    checksum, _, data = line.partition(b" ")
    return data if data and checksum == b"%08x" % zlib.crc32(data) else None


def _pack(observation: Observation) -> dict[str, Any]:
    array = np.ascontiguousarray(observation)
    return {"dtype": array.dtype.str, "data": base64.b64encode(array.tobytes()).decode()}


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, kinds)


def _unpack(packed: Mapping[str, Any]) -> Observation:
    dtype = np.dtype(packed["dtype"])
    if dtype.kind not in "fiu" or dtype.itemsize > 8 or not dtype.isnative:
        raise ValueError("no numbers that a sealed file can hold")
    data = np.frombuffer(base64.b64decode(packed["data"], validate=True), dtype)
    if not data.size:
        raise ValueError("no numbers at all")
    return data.copy()
