"""``replay``: play recorded sessions again and compare."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rlhf_audit.cli import _console, _tables
from rlhf_audit.cli._options import AsJson, LogPath, open_log

if TYPE_CHECKING:
    from rlhf_audit.replay.rollout import RolloutDiff

EXAMPLE = "rlhf-audit replay study s-0001"


def run(
    log_path: LogPath,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", show_default=False, help="Which; all if none is named."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Play sessions again and compare.

    Every recorded value is made again from the seeds and compared to the bit. Exits with 1 when
    something differs, and names the first difference.
    """
    from rlhf_audit.errors import CheckFailedError
    from rlhf_audit.log import reader
    from rlhf_audit.replay import rollout

    log = open_log(log_path)
    names = list(dict.fromkeys(sessions)) if sessions else reader.session_ids(log)
    for name in names:
        reader.session_facts(log, name)
    played = []
    with _console.Progress() as progress:
        for done, name in enumerate(names):
            progress.count("session", done + 1, len(names))
            played.append(rollout.replay(log, name))
    first = next((one.difference for one in played if one.difference is not None), None)
    result = {
        "identical": first is None,
        "steps": sum(one.steps for one in played),
        "first_difference": None if first is None else asdict(first),
        "sessions": [
            {
                "session_id": one.session_id,
                "identical": one.difference is None,
                "steps": one.steps,
                "scope": one.scope,
                "note": one.note,
            }
            for one in played
        ],
    }
    text = "\n".join(_tables.prose(_line(one), rest="  ") for one in played) or "This log holds no sessions."
    _console.emit("replay", log.ledger.head, result, text, as_json)
    return 0 if first is None else CheckFailedError.exit_code


def _line(one: "RolloutDiff") -> str:
    note = f" ({one.note})" if one.note else ""
    if one.difference is not None:
        where = f"episode {one.difference.episode_id}, step {one.difference.step}"
        return f"{one.session_id}: differs at {where}: {one.difference.field}{note}"
    if not one.steps:
        return f"{one.session_id}: {one.note or 'no steps to play'}"
    return f"{one.session_id}: identical, {one.steps} steps{note}"
