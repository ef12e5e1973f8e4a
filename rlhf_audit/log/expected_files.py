"""What the ledger says of each file: which must be there, and how to see that one is as it was written."""

from collections.abc import Callable
from pathlib import Path

from rlhf_audit import canonical
from rlhf_audit.errors import LogError, RlhfAuditError
from rlhf_audit.log import artefacts, keys, sealed
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.layout import merged_number
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import SealedFile, rows_mac

Check = Callable[[Path], str | None]
"""Returns what is wrong with a file, or None."""


def sealed_files(log: Log) -> dict[Path, Check]:
    """Return the log's own files that must be there, and how to check each."""
    layout, ledger = log.layout, log.ledger
    expected: dict[Path, Check] = {}
    for entry in ledger.of("created"):
        expected[layout.header] = _sha256(entry.body["log_sha256"])
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
    for file in log.whereabouts.files.values():
        path = layout.root / file.path
        if file.sha256 is not None:
            expected[path] = _sha256(file.sha256)
        elif log.whereabouts.rater_of(file) in commitments:
            expected[path] = _feedback(log, file)
    for entry in ledger.of("receipt"):
        expected |= {layout.root / path: _sha256(digest) for path, digest in entry.body["files"].items()}
    return expected


def artefact_files(log: Log) -> dict[Path, Check]:
    """Return the files of policies, reports and exports, likewise."""
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


def _feedback(log: Log, file: SealedFile) -> Check:
    rater_id, sessions = log.whereabouts.rater_of(file), log.whereabouts.sessions

    def check(path: Path) -> str | None:
        try:
            key = keys.read(log.layout, rater_id)
        except LogError:
            return "can't be checked: its rater's key is damaged or missing"
        if key.file_mac(path) != file.file_mac:
            return "is not the bytes that the ledger commits to"
        if not merged_number(file.path):
            # One entry commits to these bytes and to their rows: the bytes prove both.
            return None
        try:
            table = sealed.read(log.layout, file.path)
        except RlhfAuditError as error:
            return error.what
        for one in file.slices:
            rows = canonical.table_bytes(table.slice(one.first_row, one.rows))
            # What was entered when the session was sealed: no merging may alter an answer.
            if canonical.hmac_hex(key.mac_key, "rows", rows) != rows_mac(sessions[one.session_id]):
                return "does not hold the rows that the ledger commits to"
        return None

    return check
