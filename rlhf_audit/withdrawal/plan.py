"""What an erasure will touch: a dry run that equals the act."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhf_audit.consent import register
from rlhf_audit.errors import LogError
from rlhf_audit.log import artefacts, journal
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.policy import lineage, store


@dataclass(frozen=True)
class Plan:
    """Everything that holds a rater.

    Attributes:
        rows: Feedback rows, those of open sessions too.
        files: What is deleted, relative to the log.
        redacted: Sessions whose live policy learnt from this rater: their probabilities go, their steps stay.
        policies: Name, path, weight digest, and whether the folder is where the ledger says.
        reports: Folders of reports that show this rater, relative to the log.
        exports: Copies that were handed out: nobody can delete those from here.
    """

    rater_id: str
    rows: int
    files: tuple[str, ...]
    redacted: tuple[str, ...]
    policies: tuple[Mapping[str, Any], ...]
    reports: tuple[str, ...]
    exports: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``erase --json`` prints of a plan."""
        return {
            "rater_id": self.rater_id,
            "applied": False,
            "rows": self.rows,
            "files": list(self.files),
            "policies": [
                {"name": policy["name"], "before": policy["before"], "after": None}
                for policy in self.policies
            ],
            "reports": list(self.reports),
            "exports": [dict(export) for export in self.exports],
            "receipt": None,
        }


def make(log: Log, rater_id: str) -> Plan:
    """Return what erasing this rater touches.

    Raises:
        UsageError: Nobody of that name is here: never enrolled and erased are one answer.
    """
    register.rater(log, rater_id)
    layout = log.layout
    own = [entry.body for entry in log.ledger.of("session") if entry.body["rater_id"] == rater_id]
    files = [file for body in own for file in body["files"] if "rows_mac" in file]
    open_rows, open_sessions = _open_rows(log, rater_id)
    return Plan(
        rater_id,
        sum(file["rows"] for file in files) + open_rows,
        tuple(
            [layout.relative(layout.key_file(rater_id))]
            + [file["path"] for file in files]
            + [layout.relative(layout.journal_folder(name)) for name in open_sessions]
        ),
        tuple(body["session_id"] for body in own if body["learn"]),
        tuple(
            {
                "name": entry.facts["name"],
                "path": entry.path,
                "before": entry.facts["weights_sha256"],
                "alone": entry.facts["mode"] == "live" or entry.facts["rater_ids"] == [rater_id],
                "found": entry.folder.is_dir() and is_ours(log, entry),
            }
            for entry in lineage.taught_by(log, rater_id)
        ),
        tuple(found.path for found in artefacts.current(log, ArtefactKind.REPORT) if found.holds(rater_id)),
        tuple(
            {"path": entry.body["path"], "recipient": entry.body.get("recipient", "")}
            for entry in log.ledger.of("export")
            if rater_id in entry.body["rater_ids"]
        ),
    )


def is_ours(log: Log, policy: Artefact) -> bool:
    """Say whether a policy's folder is this log's: another log may have been given the same folder since.

    One without a readable manifest is, for an erasure may have been cut short there.
    """
    try:
        manifest = json.loads((policy.folder / store.MANIFEST).read_bytes())
        return bool(manifest["log_id"] == log.log_id)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _open_rows(log: Log, rater_id: str) -> tuple[int, list[str]]:
    rows, names = 0, []
    for session_id in journal.open_sessions(log.layout):
        events = []
        with contextlib.suppress(LogError):
            for event in journal.read(log.layout, session_id):
                events.append(event)
        if events and events[0]["rater_id"] == rater_id:
            names.append(session_id)
            rows += sum(event["event"] == "feedback" for event in events)
    return rows, names
