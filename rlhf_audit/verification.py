"""Check everything that a log says of itself, without its owner's help: only the public key is needed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.errors import DamagedError, LogError, RlhfAuditError
from rlhf_audit.log import artefacts, journal, keys, reader
from rlhf_audit.log.artefacts import ArtefactKind
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
class Verified:
    """The outcome.

    Attributes:
        entries: Ledger entries checked.
        files: Files checked.
        problems: Empty when all is well.
    """

    entries: int
    files: int
    problems: tuple[Problem, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.problems


Check = Callable[[Path], str | None]
"""Returns what is wrong with a file, or None."""


def verify(root: Path) -> Verified:
    """Check every file of a log against its ledger, and the ledger against its signed checkpoint.

    Args:
        root: The log's folder.

    Raises:
        LogError: There is no log at all, or it is of another format.
    """
    try:
        log = Log(root)
    except LogError as error:
        if not (root / "log.json").exists() or "format" in error.seen:
            raise
        return Verified(0, 0, (Problem("log.json", error.what),))
    except DamagedError as error:
        name = next((word for word in error.what.split() if word.startswith("ledger/")), "ledger")
        return Verified(0, 0, (Problem(name, error.what),))
    problems = list(_check(log))
    known = len(log.ledger.entries)
    if problems and log.ledger.changed_on_disk():
        # A recorder sealed a session in between: look once more.
        return verify(root)
    n_files = sum(1 for _ in log.layout.files())
    return Verified(known, n_files, tuple(problems))


def _check(log: Log) -> Iterator[Problem]:
    expected = _expected(log) | _artefacts(log)
    for path, check in sorted(expected.items()):
        name = log.layout.relative(path) if path.is_relative_to(log.layout.root) else path.name
        if path.is_symlink() or not path.is_file():
            yield Problem(name, "is missing")
        elif (wrong := check(path)) is not None:
            yield Problem(name, wrong)
    unchecked = journal.journal_files(log.layout) | {log.layout.entries, log.layout.checkpoint}
    for path in log.layout.files():
        if path not in expected and (path not in unchecked or path.is_symlink()):
            yield Problem(log.layout.relative(path), "is not in the ledger")
    for entry in log.ledger.of("erasure-intent"):
        if all(done.body["rater_id"] != entry.body["rater_id"] for done in log.ledger.of("receipt")):
            yield Problem("ledger/entries.jsonl", f"line {entry.seq + 1} begins an erasure that never ended")


def _expected(log: Log) -> dict[Path, Check]:
    layout, ledger = log.layout, log.ledger
    header = next(iter(ledger.of("created"))).body["log_sha256"]
    expected: dict[Path, Check] = {layout.header: _sha256(header)}
    for lock in (layout.lock, layout.ledger_lock):
        if lock.exists():
            expected[lock] = _empty
    for entry in ledger.of("terms"):
        digest = entry.body["terms_sha256"]
        expected[layout.terms_file(digest)] = _sha256(digest)
    gone = {entry.body["rater_id"] for entry in ledger.of("erasure-intent")}
    commitments = {
        entry.body["rater_id"]: entry.body["key_commitment"]
        for entry in ledger.of("enrolled")
        if entry.body["rater_id"] not in gone
    }
    for rater_id, commitment in commitments.items():
        expected[layout.key_file(rater_id)] = _key(log, rater_id, commitment)
    for entry in ledger.of("session"):
        for file in entry.body["files"]:
            path = layout.root / file["path"]
            if "sha256" in file:
                expected[path] = _sha256(file["sha256"])
            elif entry.body["rater_id"] in commitments:
                expected[path] = _feedback(log, entry.body["rater_id"], file)
    for entry in ledger.of("redaction"):
        expected |= {layout.root / file["path"]: _sha256(file["sha256"]) for file in entry.body["files"]}
    for entry in ledger.of("receipt"):
        expected |= {layout.root / path: _sha256(digest) for path, digest in entry.body["files"].items()}
    return expected


def _artefacts(log: Log) -> dict[Path, Check]:
    expected: dict[Path, Check] = {}
    for kind in ArtefactKind:
        for found in artefacts.current(log, kind):
            inside = not found.path.startswith("../")
            # Outside the log a folder may have been moved away; what is still there must be right.
            if inside or found.folder.is_dir():
                expected |= {
                    found.folder / name: _sha256(digest) for name, digest in found.facts["files"].items()
                }
    return expected


def _sha256(needed: str) -> Check:
    return lambda path: artefacts.wrong_file(path, needed)


def _empty(path: Path) -> str | None:
    return "is a lock and must be empty" if path.stat().st_size else None


def _key(log: Log, rater_id: str, commitment: str) -> Check:
    def check(path: Path) -> str | None:
        try:
            same = keys.read(log.layout, rater_id).commitment == commitment
        except LogError as error:
            return error.what.removeprefix(log.layout.relative(path) + " ")
        return None if same else "is not the key that was enrolled"

    return check


def _feedback(log: Log, rater_id: str, file: Mapping[str, Any]) -> Check:
    def check(path: Path) -> str | None:
        try:
            key = keys.read(log.layout, rater_id)
        except LogError:
            return "can't be checked: its rater's key is damaged or missing"
        if key.file_mac(path) != file["file_mac"]:
            return "is not the bytes that the ledger commits to"
        try:
            table = reader.read_parquet(log, path)
        except RlhfAuditError as error:
            return error.what
        if canonical.hmac_hex(key.mac_key, "rows", canonical.table_bytes(table)) != file["rows_mac"]:
            return "does not hold the rows that the ledger commits to"
        return None

    return check
