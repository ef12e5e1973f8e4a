"""Check everything that a log says of itself, without its owner's help: only the public key is needed."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhf_audit import canonical
from rlhf_audit.clock import SystemClock
from rlhf_audit.errors import DamagedError, LogError
from rlhf_audit.log import (
    anchors,
    durable,
    expected_files,
    journal,
    placing,
    reopened,
    swapping,
    writer,
)
from rlhf_audit.log.anchors import Extension
from rlhf_audit.log.layout import EPISODES, FEEDBACK, STEPS
from rlhf_audit.log.notes import VerifierKey
from rlhf_audit.log.store import Log


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        file: Relative to the log.
        problem: What is wrong with it.
    """

    file: str
    problem: str


@dataclass(frozen=True)
class Beliefs:
    """What whoever verifies a log knows of it from elsewhere.

    Attributes:
        since: Where earlier checkpoints are: a file, a folder, a git repository.
        witnesses: Of whom a good signature must stand under the checkpoint, or one of the earlier ones.
        trusted: Public keys, 32 bytes each, that are known to be the log's though no earlier key vouches.
    """

    since: Path | None = None
    witnesses: Sequence[VerifierKey] = ()
    trusted: Sequence[bytes] = ()


@dataclass(frozen=True)
class Verified:
    """The outcome.

    Attributes:
        entries: Ledger entries checked.
        files: Files checked.
        problems: Empty when all is well.
        since: How the ledger stands to each anchor that was asked about.
    """

    entries: int
    files: int
    problems: tuple[Problem, ...] = field(default=())
    since: tuple[Extension, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.problems


# No lock is taken: what another process is just putting in place looks wrong, but not for long.
_LOOKS = 25
_PAUSE_S = 0.1
_FRESH_S = 2.0
_LEDGER = "ledger/entries.jsonl"
_UNKNOWN = "is not in the ledger"
_UNDER_WAY = (
    "begins an erasure that never ended: wait if one is at work; else clear what is in its way, as named"
    " below, and run this again, which goes on with it"
)
_REPLACED = "was merged into another file by a compaction, and is still there"


def verify(root: Path, beliefs: Beliefs | None = None) -> Verified:
    """Check every file of a log against its ledger, and the ledger against its signed checkpoint.

    Args:
        root: The log's folder.
        beliefs: What is known of it from elsewhere.

    Raises:
        LogError: There is no log at all, or it is of another format.
        UsageError: There are no earlier checkpoints of this log where they are said to be.
    """
    before = None
    for _ in range(_LOOKS):
        look = found = _look(root, beliefs or Beliefs())
        if before is not None:
            # What a recorder is just writing is well the next moment, while something else may not be.
            lasting = tuple(problem for problem in look.problems if problem in before.problems)
            found = replace(look, problems=lasting)
        if found.ok or (look == before and not _is_fresh(root, found)):
            break
        before = look
        time.sleep(_PAUSE_S)
    return found


def _is_fresh(root: Path, found: Verified) -> bool:
    """Say whether a file that the ledger doesn't name was made just now: the next moment it may."""
    for problem in found.problems:
        with contextlib.suppress(OSError):
            age = SystemClock().now().timestamp() - (root / problem.file).lstat().st_mtime
            if problem.problem == _UNKNOWN and 0 <= age < _FRESH_S:
                return True
    return False


def _look(root: Path, beliefs: Beliefs) -> Verified:
    try:
        log = Log(root)
    except LogError as error:
        if not os.path.lexists(root / "log.json") or "format" in error.seen:
            raise
        return Verified(0, 0, (Problem("log.json", error.what),))
    except DamagedError as error:
        words = error.what.replace(",", " ").split()
        names = [word for word in words if word.startswith("ledger/")] or ["ledger"]
        problems = [Problem(name, error.what) for name in names]
        return Verified(0, 0, (*problems, *_wrong_header(root)))
    earlier = anchors.read(beliefs.since, log.ledger.origin) if beliefs.since is not None else []
    since = tuple(anchors.compare(log.ledger, earlier))
    outside = [Problem(_LEDGER, f"{one.name} {one.problem}") for one in since if one.problem]
    outside += [Problem(*one) for one in anchors.unwitnessed(log, earlier, beliefs.witnesses)]
    outside += [Problem(_LEDGER, what) for what in anchors.unvouched(log.ledger, since, beliefs.trusted)]
    try:
        found = (*outside, *_check(log))
    except (LookupError, TypeError, ValueError, AttributeError):
        # Signed, and yet no history that this program can have written.
        found = (*outside, Problem(_LEDGER, "holds entries that don't follow from each other"))
    return Verified(len(log.ledger.entries), sum(1 for _ in log.layout.files()), found, since)


def _wrong_header(root: Path) -> Iterator[Problem]:
    """Name log.json where the ledger fails because the key or the name in there is another one."""
    try:
        lines = (root / "ledger" / "entries.jsonl").read_bytes().split(b"\n")
        same = json.loads(lines[0])["log_sha256"] == canonical.file_sha256(root / "log.json")
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not same:
        yield Problem("log.json", "is not the file that the first entry of the ledger names")


def _check(log: Log) -> Iterator[Problem]:
    expected = expected_files.sealed_files(log) | expected_files.artefact_files(log)
    # Hashing and decoding leave the interpreter to others: as many files at a time as there are cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        in_order = sorted(expected.items())
        for (path, _), wrong in zip(in_order, pool.map(_wrong, *zip(*in_order, strict=True)), strict=True):
            if wrong is not None:
                yield Problem(_name(log, path), wrong)
    unchecked = _unchecked(log)
    yield from _moved(log, unchecked)
    replaced = {log.layout.root / name for name in log.whereabouts.replaced}
    for path in log.layout.files():
        if path not in expected and path not in replaced and (path not in unchecked or path.is_symlink()):
            yield Problem(log.layout.relative(path), _UNKNOWN)
    for path in (log.layout.placing, log.layout.compacting, log.layout.pending):
        # A file there is told apart from ours; a folder would stop every writer.
        if path.is_dir():
            yield Problem(log.layout.relative(path), "is a folder that nobody made")
    for session_id in journal.open_sessions(log.layout):
        for error in _open(log, session_id):
            name, _, problem = error.what.partition(" ")
            yield Problem(name, problem)
    yield from _erasures(log)


def _open(log: Log, session_id: str) -> Iterator[DamagedError]:
    """Yield what is wrong with a session that is open, or is being recorded just now."""
    try:
        left = reopened.read(log.layout, session_id)
        if left is None:
            return
        for stream, parts in left.parts.items():
            kind = writer.kind_of(left.meta, session_id, stream)
            for number, known in enumerate(parts):
                error = reopened.check(log.layout.journal_folder(session_id), number, known, kind)
                if error is not None:
                    yield error
    except DamagedError as error:
        yield error


def _erasures(log: Log) -> Iterator[Problem]:
    """Name erasures that never ended, and what was in their way when they were last tried."""
    ended = {entry.body["rater_id"] for entry in log.ledger.of("receipt")}
    for entry in log.ledger.of("erasure-intent"):
        rater_id = entry.body["rater_id"]
        if rater_id not in ended:
            yield Problem(_LEDGER, f"line {entry.seq + 1} {_UNDER_WAY}")
            halts = [e.body for e in log.ledger.of("erasure-halted") if e.body["rater_id"] == rater_id]
            for obstacle in halts[-1]["obstacles"] if halts else ():
                problem = f"{obstacle['problem']}: in the way of an erasure"
                yield Problem(obstacle["path"], problem)
        elif log.layout.key_file(rater_id).is_dir():
            # A file there is found as any that the ledger does not name.
            yield Problem(log.layout.relative(log.layout.key_file(rater_id)), "is a folder that nobody made")


def _name(log: Log, path: Path) -> str:
    root = log.layout.root
    if path.is_relative_to(root):
        return log.layout.relative(path)
    # Relative even for a policy outside: no name of a home folder is printed.
    return Path(os.path.relpath(path, root.resolve())).as_posix()


def _wrong(path: Path, check: expected_files.Check) -> str | None:
    try:
        problem = durable.no_file(path.lstat().st_mode)
        return problem or check(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"can't be read: {error.strerror}"


def _unchecked(log: Log) -> set[Path]:
    """Return what is checked otherwise, and what a recorder is just sealing: its journal is still there."""
    layout = log.layout
    found = journal.journal_files(layout) | {layout.entries, layout.checkpoint, layout.pending}
    found |= placing.under_way(layout, log.log_id, log.public_key)
    found |= swapping.under_way(layout, log.log_id, log.public_key, log.ledger.entries)
    for session_id in journal.open_sessions(layout):
        for folder in ("episodes", "steps/*", "feedback/*"):
            found |= set(layout.root.glob(f"{folder}/{session_id}.*parquet*"))
    return found


def _moved(log: Log, unchecked: set[Path]) -> Iterator[Problem]:
    """Name sessions of which a compaction has lost or doubled rows, and files that it should have removed."""
    where = log.whereabouts
    for session_id, facts in where.sessions.items():
        for folder in (EPISODES, STEPS, FEEDBACK):
            n_rows = sum(one.rows for _, one in where.of_session(session_id, folder))
            if n_rows != facts[f"n_{folder}"]:
                yield Problem(_LEDGER, f"names {n_rows} of {session_id}'s rows of {folder}")
    for path in sorted(log.layout.root / name for name in where.replaced):
        if os.path.lexists(path) and path not in unchecked:
            yield Problem(log.layout.relative(path), _REPLACED)
