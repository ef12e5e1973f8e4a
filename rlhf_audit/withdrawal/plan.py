"""What an erasure will touch: a dry run that equals the act."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_audit.consent import register
from rlhf_audit.errors import LogError
from rlhf_audit.log import artefacts, journal
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log
from rlhf_audit.policy import lineage
from rlhf_audit.withdrawal import hold, holdings
from rlhf_audit.withdrawal.hold import Hold
from rlhf_audit.withdrawal.holdings import State


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
        places: What is not simply a file in its place: links, other names, nothing at all; see ``Look.note``.
        obstacles: What can't be destroyed as it is, path and why.
        begun: The erasure has begun and is not finished.
        hold: It is suspended.
    """

    rater_id: str
    rows: int
    files: tuple[str, ...]
    redacted: tuple[str, ...]
    policies: tuple[Mapping[str, Any], ...]
    reports: tuple[str, ...]
    exports: tuple[Mapping[str, Any], ...]
    places: tuple[Mapping[str, Any], ...] = ()
    obstacles: tuple[Mapping[str, str], ...] = ()
    begun: bool = False
    hold: Hold | None = None

    def to_intent(self) -> dict[str, Any]:
        """Return the body of the ledger's entry that begins the erasure."""
        lists = ("files", "redacted", "policies", "reports", "exports", "places")
        listed = {name: list(getattr(self, name)) for name in lists}
        return {"rater_id": self.rater_id, "rows": self.rows} | listed

    def to_json(self) -> dict[str, Any]:
        """Return what ``erase --json`` prints of a plan."""
        held = self.hold and self.hold.to_json()
        return told(self.to_intent(), obstacles=[dict(one) for one in self.obstacles], hold=held) | {
            "applied": self.begun,
            "policies": [
                {"name": policy["name"], "before": policy["before"], "after": None}
                for policy in self.policies
            ],
        }


def told(body: Mapping[str, Any], **seen: Any) -> dict[str, Any]:
    """Return what every outcome of ``erase --json`` has, of a plan or of an entry in the ledger.

    Args:
        body: Of the entry, or what it will be.
        seen: What else was met; it is there only if there was any, as is ``left``.
    """
    kept = {name: body[name] for name in ("rater_id", "rows", "files", "reports", "exports")}
    places = [{name: note[name] for name in ("path", "state", "leads_to")} for note in left(body)]
    return (
        kept | {"receipt": None} | {name: value for name, value in {"left": places, **seen}.items() if value}
    )


def left(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the notes of what was left alone, or was not there, so that data of the rater may stay."""
    return [note for note in body.get("places", ()) if note["stays"]]


def unfinished(log: Log) -> dict[str, Entry]:
    """Return the intents, by rater, of the erasures that have begun and have no receipt."""
    receipts = {entry.body["rater_id"] for entry in log.ledger.of("receipt")}
    intents = log.ledger.of("erasure-intent")
    return {e.body["rater_id"]: e for e in intents if e.body["rater_id"] not in receipts}


def named(log: Log, path: Path) -> str:
    """Return a path relative to where the log really is: no name of a home folder is printed."""
    here = Path(os.path.realpath(path.parent), path.name)
    return Path(os.path.relpath(here, os.path.realpath(log.layout.root))).as_posix()


def make(log: Log, rater_id: str) -> Plan:
    """Return what erasing this rater touches; of one that has begun, what it was to touch.

    Raises:
        UsageError: Nobody of that name is here: never enrolled and erased are one answer.
    """
    begun = unfinished(log).get(rater_id)
    if begun is not None:
        return _begun(log, begun)
    register.rater(log, rater_id)
    layout = log.layout
    own = [facts for facts in log.whereabouts.sessions.values() if facts["rater_id"] == rater_id]
    files = list(log.whereabouts.of_rater(rater_id))
    open_rows, open_sessions = _open_rows(log, rater_id)
    return Plan(
        rater_id,
        sum(file.rows for file in files) + open_rows,
        tuple(
            [layout.relative(layout.key_file(rater_id))]
            + [file.path for file in files]
            + [layout.relative(layout.journal_folder(name)) for name in open_sessions]
        ),
        tuple(facts["session_id"] for facts in own if facts["learn"]),
        tuple(
            {
                "name": entry.facts["name"],
                "path": entry.path,
                "before": entry.facts["weights_sha256"],
                "alone": entry.facts["mode"] == "live" or entry.facts["rater_ids"] == [rater_id],
                "found": entry.folder.is_dir() and holdings.is_ours(log, entry),
            }
            for entry in lineage.taught_by(log, rater_id)
        ),
        tuple(found.path for found in artefacts.current(log, ArtefactKind.REPORT) if found.holds(rater_id)),
        tuple(
            {"path": entry.body["path"], "recipient": entry.body.get("recipient", "")}
            | ({"name": entry.body["names"][rater_id]} if "names" in entry.body else {})
            for entry in log.ledger.of("export")
            if rater_id in entry.body["rater_ids"]
        ),
        *_apart(log, rater_id),
        hold=hold.of(log, rater_id),
    )


def _begun(log: Log, intent: Entry) -> Plan:
    """Return the plan of an erasure that has begun, with what was in its way when it was last tried."""
    body, rater_id = intent.body, intent.body["rater_id"]
    halts = [entry.body for entry in log.ledger.of("erasure-halted") if entry.body["rater_id"] == rater_id]
    return Plan(
        rater_id,
        body["rows"],
        tuple(body["files"]),
        tuple(body["redacted"]),
        tuple(body["policies"]),
        tuple(body["reports"]),
        tuple(body["exports"]),
        tuple(body.get("places", ())),
        tuple(halts[-1]["obstacles"]) if halts else (),
        begun=True,
    )


def _apart(log: Log, rater_id: str) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, str], ...]]:
    """Return what is not simply a file in its place, and what can't be destroyed as it is."""
    looks = [holding.look() for holding in holdings.of(log, rater_id)]
    notes = [look.note(log) for look in looks]
    return (
        tuple(note for note in notes if note is not None),
        tuple(
            {"path": look.holding.name, "problem": look.problem}
            for look in looks
            if look.state is State.BLOCKED
        ),
    )


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
