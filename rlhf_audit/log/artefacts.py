"""What is made from a log and named in its ledger: policies and reports, wherever they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.log.store import Log


class ArtefactKind(StrEnum):
    """The ledger event that makes an artefact; ``<kind>-removed`` ends it."""

    POLICY = "training"
    REPORT = "report"

    @property
    def removal(self) -> str:
        """The event that ends it."""
        return "policy-removed" if self is ArtefactKind.POLICY else "report-removed"


@dataclass(frozen=True)
class Artefact:
    """One folder as the ledger knows it.

    Attributes:
        path: Relative to the log's folder, so that both may be moved together.
        folder: Where that is on this machine.
        facts: The newest ledger entry's body: ``files`` (name to SHA-256), ``rater_ids`` and more.
    """

    path: str
    folder: Path
    facts: Mapping[str, Any]

    def holds(self, rater_id: str) -> bool:
        """Say whether something that this rater gave went into it."""
        return rater_id in self.facts["rater_ids"]


def recorded_path(log: Log, folder: Path) -> str:
    """Return a folder as the ledger names it: relative to the log."""
    return log.layout.recorded(folder)


def current(log: Log, kind: ArtefactKind) -> list[Artefact]:
    """Return the artefacts that the ledger holds to be there, in order of their first making."""
    newest: dict[str, Mapping[str, Any] | None] = {}
    for entry in log.ledger.of(kind.value, kind.removal):
        newest[entry.body["path"]] = entry.body if entry.event == kind.value else None
    folder = log.layout.recorded_folder
    return [Artefact(path, folder(path), facts) for path, facts in newest.items() if facts is not None]


def find(log: Log, kind: ArtefactKind, path: str) -> Artefact | None:
    """Return the artefact that is recorded under ``path``, if it is held to be there."""
    return next((found for found in current(log, kind) if found.path == path), None)


def removed(log: Log, kind: ArtefactKind, path: str) -> None:
    """Note in the ledger that an artefact is gone; once."""
    if find(log, kind, path) is not None:
        log.append(kind.removal, {"path": path})


def wrong_file(path: Path, sha256: str) -> str | None:
    """Return what is wrong with a file that is to have this digest, or None."""
    return None if canonical.file_sha256(path) == sha256 else "is not the bytes that the ledger names"
