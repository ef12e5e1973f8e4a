"""Where the rows of each session are: what the ledger says of its sealed files, folded into one answer.

A session's entry names its files; a compaction moves rows of several sessions into merged ones; a redaction
gives a file another digest. Whoever looks for rows, checks a file or destroys one asks here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rlhf_audit.log.layout import FEEDBACK, folder_of
from rlhf_audit.log.ledger import Entry

MERGED = "compacted"
"""The event that moves rows into merged files."""
MOVING = ("session", "redaction", MERGED)
"""The events that say where rows are."""


@dataclass(frozen=True)
class Slice:
    """An unbroken stretch of one session's rows in a sealed file.

    Attributes:
        part: How many files of the session, as it was sealed, come before: the order of its slices.
        first_row: In the file, from 0.
    """

    session_id: str
    part: int
    first_row: int
    rows: int

    @property
    def end(self) -> int:
        return self.first_row + self.rows

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class SealedFile:
    """One sealed file as it is now.

    Attributes:
        path: As the ledger names it.
        sha256: Of steps and episodes; None for feedback.
        file_mac: Of feedback, under its rater's key; None for the others.
        slices: Whose rows it holds, in their order.
        redacted: What a live policy left in it is blanked.
    """

    path: str
    rows: int
    sha256: str | None
    file_mac: str | None
    slices: tuple[Slice, ...]
    redacted: bool = False

    @property
    def folder(self) -> str:
        """``episodes``, ``steps`` or ``feedback``."""
        return folder_of(self.path)

    @property
    def holds_answers(self) -> bool:
        return self.folder == FEEDBACK

    def to_json(self) -> dict[str, Any]:
        """Return what the entry of a compaction says of it."""
        digest = {"sha256": self.sha256} if self.file_mac is None else {"file_mac": self.file_mac}
        slices = [one.to_json() for one in self.slices]
        return {"path": self.path, "rows": self.rows, **digest, "sessions": slices}


class Whereabouts:
    """The sealed files of a log, as its ledger names them after these entries.

    Args:
        entries: Of the ledger, from the first on.

    Attributes:
        sessions: The facts of each, in the ledger's order.
        replaced: Paths of files whose rows have been moved into others.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.sessions: dict[str, Mapping[str, Any]] = {}
        self.replaced: set[str] = set()
        self._named: dict[str, SealedFile] = {}
        for entry in entries:
            if entry.event == "session":
                self._recorded(entry.body)
            elif entry.event == "redaction":
                self._redacted(entry.body)
            elif entry.event == MERGED:
                self._merged(entry.body)

    @cached_property
    def files(self) -> Mapping[str, SealedFile]:
        """Every file that is to be there, by path, in the ledger's order of sessions and of their parts."""
        order = {session_id: number for number, session_id in enumerate(self.sessions)}
        first = {path: file.slices[0] for path, file in self._named.items()}
        ordered = sorted(self._named, key=lambda path: (order[first[path].session_id], first[path].part))
        return {path: self._named[path] for path in ordered}

    def of_session(self, session_id: str, folder: str) -> Sequence[tuple[SealedFile, Slice]]:
        """Return where a session's rows of one folder are, in the order in which they were recorded."""
        return self._by_session.get((session_id, folder), ())

    def of_rater(self, rater_id: str) -> Iterator[SealedFile]:
        """Yield the files that hold what a rater gave."""
        return iter(self._by_rater.get(rater_id, ()))

    def taught_by(self, rater_id: str) -> Iterator[SealedFile]:
        """Yield the steps and episodes of live policies that this rater taught: answers show in them."""
        return (file for file in self.files.values() if self.teacher_of(file) == rater_id)

    def rater_of(self, file: SealedFile) -> str:
        """Return the rater of a file's first session; of all that it holds, where it holds answers."""
        return str(self.sessions[file.slices[0].session_id]["rater_id"])

    def teacher_of(self, file: SealedFile) -> str | None:
        """Return the rater who taught while these steps were made; None for answers, or without one."""
        taught = not file.holds_answers and self.sessions[file.slices[0].session_id]["learn"]
        return self.rater_of(file) if taught else None

    @cached_property
    def _by_rater(self) -> Mapping[str, Sequence[SealedFile]]:
        found: dict[str, list[SealedFile]] = {}
        for file in self.files.values():
            if file.holds_answers:
                found.setdefault(self.rater_of(file), []).append(file)
        return found

    @cached_property
    def _by_session(self) -> Mapping[tuple[str, str], Sequence[tuple[SealedFile, Slice]]]:
        found: dict[tuple[str, str], list[tuple[SealedFile, Slice]]] = {}
        for file in self.files.values():
            for one in file.slices:
                found.setdefault((one.session_id, file.folder), []).append((file, one))
        return {key: sorted(slices, key=lambda pair: pair[1].part) for key, slices in found.items()}

    def _recorded(self, facts: Mapping[str, Any]) -> None:
        session_id, parts = facts["session_id"], Counter[str]()
        self.sessions[session_id] = facts
        for file in facts["files"]:
            folder = folder_of(file["path"])
            self._add(file, [Slice(session_id, parts[folder], 0, file["rows"])])
            parts[folder] += 1

    def _redacted(self, body: Mapping[str, Any]) -> None:
        for file in body["files"]:
            old = self._named.get(file["path"])
            if old is not None:
                self._named[old.path] = replace(old, sha256=file["sha256"], redacted=True)

    def _merged(self, body: Mapping[str, Any]) -> None:
        for path in body["replaces"]:
            self.replaced.add(path)
            self._named.pop(path, None)
        for file in body["files"]:
            self._add(file, [Slice(**one) for one in file["sessions"]])
            self.replaced.discard(file["path"])

    def _add(self, file: Mapping[str, Any], slices: Sequence[Slice]) -> None:
        digests = file.get("sha256"), file.get("file_mac")
        self._named[file["path"]] = SealedFile(file["path"], file["rows"], *digests, tuple(slices))


def rows_mac(facts: Mapping[str, Any]) -> str:
    """Return the commitment to what was given in a session, as it was entered when the session was sealed."""
    return next(str(file["rows_mac"]) for file in facts["files"] if "rows_mac" in file)
