"""Every file that holds a rater, and what really stands in its place: theirs, other bytes, or an obstacle."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.errors import LogError
from rlhf_audit.log import artefacts, durable, keys
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import SealedFile
from rlhf_audit.policy import lineage, store


class Kind(StrEnum):
    """What a file is to the rater."""

    KEY = "key"
    ROWS = "rows"
    STEPS = "steps"
    POLICY = "policy"
    REPORT = "report"
    JOURNAL = "journal"


class State(StrEnum):
    """What stands in a file's place."""

    MISSING = "missing"
    THEIRS = "theirs"
    OTHER = "other"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Holding:
    """One file that holds a rater.

    Attributes:
        name: As the ledger names it, relative to the log.
        path: Where that is on this machine.
        place: ``path`` without the links of the folders that the log shares out.
        rows: Answers in it.
        is_theirs: Says whether a file's bytes are those that the ledger names.
    """

    kind: Kind
    name: str
    path: Path
    place: Path
    is_theirs: Callable[[Path], bool]
    rows: int = 0

    def look(self) -> "Look":
        """Return what stands in its place; nothing but a file is ever opened."""
        real = Path(os.path.realpath(self.place))
        linked = real != self.place

        def seen(state: State, problem: str = "", names: int = 1, inode: int = 0) -> Look:
            return Look(self, real, linked, state, problem, names, inode)

        try:
            self.path.lstat()
            status = real.stat()
        except (FileNotFoundError, NotADirectoryError):
            if linked and (self.path.is_symlink() or not real.parent.is_dir()):
                return seen(State.BLOCKED, "is a link to a place that is not there")
            return seen(State.MISSING)
        except OSError as error:
            return seen(State.BLOCKED, f"can't be read: {error.strerror}")
        problem = durable.no_file(status.st_mode)
        if problem is not None:
            return seen(State.BLOCKED, f"is a link to what {problem}" if linked else problem)
        if self.kind is Kind.ROWS and not linked and status.st_nlink == 1:
            # Whatever it is, it goes with their folder, and is nobody else's too: it need not be read.
            return seen(State.THEIRS, inode=status.st_ino)
        try:
            state = State.THEIRS if self.is_theirs(real) else State.OTHER
        except OSError as error:
            return seen(State.BLOCKED, f"can't be read: {error.strerror}")
        return seen(state, names=status.st_nlink, inode=status.st_ino)


@dataclass(frozen=True)
class Look:
    """What stood in a file's place.

    Attributes:
        real: The file at the end of all links.
        linked: Which is elsewhere.
        problem: Why it can't be destroyed, when it can't.
        names: How many names the file has on its disk.
        inode: Which file it is there.
    """

    holding: Holding
    real: Path
    linked: bool
    state: State
    problem: str
    names: int
    inode: int

    @property
    def dangling(self) -> bool:
        return self.state is State.BLOCKED and self.linked and not os.path.lexists(self.real)

    def note(self, log: Log) -> dict[str, Any] | None:
        """Return what the receipt has to say of it; None when it is simply destroyed in its place.

        ``stays`` is set where data of the rater may stay.
        """
        apart = self.linked or self.names > 1
        kind = self.holding.kind
        left = self.state is State.OTHER and (apart or kind is Kind.REPORT)
        away = self.state is State.MISSING and (self.linked or kind in (Kind.KEY, Kind.ROWS))
        if not (left or away or (apart and self.state is State.THEIRS)):
            return None
        root = os.path.realpath(log.layout.root)
        return {
            "path": self.holding.name,
            "kind": kind.value,
            "state": self.state.value,
            "leads_to": Path(os.path.relpath(self.real, root)).as_posix() if self.linked else None,
            "names": self.names,
            "inode": self.inode,
            "rows": self.holding.rows,
            "stays": left or away,
        }


def of(log: Log, rater_id: str, known: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Holding]:
    """Yield the files that hold a rater, key and rows first.

    Args:
        log: Which.
        rater_id: Whom.
        known: Notes of an erasure that has begun, by path: without the key they say which rows are theirs.
    """
    yield key(log, rater_id)
    yield from rows(log, rater_id, known or {})
    yield from steps(log, rater_id)
    for policy in lineage.taught_by(log, rater_id):
        ours = is_ours(log, policy)
        if ours or is_elsewhere(log, policy):
            yield from of_artefact(log, Kind.POLICY, policy, ours)
    for report in artefacts.current(log, ArtefactKind.REPORT):
        if report.holds(rater_id):
            yield from of_artefact(log, Kind.REPORT, report)


def key(log: Log, rater_id: str) -> Holding:
    """Return the key file of a rater."""
    layout = log.layout
    needed = {e.body["key_commitment"] for e in log.ledger.of("enrolled") if e.body["rater_id"] == rater_id}

    def is_theirs(_real: Path) -> bool:
        found = readable_key(log, rater_id)
        return found is not None and found.commitment in needed

    path = layout.key_file(rater_id)
    place = Path(os.path.realpath(layout.keys), path.name)
    return Holding(Kind.KEY, layout.relative(path), path, place, is_theirs)


def readable_key(log: Log, rater_id: str) -> keys.RaterKey | None:
    """Return a rater's key, if it is there and whole."""
    with contextlib.suppress(LogError, OSError):
        return keys.read(log.layout, rater_id)
    return None


def rows(log: Log, rater_id: str, known: Mapping[str, Mapping[str, Any]]) -> list[Holding]:
    """Return the files of rows that the ledger names, and links of other names in the rater's folder."""
    layout = log.layout
    files = {file.path: file for file in log.whereabouts.of_rater(rater_id)}
    macs = {file.file_mac for file in files.values()}
    secret = readable_key(log, rater_id)
    inodes = {note["inode"] for note in known.values() if note["state"] == State.THEIRS}

    def is_theirs(real: Path) -> bool:
        # Once the key is destroyed only what was found before can tell.
        return secret.file_mac(real) in macs if secret else real.stat().st_ino in inodes

    def holding(name: str, n: int) -> Holding:
        place = Path(os.path.realpath(layout.feedback), name.removeprefix("feedback/"))
        return Holding(Kind.ROWS, name, layout.root / name, place, is_theirs, n)

    found = [holding(path, file.rows) for path, file in files.items()]
    folder = layout.rater_folder(rater_id)
    links = [] if folder.is_symlink() else [path for path in folder.rglob("*") if path.is_symlink()]
    strays = [holding(layout.relative(path), 0) for path in links if layout.relative(path) not in files]
    return found + [stray for stray in strays if stray.look().state is State.THEIRS]


def steps(log: Log, rater_id: str) -> list[Holding]:
    """Return the trajectories from which answers could be worked out: those of a live policy's sessions."""
    return [trajectory(log, file) for file in log.whereabouts.taught_by(rater_id)]


def trajectory(log: Log, file: SealedFile) -> Holding:
    """Return a file of steps or episodes."""
    return digested(log, Kind.STEPS, file.path, log.layout.root / file.path, {str(file.sha256)})


def of_artefact(log: Log, kind: Kind, found: Artefact, ours: bool = True) -> list[Holding]:
    """Return the files of a policy or a report; of a folder that is not ours none is theirs."""
    return [
        digested(log, kind, f"{found.path}/{name}", found.folder / name, {digest} if ours else set())
        # The manifest last: as long as it is there, a policy's folder says whose it is.
        for name, digest in sorted(found.facts["files"].items(), key=lambda file: file[0] == store.MANIFEST)
    ]


def digested(log: Log, kind: Kind, name: str, path: Path, digests: set[str]) -> Holding:
    """Return a file of which the ledger holds plain digests."""
    place = Path(os.path.normpath(Path(os.path.realpath(log.layout.root), name)))
    return Holding(kind, name, path, place, lambda real: canonical.file_sha256(real) in digests)


def is_elsewhere(log: Log, found: Artefact) -> bool:
    """Say whether an artefact's folder is a link, or lies behind one."""
    place = os.path.normpath(Path(os.path.realpath(log.layout.root), found.path))
    return os.path.realpath(place) != place


def is_ours(log: Log, policy: Artefact) -> bool:
    """Say whether a policy's folder is this log's: another log may have been given the same folder since.

    One whose manifest can't be read is, if a file of it is still what the ledger names, or if none is there.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = canonical.parse_object(canonical.read_file(policy.folder / store.MANIFEST))
        return bool(manifest["log_id"] == log.log_id)
    states = {held.look().state for held in of_artefact(log, Kind.POLICY, policy)}
    return State.THEIRS in states or not (State.OTHER in states or is_elsewhere(log, policy))
