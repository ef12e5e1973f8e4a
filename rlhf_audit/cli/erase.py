"""``erase``: take a rater out of the log, the policies and the reports."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, RaterId, open_log

EXAMPLE = "rlhf-audit erase study r-1a2b3c4d --apply"


def run(
    log_path: LogPath,
    rater_id: RaterId,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without this, only say what it would do.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a rater out of everything.

    Without --apply it only says what it would do. With it, what they gave is destroyed, policies
    and reports are made again without them, and a receipt is written. One who has not withdrawn
    is withdrawn by it.
    """
    log = open_log(log_path)
    alone: list[bool] = []
    if apply:
        from rlhf_audit.withdrawal import erase

        result = erase.apply(log, rater_id, _console.say).to_json()
    else:
        from rlhf_audit.withdrawal import plan

        planned = plan.make(log, rater_id)
        result = planned.to_json()
        alone = [bool(policy["alone"]) for policy in planned.policies]
    _console.emit("erase", log.ledger.head, result, _told(result, str(log_path), alone), as_json)


def _told(result: dict[str, Any], log_path: str, alone: Sequence[bool]) -> str:
    done = result["applied"]
    lines = [
        f"{result['rater_id']}: {'erased' if done else 'the plan; nothing is changed yet'}",
        f"rows      {result['rows']}",
        f"files     {_counted(result['files'])}",
    ]
    for number, policy in enumerate(result["policies"]):
        planned = (
            "removed: nobody else taught it" if any(alone[number : number + 1]) else "made again without them"
        )
        after = policy["after"] or ("removed" if done else planned)
        lines.append(f"policy    {policy['name']}: {_short(policy['before'])} -> {_short(after)}")
    lines += [f"report    {_named(report)}" for report in result["reports"]]
    lines += [
        f"export    {_named(export)}: already handed out; tell its holder" for export in result["exports"]
    ]
    if done:
        lines.append(f"receipt   {_named(result['receipt'])}")
    else:
        lines.append(f"Do it: rlhf-audit erase {log_path} {result['rater_id']} --apply")
    return "\n".join(lines)


def _counted(files: Any) -> str:
    return ", ".join(map(_named, files)) or "none" if isinstance(files, list) else str(files)


def _named(thing: Any) -> str:
    return str(thing.get("path", thing)) if isinstance(thing, dict) else str(thing)


def _short(text: Any) -> str:
    """Return a digest's first digits, and anything else whole."""
    return f"{text[:16]}…" if isinstance(text, str) and len(text) == 64 else str(text)
