"""The append-only ledger: one canonical JSON entry a line, under a signed Merkle root.

An append is signed before it is written: ``pending.json`` holds the new lines and the checkpoint that covers
them, so that a crash at any moment is rolled forward, and a line that was never signed is never accepted.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock

from rlhf_audit import canonical
from rlhf_audit.clock import Clock, to_text
from rlhf_audit.errors import LedgerError
from rlhf_audit.log import checkpoint as notes
from rlhf_audit.log import durable, merkle
from rlhf_audit.log.layout import Layout

# A reader takes no lock: between another process's append and its new checkpoint it looks again.
_LOOKS = 8
_PAUSE_S = 0.02


@dataclass(frozen=True)
class Entry:
    """One ledger line.

    Attributes:
        seq: Line number, from 0.
        at: RFC 3339, UTC.
        event: What happened: created, terms, enrolled, consent, session, withdrawal, training, …
        body: The rest.
    """

    seq: int
    at: str
    event: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """The ledger's size in entries and its root, 64 hex digits."""

    size: int
    root: str

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "root": self.root}


class Ledger:
    """The entries of one log, checked against the checkpoint whenever they are read.

    Args:
        layout: Where they are.
        origin: The tree's name in the checkpoint.
        public_key: 32 bytes, from the log's header.
    """

    def __init__(self, layout: Layout, origin: str, public_key: bytes) -> None:
        self._layout = layout
        self._origin = origin
        self._public_key = public_key
        self._lines: list[bytes] = []
        self._entries: list[Entry] = []

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self._layout.ledger_lock)

    @property
    def entries(self) -> Sequence[Entry]:
        return self._entries

    @property
    def lines(self) -> Sequence[bytes]:
        """The entries' bytes, checked, each without its newline."""
        return self._lines

    def of(self, *events: str) -> Iterator[Entry]:
        """Yield the entries of these events, oldest first."""
        return (entry for entry in self._entries if entry.event in events)

    @property
    def head(self) -> Head:
        return self.head_at(len(self._lines))

    def head_at(self, size: int) -> Head:
        """Return the head when the ledger had ``size`` entries."""
        return Head(size, merkle.root([merkle.leaf_hash(line) for line in self._lines[:size]]).hex())

    def load(self) -> None:
        """Read and check all entries; an append that a crash cut short counts, since it is signed.

        Raises:
            LedgerError: A line, the order of lines, or the root is not what was signed.
        """
        for _ in range(_LOOKS - 1):
            with contextlib.suppress(LedgerError):
                return self._load()
            time.sleep(_PAUSE_S)
        self._load()

    def _load(self) -> None:
        raw = self._read(self._layout.entries)
        note = self._read(self._layout.checkpoint)
        source = "entries.jsonl"
        if self._layout.pending.exists():
            source = "pending.json"
            signed, lines, note = self._read_pending(note)
            kept = b"".join(line + b"\n" for line in _split(raw)[: signed.size])
            raw = kept + b"".join(line + b"\n" for line in lines)
        signed = notes.read(note, self._origin, self._public_key)
        if raw and not raw.endswith(b"\n"):
            raise LedgerError("ledger/entries.jsonl ends in the middle of a line")
        lines = _split(raw)
        entries = [_parse(number, line, lines[:number][-1:]) for number, line in enumerate(lines)]
        if signed.size != len(lines) or signed.root != merkle.root([merkle.leaf_hash(x) for x in lines]):
            raise LedgerError(
                f"ledger/{source} is not what the ledger's checkpoint signs",
                seen=f"{len(lines)} entries",
                needed=f"{signed.size} entries under the signed root",
            )
        self._lines, self._entries = lines, entries

    def changed_on_disk(self) -> bool:
        """Say whether another process has appended since this one read."""
        size = self._layout.entries.stat().st_size
        return size != sum(len(line) + 1 for line in self._lines) or self._layout.pending.exists()

    def append(
        self, key: Ed25519PrivateKey, clock: Clock, events: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> list[Entry]:
        """Append entries, durably, all or none: who gets an error knows that they will never count.

        Raises:
            LedgerError: What is on disk does not check; nothing is written then.
            OSError: The disk refused; nothing was entered then, nor will it be.
        """
        with self._lock:
            self.load()
            self._roll_forward()
            lines = list(self._lines)
            for event, body in events:
                before = merkle.leaf_hash(lines[-1]).hex() if lines else ""
                entry = {"seq": len(lines), "at": to_text(clock.now()), "event": event, "prev": before}
                lines.append(canonical.json_bytes({**body, **entry}))
            new = lines[len(self._lines) :]
            head = notes.Checkpoint(
                self._origin, len(lines), merkle.root([merkle.leaf_hash(line) for line in lines])
            )
            pending = {
                "lines": [line.decode() for line in new],
                "checkpoint": notes.sign(head, key).decode(),
            }
            self._write_pending(canonical.json_bytes(pending))
            with contextlib.suppress(OSError):
                # It counts already, and every reader reads it so: the next writer can finish it as well.
                self._roll_forward()
            self.load()
            return self._entries[-len(new) :] if new else []

    def recover(self) -> bool:
        """Finish an append that a crash cut short; say whether there was one."""
        strays = [*self._layout.ledger.glob(f"*{durable.TEMPORARY_SUFFIX}")]
        if not strays and not self._layout.pending.exists():
            return False
        with self._lock:
            for path in self._layout.ledger.glob(f"*{durable.TEMPORARY_SUFFIX}"):
                path.unlink()
            # Checked first: nothing that does not follow from what was signed is written.
            self.load()
            return self._roll_forward()

    def _write_pending(self, data: bytes) -> None:
        """Decide an append: afterwards it is on the disk and counts, or it is not and never will."""
        try:
            durable.write(self._layout.pending, data)
        except OSError:
            # The name may have been there already when the sync of its folder failed.
            with contextlib.suppress(OSError):
                self._layout.pending.unlink(missing_ok=True)
            if not self._layout.pending.exists():
                raise

    def _roll_forward(self) -> bool:
        if not self._layout.pending.exists():
            return False
        note = self._layout.checkpoint.read_bytes() if self._layout.checkpoint.exists() else b""
        signed, lines, new_note = self._read_pending(note)
        kept = sum(len(line) + 1 for line in _split(self._read(self._layout.entries))[: signed.size])
        with self._layout.entries.open("rb+") as stream:
            stream.truncate(kept)
            stream.seek(kept)
            stream.write(b"".join(line + b"\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())
        durable.write(self._layout.checkpoint, new_note)
        self._layout.pending.unlink()
        durable.sync_folder(self._layout.ledger)
        return True

    def _read_pending(self, note: bytes) -> tuple[notes.Checkpoint, list[bytes], bytes]:
        """Return the signed state before the pending append, its lines, and its checkpoint."""
        try:
            raw = canonical.read_file(self._layout.pending)
            pending = canonical.parse_object(raw)
            lines = [line.encode() for line in pending["lines"]]
            new_note = pending["checkpoint"].encode()
        except PermissionError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Missing: between two looks of a reader the append has ended.
            raise LedgerError("ledger/pending.json can't be read") from error
        if canonical.json_bytes(pending) != raw:
            raise LedgerError("ledger/pending.json is not as it was written")
        try:
            after = notes.read(new_note, self._origin, self._public_key)
        except LedgerError as error:
            raise LedgerError("ledger/pending.json is not signed by this log's key") from error
        before = notes.Checkpoint(self._origin, after.size - len(lines), b"")
        if note and notes.read(note, self._origin, self._public_key).size not in (before.size, after.size):
            raise LedgerError("ledger/pending.json does not follow ledger/checkpoint")
        return before, lines, new_note

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return canonical.read_file(path)
        except PermissionError:
            raise
        except OSError as error:
            # A folder or a pipe in its place is as good as nothing.
            raise LedgerError(f"ledger/{path.name} is missing") from error


def create(layout: Layout, origin: str, key: Ed25519PrivateKey) -> None:
    """Write an empty ledger and its checkpoint."""
    durable.write(layout.entries, b"")
    durable.write(layout.checkpoint, notes.sign(notes.Checkpoint(origin, 0, merkle.root([])), key))


def _split(raw: bytes) -> list[bytes]:
    return raw.split(b"\n")[:-1] if raw.endswith(b"\n") else raw.split(b"\n") if raw else []


def _parse(number: int, line: bytes, before: Sequence[bytes]) -> Entry:
    problem = None
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(line)
        needed = merkle.leaf_hash(before[0]).hex() if before else ""
        if not isinstance(body, dict) or canonical.json_bytes(body) != line:
            problem = "is not canonical JSON"
        elif body.get("seq") != number:
            problem = "is out of order"
        elif body.get("prev") != needed:
            problem = "does not follow the line before it"
        elif not (isinstance(body.get("at"), str) and isinstance(body.get("event"), str)):
            problem = "has no time or no event"
        else:
            rest = {name: value for name, value in body.items() if name not in ("seq", "at", "event", "prev")}
            return Entry(number, body["at"], body["event"], rest)
    raise LedgerError(f"ledger/entries.jsonl line {number + 1} {problem or 'is not JSON'}")
