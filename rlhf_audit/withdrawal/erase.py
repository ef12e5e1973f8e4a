"""Taking a rater out of everything: each step may be cut short, and is rolled forward on the next open.

The order is DESIGN.md's, section 5: intent, policies and reports that hold the rater, key, folder, journals,
policies trained again, reports made again, done, residue scan, receipt. What is in the way is noted and
passed over: the erasure is then unfinished, and goes on with the next open once the way is free.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_audit.consent import register
from rlhf_audit.errors import CheckFailedError, DamagedError, LockedError
from rlhf_audit.log import durable, journal, writer
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log
from rlhf_audit.withdrawal import again, hold, holdings, plan, receipt, removal, residue
from rlhf_audit.withdrawal.again import Say
from rlhf_audit.withdrawal.removal import Removal


@dataclass(frozen=True)
class Erased:
    """What an erasure did.

    Attributes:
        found: Places in which the search found the rater, or which it could not search.
    """

    rater_id: str
    done: Mapping[str, Any]
    receipt: Path
    found: Sequence[str]

    @property
    def left(self) -> list[Mapping[str, Any]]:
        """What was not where it should be, or not what it should be, so that data of the rater may stay."""
        return plan.left(self.done)

    @property
    def clean(self) -> bool:
        """Whether nothing of the rater is known to be left within reach."""
        return not (self.left or self.found)

    def to_json(self) -> dict[str, Any]:
        """Return what ``erase --apply --json`` prints."""
        return plan.told(self.done, found=list(self.found)) | {
            "applied": True,
            "policies": [
                {n: policy[n] for n in ("name", "before", "after")} for policy in self.done["policies"]
            ],
            "receipt": self.receipt.as_posix(),
        }


class UnfinishedError(CheckFailedError):
    """An erasure in whose way something is: what could be destroyed is, and the rest stays due.

    Args:
        intent: The ledger's entry of it.
        blocked: What is in the way, path and why.
    """

    def __init__(self, intent: Mapping[str, Any], blocked: Mapping[str, str]) -> None:
        self.intent = intent
        self.blocked = dict(blocked)
        rater_id = intent["rater_id"]
        super().__init__(
            f"the erasure of {rater_id} is not finished: something is in its way",
            seen=", ".join(f"{path} {why}" for path, why in self.blocked.items()),
            needed="nothing there that can't be destroyed",
            fix=f"take it away, then rlhf-audit erase LOG {rater_id} --apply",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``erase --apply --json`` prints."""
        obstacles = [{"path": path, "problem": why} for path, why in self.blocked.items()]
        return plan.told(self.intent, obstacles=obstacles) | {
            "applied": True,
            "policies": [
                {"name": policy["name"], "before": policy["before"], "after": None}
                for policy in self.intent["policies"]
            ],
        }


@dataclass(frozen=True)
class Deleted:
    """An erasure that is done, and has no receipt yet.

    Attributes:
        intent: The ledger's entry that began it.
        done: The one that says what was destroyed.
        needles: What to look for.
    """

    intent: Entry
    done: Entry
    needles: residue.Needles
    work: Removal


def _quiet(_sentence: str) -> None:
    """Nobody listens."""


def apply(log: Log, rater_id: str, say: Say = _quiet) -> Erased:
    """Erase a rater: everything they gave, and what was learnt from it; or finish what has begun of it.

    Args:
        log: From where.
        rater_id: Whom. One who has not withdrawn is withdrawn by this.
        say: Told each step, for a person to read.

    Raises:
        UnfinishedError: Something is in the way. All else is done; do it again when it is gone.
        UsageError: Nobody of that name is here: never enrolled and erased are one answer.
        RefusedError: A legal hold suspends it.
        LockedError: Another process is writing.
    """
    with log.writing():
        return _proved(log, delete(log, rater_id, say), say)


def delete(log: Log, rater_id: str, say: Say = _quiet) -> Deleted:
    """Erase a rater up to the ledger's entry that it is done: without the search, and without the receipt.

    ``apply``, or the next opening of the log, adds both.

    Raises:
        UnfinishedError: As ``apply``, as are the others.
    """
    with log.writing():
        intent = plan.unfinished(log).get(rater_id)
        if intent is None:
            hold.check(log, rater_id)
            with contextlib.suppress(OSError):
                writer.recover(log)
            planned = plan.make(log, rater_id)
            register.withdraw(log, rater_id)
            needles = _needles(log, rater_id)
            intent = log.append("erasure-intent", planned.to_intent())
        else:
            needles = _needles(log, rater_id)
        return _deleted(log, intent, needles, say)


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
        said.append(_unhealed(log, error))
    return said


def _healed(log: Log, repeat: bool) -> Iterator[str]:
    for stray in removal.strays(log):
        # A name that says so is known again after a crash; others are known by what they hold.
        by_name = stray.name.endswith((durable.TEMPORARY_SUFFIX, durable.ERASING))
        with contextlib.suppress(OSError):
            (durable.destroy if by_name else durable.destroy_marked)(stray, shared=False)
    for folder in removal.going(log):
        durable.destroy_tree(folder, [])
    try:
        for name in writer.recover(log):
            yield f"sealed session {name}, which had been cut short"
    except OSError as error:
        yield _unhealed(log, error)
    for rater_id in come_back(log) if repeat else []:
        yield _repeated(log, rater_id)
    for intent in plan.unfinished(log).values():
        try:
            _finish(log, intent)
            yield "completed an erasure that had been cut short"
        except UnfinishedError as error:
            yield f"{error.what}; {error.seen}"


def _unhealed(log: Log, error: DamagedError | OSError) -> str:
    why = f"{error.what}; {error.seen}" if isinstance(error, DamagedError) else str(error.strerror)
    if isinstance(error, OSError) and error.filename:
        why = f"{plan.named(log, Path(os.fsdecode(error.filename)))}: {why}"
    return f"what a crash cut short could not all be finished now: {why}"


def _repeated(log: Log, rater_id: str) -> str:
    work = Removal(log, rater_id)
    work.key_and_rows()
    if work.blocked:
        why = ", ".join(f"{path} {why}" for path, why in work.blocked.items())
        return f"an erased rater is back and can't be erased again: {why}"
    log.append("erasure-repeated", {"rater_id": rater_id})
    left = [path for path, note in work.notes.items() if note["stays"]]
    more = f"; left alone, since it is not what the ledger names: {', '.join(left)}" if left else ""
    return f"erased again a rater whom a restored backup had brought back{more}"


def come_back(log: Log) -> list[str]:
    """Return erased raters whose key or rows are there again, or a journal that can't be read."""
    layout = log.layout

    def is_back(rater_id: str) -> bool:
        places = (layout.key_file(rater_id), layout.rater_folder(rater_id))
        opened = journal.open_sessions(layout)
        told = any(journal.mentions(layout, session_id, {rater_id}) for session_id in opened)
        return told or any(map(os.path.lexists, places))

    done = [entry.body["rater_id"] for entry in log.ledger.of("erasure-done")]
    return [rater_id for rater_id in done if is_back(rater_id)]


def _needs_healing(log: Log) -> bool:
    return (
        log.layout.pending.exists()
        or log.layout.placing.exists()
        or log.layout.compacting.exists()
        or any(log.layout.ledger.glob(f"*{durable.TEMPORARY_SUFFIX}"))
        or any(log.layout.journal.glob("*"))
        or bool(plan.unfinished(log))
        or bool(come_back(log))
        or bool(removal.going(log))
        or bool(removal.strays(log))
    )


def _may_write(log: Log) -> bool:
    try:
        return bool(log.signing_key) and os.access(log.layout.root, os.W_OK)
    except DamagedError:
        return False


def _needles(log: Log, rater_id: str) -> residue.Needles:
    """Return what to look for; a key that is damaged or gone keeps nobody from being erased."""
    key = holdings.readable_key(log, rater_id)
    return residue.needles_of(key, hold.reasons(log, rater_id)) if key else residue.needles_of_id(rater_id)


def _finish(log: Log, intent: Entry) -> Erased:
    needles = _needles(log, intent.body["rater_id"])
    return _proved(log, _deleted(log, intent, needles, _quiet), _quiet)


def _deleted(log: Log, intent: Entry, needles: residue.Needles, say: Say) -> Deleted:
    rater_id = intent.body["rater_id"]
    done = next((e for e in log.ledger.of("erasure-done") if e.body["rater_id"] == rater_id), None)
    halts = [entry.body for entry in log.ledger.of("erasure-halted") if entry.body["rater_id"] == rater_id]
    notes = [note for body in (intent.body, *halts) for note in body.get("places", ())]
    halted = {obstacle["path"] for body in halts for obstacle in body["obstacles"]}
    work = Removal(log, rater_id, notes, halted)
    if done is None:
        say("setting aside the policies and reports that hold the rater")
        work.policies_and_reports()
        say("destroying the key and the rows")
        work.key_and_rows()
        with work.trying(log.layout.relative(log.layout.journal)):
            writer.recover(log)
        for session_id in intent.body["redacted"]:
            work.redact(session_id)
        policies = [again.train(work, policy, say) for policy in intent.body["policies"]]
        for path in intent.body["reports"]:
            with work.trying(path):
                again.report(work, path, say)
        if work.blocked:
            raise _halted(log, intent, work)
        kept = {name: intent.body[name] for name in ("rater_id", "rows", "files", "reports", "exports")}
        body = kept | {"redacted": intent.body["redacted"], "policies": policies}
        done = log.append("erasure-done", body | {"places": list(work.notes.values())})
    return Deleted(intent, done, needles, work)


def _proved(log: Log, deleted: Deleted, say: Say) -> Erased:
    """Search every byte for what may be left, and write the receipt."""
    say("searching every byte for what may be left")
    intent, done, work = deleted.intent, deleted.done, deleted.work
    found = residue.scan(log, deleted.needles)
    with work.trying(log.layout.relative(log.layout.receipts)):
        path = receipt.write(log, intent, done, found)
        return Erased(intent.body["rater_id"], done.body, path, [*found.found, *found.unread])
    raise _halted(log, intent, work)


def _halted(log: Log, intent: Entry, work: Removal) -> UnfinishedError:
    """Enter in the ledger what is in the way; once, however often it is met."""
    listed = [{"path": path, "problem": why} for path, why in sorted(work.blocked.items())]
    body = {"rater_id": work.rater_id, "obstacles": listed, "places": list(work.notes.values())}
    before = [e.body for e in log.ledger.of("erasure-halted") if e.body["rater_id"] == work.rater_id]
    if before[-1:] != [body]:
        log.append("erasure-halted", body)
    return UnfinishedError(intent.body, work.blocked)
