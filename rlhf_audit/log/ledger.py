"""The append-only ledger: one canonical JSON entry a line, under a signed Merkle root.

An append is signed before it is written: ``pending.json`` holds the new lines and the checkpoint that covers
them, so that a crash at any moment is rolled forward, and a line that was never signed is never accepted.
"""

import base64
import contextlib
import heapq
import json
import operator
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
from rlhf_audit.log import durable, keyring, merkle, pending
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.notes import parse as parse_note

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
        first_key: The public key in the log's header, 32 bytes: the ledger itself names those that follow.

    Attributes:
        keys: Those that may sign, as the ledger names them.
        note: The signed checkpoint of the entries as they were read.
    """

    def __init__(self, layout: Layout, origin: str, first_key: bytes) -> None:
        self._layout = layout
        self._origin = origin
        self._first_key = first_key
        self.keys: Sequence[keyring.LogKey] = (keyring.LogKey(first_key, 0),)
        self.note = b""
        self._lines: list[bytes] = []
        self._entries: list[Entry] = []
        self._raw = b""
        self._tree = merkle.Tree()
        self._by_event: dict[str, list[Entry]] = {}

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
        found = [self._by_event.get(event, []).copy() for event in events]
        return heapq.merge(*found, key=operator.attrgetter("seq")) if len(found) > 1 else iter(found[0])

    @property
    def head(self) -> Head:
        return self.head_at(len(self._lines))

    def head_at(self, size: int) -> Head:
        """Return the head when the ledger had ``size`` entries."""
        return Head(size, self._tree.root(size).hex())

    @property
    def origin(self) -> str:
        """The tree's name in its checkpoints."""
        return self._origin

    @property
    def public_key(self) -> bytes:
        """The key that signs now, 32 bytes."""
        return self.keys[-1].public_key

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
            raw, _, note = self._with_pending(raw, note)
            source = "pending.json"
        elif raw and not raw.endswith(b"\n"):
            raise LedgerError("ledger/entries.jsonl ends in the middle of a line")
        lines, known = self._read_on(raw)
        more = [
            _parse(number, lines[number], lines[max(0, number - 1) : number])
            for number in range(known, len(lines))
        ]
        keys = self._keys_of(lines, known)
        tree = (self._tree if known else merkle.Tree()).grown(map(merkle.leaf_hash, lines[known:]))
        root = tree.root()
        try:
            signed = self._signed(note, keys)
        except LedgerError as error:
            if f"\n{base64.b64encode(root).decode()}\n".encode() in note:
                raise
            # Either may be the damaged one.
            raise LedgerError(
                "ledger/checkpoint is not signed by this log's key, nor is it that of ledger/entries.jsonl"
            ) from error
        if signed.size != len(lines) or signed.root != root:
            raise LedgerError(
                f"ledger/{source} is not what ledger/checkpoint signs",
                seen=f"{len(lines)} entries",
                needed=f"{signed.size} entries under the signed root",
            )
        self._raw, self._lines, self._tree, self.keys, self.note = raw, lines, tree, keys, note
        # A new list: whoever folds entries keeps what was folded of an old one.
        self._entries = self._entries[:known] + more
        if not known:
            self._by_event = {}
        for entry in more:
            self._by_event.setdefault(entry.event, []).append(entry)

    def _read_on(self, raw: bytes) -> tuple[list[bytes], int]:
        """Return the lines, and how many of them were read and checked before: those are not parsed again."""
        if not raw.startswith(self._raw):
            return _split(raw), 0
        return self._lines + _split(raw[len(self._raw) :]), len(self._lines)

    def _keys_of(self, lines: Sequence[bytes], known: int) -> tuple[keyring.LogKey, ...]:
        before = self.keys if known else (keyring.LogKey(self._first_key, 0),)
        return keyring.fold(self._origin, before, lines, known)

    def _signed(self, note: bytes, keys: Sequence[keyring.LogKey]) -> notes.Checkpoint:
        """Return the checkpoint in a note that the key of its size has signed."""
        size = 0
        with contextlib.suppress(ValueError):
            size = notes.unchecked(parse_note(note)).size
        return notes.read(note, self._origin, keyring.at(keys, size))

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
                lines.append(canonical.json_bytes(_entry(lines, clock, event, body)))
            return self._commit(lines, key)

    def rotate(self, new: Ed25519PrivateKey, clock: Clock, old: Ed25519PrivateKey | None) -> Entry:
        """Enter a new key, which signs from this entry on.

        Args:
            new: Its private half.
            clock: Where the time comes from.
            old: The key before, which signs for the new one; None if it was lost.

        Raises:
            LedgerError: What is on disk does not check.
            DamagedError: ``old`` is not the log's key.
        """
        with self._lock:
            self.load()
            self._roll_forward()
            if old is not None:
                notes.check_key(old, self.public_key)
            note = self._read(self._layout.checkpoint)
            event, body = keyring.facts(old, self.public_key, new, note)
            entry = keyring.signed(_entry(self._lines, clock, event, body), old or new)
            return self._commit([*self._lines, canonical.json_bytes(entry)], new)[-1]

    def _commit(self, lines: list[bytes], key: Ed25519PrivateKey) -> list[Entry]:
        """Make these the ledger's lines, signed by the key of that size."""
        new = lines[len(self._lines) :]
        # Before anything is written: another process may have changed the key.
        notes.check_key(key, keyring.at(self._keys_of(lines, len(self._lines)), len(lines)))
        root = self._tree.grown(map(merkle.leaf_hash, new)).root()
        head = notes.Checkpoint(self._origin, len(lines), root)
        pending.write(self._layout, new, notes.sign(head, key))
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

    def _roll_forward(self) -> bool:
        if not self._layout.pending.exists():
            return False
        note = self._layout.checkpoint.read_bytes() if self._layout.checkpoint.exists() else b""
        raw = self._read(self._layout.entries)
        raw, kept, new_note = self._with_pending(raw, note)
        with self._layout.entries.open("rb+") as stream:
            stream.truncate(kept)
            stream.seek(kept)
            stream.write(raw[kept:])
            stream.flush()
            os.fsync(stream.fileno())
        durable.write(self._layout.checkpoint, new_note)
        self._layout.pending.unlink()
        durable.sync_folder(self._layout.ledger)
        return True

    def _with_pending(self, raw: bytes, note: bytes) -> tuple[bytes, int, bytes]:
        """Return all lines with those of the pending append, where those begin, and its checkpoint.

        The checkpoint's signature holds.
        """
        new, new_note = pending.read(self._layout)
        try:
            before = notes.unchecked(parse_note(new_note)).size - len(new)
            known = before == len(self._lines) and raw.startswith(self._raw)
            kept = self._raw if known else b"".join(line + b"\n" for line in _split(raw)[: max(0, before)])
            whole = kept + b"".join(line + b"\n" for line in new)
            keys = self._keys_of(*self._read_on(whole))
            after = self._signed(new_note, keys)
        except (ValueError, LedgerError) as error:
            raise LedgerError("ledger/pending.json is not signed by this log's key") from error
        if note and self._signed(note, keys).size not in (before, after.size):
            raise LedgerError("ledger/pending.json does not follow ledger/checkpoint")
        return whole, len(kept), new_note

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


def _entry(lines: Sequence[bytes], clock: Clock, event: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the line after ``lines`` is to say."""
    before = merkle.leaf_hash(lines[-1]).hex() if lines else ""
    return {**body, "seq": len(lines), "at": to_text(clock.now()), "event": event, "prev": before}


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
