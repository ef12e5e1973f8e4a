"""Taking a rater out of everything: each step may be cut short, and is rolled forward on the next open.

The order is DESIGN.md's, section 5: intent, policies and reports that hold the rater, key, folder, journals,
policies trained again, reports made again, done, residue scan, receipt.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import canonical
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, DamagedError, LockedError, LogError, UsageError
from rlhf_audit.log import artefacts, durable, journal, keys, reader, writer
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log
from rlhf_audit.policy import lineage, store
from rlhf_audit.withdrawal import plan, receipt, residue

Say = Callable[[str], None]
_OWN_SUFFIXES = {".parquet", ".key", ".md", ".json", ".jsonl", ".html"}


@dataclass(frozen=True)
class Erased:
    """What an erasure did."""

    rater_id: str
    done: Mapping[str, Any]
    receipt: Path

    def to_json(self) -> dict[str, Any]:
        """Return what ``erase --apply --json`` prints."""
        policies = [
            {name: policy[name] for name in ("name", "before", "after")} for policy in self.done["policies"]
        ]
        kept = {name: self.done[name] for name in ("rows", "files", "reports", "exports")}
        return (
            {"rater_id": self.rater_id, "applied": True}
            | kept
            | {"policies": policies, "receipt": self.receipt.as_posix()}
        )


def _quiet(_sentence: str) -> None:
    """Nobody listens."""


def apply(log: Log, rater_id: str, say: Say = _quiet) -> Erased:
    """Erase a rater: everything they gave, and what was learnt from it.

    Args:
        log: From where.
        rater_id: Whom. One who has not withdrawn is withdrawn by this.
        say: Told each step, for a person to read.

    Raises:
        UsageError: Nobody of that name is here: never enrolled and erased are one answer.
        LockedError: Another process is writing.
    """
    with log.writing():
        writer.recover(log)
        planned = plan.make(log, rater_id)
        register.withdraw(log, rater_id)
        needles = _needles(log, rater_id)
        body = {
            "rater_id": rater_id,
            "rows": planned.rows,
            "files": list(planned.files),
            "redacted": list(planned.redacted),
            "policies": [dict(policy) for policy in planned.policies],
            "reports": list(planned.reports),
            "exports": [dict(export) for export in planned.exports],
        }
        intent = log.append("erasure-intent", body)
        return _finish(log, intent, needles, say)


def heal(log: Log, repeat: bool = True) -> list[str]:
    """Finish what a crash cut short: sessions left open, erasures begun, an erased rater come back.

    Args:
        log: Which.
        repeat: Erase again whom a restored backup brought back; an auditor wants to see them first.

    Returns:
        A sentence for each thing done; nothing where there was nothing to do, where another process is at
        work, or where this machine may only read: the views show no rater whose erasure has begun.
    """
    if not _needs_healing(log) or not _may_write(log):
        return []
    said: list[str] = []
    try:
        with contextlib.suppress(LockedError), log.writing():
            said.extend(_healed(log, repeat))
    except (DamagedError, OSError) as error:
        # What is damaged elsewhere must not keep a rater from withdrawing, or anybody from reading.
        what = error.what if isinstance(error, DamagedError) else error.strerror
        said.append(f"what a crash cut short could not all be finished now: {what}")
    return said


def _healed(log: Log, repeat: bool) -> Iterator[str]:
    for stray in _strays(log):
        durable.destroy_tree(stray)
    for name in writer.recover(log):
        yield f"sealed session {name}, which had been cut short"
    for rater_id in come_back(log) if repeat else []:
        _destroy_rater(log, rater_id)
        log.append("erasure-repeated", {"rater_id": rater_id})
        yield "erased again a rater whom a restored backup had brought back"
    for intent in _unfinished(log):
        _finish(log, intent, _needles(log, intent.body["rater_id"]), _quiet)
        yield "completed an erasure that had been cut short"


def come_back(log: Log) -> list[str]:
    """Return erased raters whose key or rows are there again."""
    done = [entry.body["rater_id"] for entry in log.ledger.of("erasure-done")]
    layout = log.layout
    return [r for r in done if layout.key_file(r).exists() or layout.rater_folder(r).exists()]


def _needs_healing(log: Log) -> bool:
    return (
        log.layout.pending.exists()
        or any(log.layout.ledger.glob(f"*{durable.TEMPORARY_SUFFIX}"))
        or any(log.layout.journal.glob("*"))
        or bool(_unfinished(log))
        or bool(come_back(log))
        or bool(_strays(log))
    )


def _may_write(log: Log) -> bool:
    try:
        return bool(log.signing_key) and os.access(log.layout.root, os.W_OK)
    except DamagedError:
        return False


def _strays(log: Log) -> list[Path]:
    """Return what a crash left half-written or half-destroyed, and what no ledger entry came to name.

    The ledger clears its own, since a withdrawal may be writing there.
    """
    layout = log.layout
    found = [path for path in layout.root.rglob(f"*{durable.TEMPORARY_SUFFIX}") if path.is_file()]
    # Only what our own writes are called on the way: somebody's draft.tmp is theirs.
    found = [path for path in found if Path(path.stem).suffix in _OWN_SUFFIXES]
    found = [path for path in found if layout.ledger not in path.parents]
    found += [going for going in (_going(log),) if going.exists()]
    enrolled = {entry.body["rater_id"] for entry in log.ledger.of("enrolled")}
    for path in layout.keys.glob("r-*.key"):
        # An enrolment that was cut short. Other unknown keys are left, for `verify` to name.
        if (
            path.stem not in enrolled
            and not layout.rater_folder(path.stem).exists()
            and _is_key(log, path.stem)
        ):
            found.append(path)
    shown = {entry.body["terms_sha256"] for entry in log.ledger.of("terms")}
    for path in layout.terms.glob("*.md"):
        if path.stem not in shown and path.stem == canonical.file_sha256(path):
            found.append(path)
    return sorted(found)


def _going(log: Log) -> Path:
    """Return a rater's folder while it is destroyed: no view finds it, and its name tells nothing."""
    return log.layout.feedback / ".erasing"


def _is_key(log: Log, rater_id: str) -> bool:
    try:
        return bool(keys.read(log.layout, rater_id))
    except LogError:
        return False


def _needles(log: Log, rater_id: str) -> residue.Needles:
    """Return what to look for; a key that is damaged or gone keeps nobody from being erased."""
    try:
        return residue.needles_of(keys.read(log.layout, rater_id))
    except LogError:
        return residue.needles_of_id(rater_id)


def _unfinished(log: Log) -> list[Entry]:
    receipts = {entry.body["rater_id"] for entry in log.ledger.of("receipt")}
    return [entry for entry in log.ledger.of("erasure-intent") if entry.body["rater_id"] not in receipts]


def _finish(log: Log, intent: Entry, needles: residue.Needles, say: Say) -> Erased:
    rater_id = intent.body["rater_id"]
    done = next((e for e in log.ledger.of("erasure-done") if e.body["rater_id"] == rater_id), None)
    if done is None:
        say("setting aside the policies and reports that hold the rater")
        _quarantine(log, intent)
        say("destroying the key and the rows")
        _destroy_rater(log, rater_id)
        writer.recover(log)
        for session_id in intent.body["redacted"]:
            _redact(log, session_id)
        policies = [_train_again(log, policy, rater_id, say) for policy in intent.body["policies"]]
        for path in intent.body["reports"]:
            _report_again(log, path, rater_id, say)
        kept = {name: intent.body[name] for name in ("rater_id", "rows", "files", "reports", "exports")}
        body = kept | {"redacted": intent.body["redacted"], "policies": policies}
        done = log.append("erasure-done", body)
    say("searching every byte for what may be left")
    found = residue.scan(log, needles)
    path = receipt.write(log, intent, done, found)
    return Erased(rater_id, done.body, path)


def _quarantine(log: Log, intent: Entry) -> None:
    rater_id = intent.body["rater_id"]
    for policy in lineage.taught_by(log, rater_id):
        if plan.is_ours(log, policy):
            store.destroy(policy.folder)
    for report in artefacts.current(log, ArtefactKind.REPORT):
        if report.holds(rater_id):
            artefacts.destroy_files(report)


def _destroy_rater(log: Log, rater_id: str) -> None:
    layout = log.layout
    durable.destroy(layout.key_file(rater_id))
    going = _going(log)
    durable.destroy_tree(going)
    folder = layout.rater_folder(rater_id)
    if folder.exists():
        folder.rename(going)
        durable.sync_folder(layout.feedback)
    durable.destroy_tree(going)
    grants = {e.body["grant_id"] for e in log.ledger.of("consent") if e.body["rater_id"] == rater_id}
    words = {rater_id} | {f'"{grant_id}"' for grant_id in grants}
    for session_id in journal.open_sessions(layout):
        if journal.mentions(layout, session_id, words):
            journal.discard(layout, session_id)


def _redact(log: Log, session_id: str) -> None:
    """Blank what a live policy's weights left in the steps: a few answers could be guessed from it."""
    if any(entry.body["session_id"] == session_id for entry in log.ledger.of("redaction")):
        return
    facts = reader.session_facts(log, session_id)
    files = []
    for file in facts["files"]:
        if "sha256" not in file:
            continue
        path = log.layout.root / file["path"]
        try:
            durable.rewrite(path, lambda old, new: _blank(log, old, new))
        except LogError:
            # What can't be read can't be blanked, and must not stay; `verify` names the file from now on.
            durable.destroy(path)
            continue
        files.append({"path": file["path"], "rows": file["rows"], "sha256": canonical.file_sha256(path)})
    log.append("redaction", {"session_id": session_id, "files": files})


def _blank(log: Log, old: Path, new: Path) -> None:
    table = reader.read_parquet(log, old)
    for name in ("action_probability", "behaviour_policy_sha256"):
        if name in table.column_names:
            place = table.column_names.index(name)
            blank = pa.nulls(table.num_rows, table.schema.field(name).type)
            table = table.set_column(place, table.schema.field(name), blank)
    pq.write_table(table, new, **writer.PARQUET)


def _train_again(log: Log, policy: Mapping[str, Any], rater_id: str, say: Say) -> dict[str, Any]:
    path = policy["path"]
    entry = artefacts.find(log, ArtefactKind.POLICY, path)
    if entry is not None and entry.holds(rater_id):
        say(f"training {policy['name']} again without the rater")
        if not policy["found"]:
            artefacts.removed(log, ArtefactKind.POLICY, path)
        elif not _retrained(log, entry):
            lineage.remove(log, entry)
        entry = artefacts.find(log, ArtefactKind.POLICY, path)
    outcome = "retrained" if entry else "removed" if policy["found"] else "not found"
    return {
        "name": policy["name"],
        "path": path,
        "before": policy["before"],
        "after": entry.facts["weights_sha256"] if entry else None,
        "outcome": outcome,
    }


def _retrained(log: Log, policy: Artefact) -> bool:
    """Train a policy again as it was trained; say whether anything was left to train it on."""
    facts = policy.facts
    if facts["mode"] == "live":
        return False
    from rlhf_audit.replay import retrain  # here, so that a plan and an audit never wait for TensorFlow

    try:
        retrain.retrain(log, policy.folder, facts["algorithm"], facts["seed"], facts["env_id"])
    except (UsageError, ConsentError):
        return False
    return True


def _report_again(log: Log, path: str, rater_id: str, say: Say) -> None:
    report = artefacts.find(log, ArtefactKind.REPORT, path)
    if report is None or not report.holds(rater_id):
        return
    # A link, or other files in its place: that is somebody else's folder now.
    taken = any((report.folder / name).exists() for name in report.facts["files"])
    if taken or report.folder.is_symlink() or not report.folder.is_dir():
        artefacts.removed(log, ArtefactKind.REPORT, path)
        return
    from rlhf_audit.reports import publish  # here, so that opening a log never waits for matplotlib

    say("making a report again without the rater")
    publish.publish(log, report.folder)
