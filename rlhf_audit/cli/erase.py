"""``erase``: take a rater out of the log, the policies and the reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, RaterId, open_log
from rlhf_audit.errors import CheckFailedError, UsageError

EXAMPLE = "rlhf-audit erase study r-1a2b3c4d --apply"


def run(
    log_path: LogPath,
    rater_id: RaterId,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without this, only say what it would do.")
    ] = False,
    legal_hold: Annotated[
        str | None, typer.Option("--legal-hold", metavar="REASON", help="Suspend it, for this reason.")
    ] = None,
    lift_hold: Annotated[bool, typer.Option("--lift-hold", help="End a legal hold.")] = False,
    as_json: AsJson = False,
) -> int:
    """Take a rater out of everything.

    Without --apply it only says what it would do. With it, what they gave is destroyed, policies
    and reports are made again without them, and a receipt is written. One who has not withdrawn
    is withdrawn by it. Exits with 1 when something is in the way, or when data of theirs may be
    left, and names the place; run it again when the way is free.

    --legal-hold suspends it, visibly: --apply is refused with 3 until --lift-hold. What is held is
    not used the more for it. The reason is kept under the rater's key, and is erased with them.
    """
    from rlhf_audit.log.store import Log
    from rlhf_audit.withdrawal import erase, hold, plan

    _check_alone(log_path, rater_id, apply, legal_hold is not None, lift_hold)
    alone: list[bool] = []
    # One that has begun is finished here, so that its outcome is told, and not by opening the log.
    log = Log(log_path)
    if not (apply and rater_id in plan.unfinished(log)):
        log = open_log(log_path)
    if legal_hold is not None:
        hold.place(log, rater_id, legal_hold)
    if lift_hold:
        hold.lift(log, rater_id)
    if apply:
        try:
            result = erase.apply(log, rater_id, _console.say).to_json()
        except erase.UnfinishedError as error:
            result = error.to_json()
    else:
        planned = plan.make(log, rater_id)
        result = planned.to_json()
        alone = [bool(policy["alone"]) for policy in planned.policies]
    _console.emit("erase", log.ledger.head, result, _told(result, str(log_path), alone), as_json)
    clean = not any(result.get(name) for name in ("left", "obstacles", "found"))
    finished = bool(result["receipt"]) and clean
    return 0 if finished or not result["applied"] else CheckFailedError.exit_code


def _check_alone(log_path: Path, rater_id: str, *asked: bool) -> None:
    if sum(asked) > 1:
        raise UsageError(
            "that can't be done together",
            seen="several of --apply, --legal-hold and --lift-hold",
            needed="one at a time",
            fix=f"rlhf-audit erase {log_path} {rater_id} --lift-hold",
        )


def _told(result: dict[str, Any], log_path: str, alone: Sequence[bool]) -> str:
    done, complete = result["applied"], bool(result["receipt"])
    lines = [
        f"{result['rater_id']}: {_outcome(result)}",
        f"rows      {result['rows']}",
        f"files     {_counted(result['files'])}",
    ]
    for number, policy in enumerate(result["policies"]):
        planned = (
            "removed: nobody else taught it" if any(alone[number : number + 1]) else "made again without them"
        )
        after = policy["after"] or ("removed" if complete else planned)
        lines.append(f"policy    {policy['name']}: {_short(policy['before'])} -> {_short(after)}")
    lines += [f"report    {_named(report)}" for report in result["reports"]]
    lines += [f"export    {_handed_out(export)}" for export in result["exports"]]
    lines += [f"left      {_left(note)}" for note in result.get("left", ())]
    lines += [f"left      {path}: found by the search, or not readable" for path in result.get("found", ())]
    lines += [f"in the way: {one['path']} {one['problem']}" for one in result.get("obstacles", ())]
    if "hold" in result:
        held = result["hold"]
        why = "its reason can't be read" if held["reason"] is None else held["reason"]
        lines.append(f"legal hold since {held['since']}: {why}")
        lines.append(f"When it ends: rlhf-audit erase {log_path} {result['rater_id']} --lift-hold")
    elif complete:
        lines.append(f"receipt   {_named(result['receipt'])}")
    else:
        again = "When the way is free" if done else "Do it"
        lines.append(f"{again}: rlhf-audit erase {log_path} {result['rater_id']} --apply")
    return "\n".join(map(_console.printable, lines))


def _outcome(result: dict[str, Any]) -> str:
    if "hold" in result:
        return "suspended by a legal hold; nothing is changed, and nothing withdrawn is used"
    if result["receipt"]:
        return "erased; look at what is left" if "left" in result or "found" in result else "erased"
    return "begun, and not finished" if result["applied"] else "the plan; nothing is changed yet"


def _left(note: dict[str, Any]) -> str:
    """Return what is told of a place in which data of the rater may stay."""
    if note["leads_to"]:
        return f"{note['leads_to']}, where {note['path']} leads, is not what the ledger names: left alone"
    if note["state"] == "missing":
        return f"{note['path']} is not in its place: a copy elsewhere is not reached"
    return f"{note['path']} is not what the ledger names: left alone, under its other names if it has any"


def _handed_out(export: dict[str, Any]) -> str:
    """Return what is told of a copy that nobody can delete from here."""
    holder = export.get("recipient") or "its holder"
    named = f" that the name is {export['name']}" if "name" in export else ""
    return f"{_named(export)}: already handed out; tell {holder}{named}"


def _counted(files: Any) -> str:
    return ", ".join(map(_named, files)) or "none" if isinstance(files, list) else str(files)


def _named(thing: Any) -> str:
    return str(thing.get("path", thing)) if isinstance(thing, dict) else str(thing)


def _short(text: Any) -> str:
    """Return a digest's first digits, and anything else whole."""
    return f"{text[:16]}…" if isinstance(text, str) and len(text) == 64 else str(text)
