"""Destroying what holds a rater: what is theirs goes wherever a link leads, what is not is left alone.

What can't be destroyed is noted as an obstacle, and everything else is destroyed all the same.
"""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import canonical
from rlhf_audit.errors import DamagedError, LogError
from rlhf_audit.log import artefacts, durable, journal, sealing
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.layout import EPISODES, STEPS
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import SealedFile
from rlhf_audit.policy import lineage, store
from rlhf_audit.withdrawal import holdings
from rlhf_audit.withdrawal.holdings import Holding, Kind, Look, State

_REDACTED = ("action_probability", "behaviour_policy_sha256")
_GOING = durable.ERASING
_OWN_SUFFIXES = {".parquet", ".key", ".md", ".json", ".jsonl", ".html", ".csv"}


class Removal:
    """Destroys, and remembers what it could not.

    Args:
        log: Where.
        rater_id: Whom.
        known: What the erasure's plan found apart from its place.
        halted: Paths that were in its way before.

    Attributes:
        blocked: What is in the way, path and why.
        notes: What was apart from its place, by path; see ``Look.note``.
    """

    def __init__(
        self, log: Log, rater_id: str, known: Sequence[Mapping[str, Any]] = (), halted: Iterable[str] = ()
    ) -> None:
        self.log = log
        self.rater_id = rater_id
        self._halted = set(halted)
        self.blocked: dict[str, str] = {}
        self.notes: dict[str, Mapping[str, Any]] = {note["path"]: note for note in known}

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Note as an obstacle what refuses to be destroyed, read or made; as ``name``, unless it says one."""
        try:
            yield
        except OSError as error:
            self._refused(error, name)
        except DamagedError as error:
            self.blocked.setdefault(name, f"can't be made again: {error.what}")

    def is_blocked(self, name: str) -> bool:
        """Say whether anything is in the way in this place or below it."""
        return any(path == name or path.startswith(f"{name}/") for path in self.blocked)

    def policies_and_reports(self) -> None:
        """Destroy the policies and reports that hold the rater."""
        for policy in lineage.taught_by(self.log, self.rater_id):
            ours, elsewhere = holdings.is_ours(self.log, policy), holdings.is_elsewhere(self.log, policy)
            if ours or elsewhere:
                self._artefact(Kind.POLICY, policy, ours)
            if ours and not elsewhere and not self.is_blocked(policy.path):
                with self.trying(policy.path):
                    # What an interrupted save has left.
                    store.destroy(policy.folder)
        for report in artefacts.current(self.log, ArtefactKind.REPORT):
            if report.holds(self.rater_id):
                self._artefact(Kind.REPORT, report, True)

    def key_and_rows(self) -> None:
        """Destroy the key and the rows, and open journals."""
        layout = self.log.layout
        self._sync_again()
        self._note_vanished()
        # Before the key: only the key can tell whether what lies elsewhere is theirs.
        self._rows_elsewhere()
        self._file(holdings.key(self.log, self.rater_id))
        destroy_going(self)
        folder = layout.rater_folder(self.rater_id)
        if folder.is_dir() and not folder.is_symlink():
            self._tree(self._set_aside(folder))
        for session_id in journal.open_sessions(layout):
            with self.trying(layout.relative(layout.journal_folder(session_id))):
                self._journal(session_id)

    def redact(self, session_id: str) -> None:
        """Blank what a live policy's weights left in the steps: a few answers could be guessed from it."""
        log = self.log
        if any(entry.body["session_id"] == session_id for entry in log.ledger.of("redaction")):
            return
        files, before = [], len(self.blocked)
        for file in self._trajectories(session_id):
            with self.trying(file.path):
                # A merged file holds several sessions, all of one teacher: it is blanked with the first.
                digest = file.sha256 if file.redacted else self._redacted(file)
                files += [{"path": file.path, "rows": file.rows, "sha256": digest}] * bool(digest)
        if len(self.blocked) == before:
            log.append("redaction", {"session_id": session_id, "files": files})

    def _trajectories(self, session_id: str) -> list[SealedFile]:
        where = self.log.whereabouts
        places = [where.of_session(session_id, folder) for folder in (STEPS, EPISODES)]
        return [file for slices in places for file, _ in slices]

    def _artefact(self, kind: Kind, found: Artefact, ours: bool) -> None:
        for holding in holdings.of_artefact(self.log, kind, found, ours):
            self._file(holding)
        self._take_link(found.folder, found.path)
        if kind is Kind.POLICY and ours:
            durable.remove_empty([found.folder])

    def _sync_again(self) -> None:
        """Make durable that names are gone, in folders where that was refused before."""
        for name in sorted(self._halted):
            folder = self.log.layout.recorded_folder(name)
            if folder.is_dir():
                with self.trying(name):
                    durable.sync_folder(folder)

    def _note_vanished(self) -> None:
        """Note key and rows that were in the way and are not there now: somebody took them, not we."""
        mine = [holdings.key(self.log, self.rater_id), *holdings.rows(self.log, self.rater_id, self.notes)]
        for look in (holding.look() for holding in mine if holding.name in self._halted):
            note = look.note(self.log)
            if note is not None and look.state is State.MISSING:
                self.notes[look.holding.name] = note

    def _rows_elsewhere(self) -> None:
        folder = self.log.layout.rater_folder(self.rater_id)
        for holding in holdings.rows(self.log, self.rater_id, self.notes):
            look = holding.look()
            if look.linked or (look.names > 1 and look.state is State.OTHER):
                self._file(holding)
            elif look.names > 1:
                # Overwritten with the folder, once the key is gone.
                self._note(look)
        self._take_link(folder, self.log.layout.relative(folder))

    def _file(self, holding: Holding) -> None:
        """Destroy a file of theirs at the end of all links; of what is not theirs only our link or name."""
        look = holding.look()
        was_theirs = self.notes.get(holding.name, {}).get("state") == State.THEIRS
        with self.trying(holding.name):
            durable.finish_marked(look.real)
            if look.state is State.BLOCKED and not (look.dangling and was_theirs):
                self.blocked.setdefault(holding.name, look.problem)
                return
            self._note(look)
            if look.state is State.THEIRS:
                durable.destroy_marked(look.real)
            elif look.state is State.OTHER and not look.linked and holding.kind is not Kind.REPORT:
                # Damaged, but in its own place: not to be overwritten only where it is somebody else's too.
                durable.destroy(holding.path, shared=False)
            if holding.path.is_symlink():
                durable.destroy(holding.path)

    def _note(self, look: Look) -> None:
        note = look.note(self.log)
        # What is missing by now we have destroyed; what was missing before, the plan has noted.
        if note is None or look.state is State.MISSING:
            return
        if note["stays"] or look.holding.name not in self.notes:
            self.notes[look.holding.name] = note

    def _take_link(self, folder: Path, name: str) -> None:
        """Remove a link in place of a folder, and the folder behind it if it held only theirs."""
        if not folder.is_symlink() or self.is_blocked(name):
            return
        with self.trying(name):
            mine = (note for path, note in self.notes.items() if path.startswith(f"{name}/"))
            if any(note["state"] == State.THEIRS for note in mine):
                durable.remove_empty([Path(os.path.realpath(folder))])
            durable.destroy(folder)

    def _set_aside(self, folder: Path) -> Path:
        """Rename a rater's folder: no view finds it then, and its name tells nothing."""
        layout = self.log.layout
        names = (layout.feedback / f"{_GOING}{number or ''}" for number in itertools.count())
        aside = next(path for path in names if not os.path.lexists(path))
        try:
            folder.rename(aside)
            durable.sync_folder(layout.feedback)
        except OSError:
            # A disk of its own, perhaps: then it is destroyed where it is.
            return folder
        return aside

    def _tree(self, folder: Path) -> None:
        refused: list[OSError] = []
        durable.destroy_tree(folder, refused)
        for error in refused:
            self._refused(error, self.log.layout.relative(folder))

    def _journal(self, session_id: str) -> None:
        layout = self.log.layout
        grants = (e.body for e in self.log.ledger.of("consent") if e.body["rater_id"] == self.rater_id)
        words = {self.rater_id} | {f'"{grant["grant_id"]}"' for grant in grants}
        events = [path for path in journal.journal_files(layout) if path.parent.name == session_id]
        for path in events:
            place = Path(os.path.realpath(layout.journal), session_id, path.name)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                durable.finish_marked(Path(os.path.realpath(place)))
        if not journal.mentions(layout, session_id, words):
            return
        for path in events:
            place = Path(os.path.realpath(layout.journal), session_id, path.name)
            name = layout.relative(path)
            look = Holding(Kind.JOURNAL, name, path, place, lambda _: True).look()
            if look.state is State.THEIRS and look.linked:
                self._note(look)
                durable.destroy_marked(look.real)
        journal.discard(layout, session_id)

    def _redacted(self, file: SealedFile) -> str | None:
        """Blank one file of steps or episodes; return its new digest, None if it could not stay."""
        holding = holdings.trajectory(self.log, file)
        look, path = holding.look(), holding.path
        if look.state is State.BLOCKED:
            self.blocked.setdefault(holding.name, look.problem)
            return None
        if look.state is State.OTHER and not _is_blank(look.real):
            self._note(look)
            if look.linked:
                return None
            if look.names > 1:
                durable.destroy(path, shared=False)
        elif look.state is State.THEIRS:
            self._note(look)
        try:
            durable.rewrite(look.real, _blank)
        except LogError:
            # What can't be read can't be blanked, and must not stay; `verify` names the file from now on.
            durable.destroy(look.real)
            return None
        return canonical.file_sha256(look.real)

    def _refused(self, error: OSError, name: str) -> None:
        path = Path(os.fsdecode(error.filename)) if error.filename else None
        if path is not None and path.suffix != durable.TEMPORARY_SUFFIX:
            root = Path(os.path.realpath(self.log.layout.root))
            here = Path(os.path.realpath(path.parent), path.name)
            name = Path(os.path.relpath(here, root)).as_posix()
        elif path is None and not os.path.lexists(self.log.layout.recorded_folder(name)):
            # It is gone from its place; that this is so for good was refused.
            name = Path(name).parent.as_posix()
        own = isinstance(error, durable.NoFileError)
        why = str(error.strerror) if own else f"can't be destroyed: {error.strerror or 'no reason given'}"
        self.blocked.setdefault(name, why)


def going(log: Log) -> list[Path]:
    """Return the folders of rows that are being destroyed, or could not be."""
    return sorted(log.layout.feedback.glob(f"{_GOING}*"))


def destroy_going(removal: Removal) -> None:
    """Destroy what an erasure before this one has left of a rater's folder."""
    for folder in going(removal.log):
        removal._tree(folder)


def strays(log: Log) -> list[Path]:
    """Return what a crash left half-written or half-destroyed, and what no ledger entry came to name.

    The ledger clears its own, since a withdrawal may be writing there.
    """
    layout = log.layout
    found = [path for path in layout.root.rglob(f"*{durable.TEMPORARY_SUFFIX}") if path.is_file()]
    # Only what our own writes are called on the way: somebody's draft.tmp is theirs.
    found = [path for path in found if Path(path.stem).suffix in _OWN_SUFFIXES]
    found = [path for path in found if layout.ledger not in path.parents]
    found += [path for path in layout.root.rglob(f".*{durable.ERASING}") if path.is_file()]
    enrolled = {entry.body["rater_id"] for entry in log.ledger.of("enrolled")}
    for path in layout.keys.glob("r-*.key"):
        # An enrolment that was cut short. Other unknown keys are left, for `verify` to name.
        if (
            path.stem not in enrolled
            and not layout.rater_folder(path.stem).exists()
            and holdings.readable_key(log, path.stem)
        ):
            found.append(path)
    shown = {entry.body["terms_sha256"] for entry in log.ledger.of("terms")}
    for path in layout.terms.glob("*.md"):
        if path.stem not in shown and path.is_file() and path.stem == canonical.file_sha256(path):
            found.append(path)
    return sorted(found)


def _is_blank(path: Path) -> bool:
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return False
    return all(
        table.column(name).null_count == table.num_rows for name in _REDACTED if name in table.schema.names
    )


def _blank(old: Path, new: Path) -> None:
    try:
        table = pq.ParquetFile(old).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LogError(f"{old.name} can't be read") from error
    for name in _REDACTED:
        if name in table.column_names:
            place = table.column_names.index(name)
            blank = pa.nulls(table.num_rows, table.schema.field(name).type)
            table = table.set_column(place, table.schema.field(name), blank)
    pq.write_table(table, new, **sealing.trajectory_options(table.schema))
