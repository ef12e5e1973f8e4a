"""``replay``: play recorded sessions again and compare."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf_audit.cli import _console, _tables
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import CheckFailedError, ReplayError, UsageError
from rlhf_audit.log.store import Log

if TYPE_CHECKING:
    from rlhf_audit.replay.rollout import RolloutDiff

EXAMPLE = "rlhf-audit replay study s-0001"


def run(
    log_path: LogPath,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", show_default=False, help="Which; all if none is named."),
    ] = None,
    materialise: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write one session's steps there with every observation, where the log has only hashes.",
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Make a film of one session, .gif or .mp4, with the feedback on it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Play sessions again and compare.

    Every recorded value is made again from the seeds and compared to the bit. Exits with 1 when
    something differs, and names the first difference.
    """
    from rlhf_audit.log import reader
    from rlhf_audit.replay import rollout

    log = open_log(log_path)
    names = list(dict.fromkeys(sessions)) if sessions else reader.session_ids(log)
    for name in names:
        reader.session_facts(log, name)
    if materialise is not None or video is not None:
        return _made(log, names, materialise, video, as_json)
    played = []
    unplayed: dict[str, str] = {}
    with _console.Progress() as progress:
        for done, name in enumerate(names):
            progress.count("session", done + 1, len(names))
            try:
                played.append(rollout.replay(log, name))
            except (ReplayError, UsageError) as error:
                if len(names) == 1:
                    raise
                # The others may still be the same.
                unplayed[name] = error.what
    first = next((one.difference for one in played if one.difference is not None), None)
    result = {
        "identical": first is None and not unplayed,
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
        "unplayed": unplayed,
    }
    lines = [_line(one) for one in played]
    lines += [
        f"{name}: can't be played here: {why} (replay it alone to be told more)"
        for name, why in unplayed.items()
    ]
    text = "\n".join(_tables.prose(line, rest="  ") for line in lines) or "This log holds no sessions."
    _console.emit("replay", log.ledger.head, result, text, as_json)
    return 0 if result["identical"] else CheckFailedError.exit_code


def _made(log: Log, names: list[str], folder: Path | None, film: Path | None, as_json: bool) -> int:
    """Make the files that were asked for of one session, checking every value on the way."""
    from rlhf_audit.replay.resimulate import AstrayError

    if len(names) != 1 or (folder and film):
        raise UsageError(
            "--materialise and --video are about one session, one of them at a time",
            seen=_console.many(len(names), "session"),
            needed="one SESSION, and one of the two",
            fix=f"rlhf-audit replay LOG {names[0] if names else 's-0001'} --video session.gif",
        )
    try:
        made, text = _materialised(log, names[0], folder) if folder else _filmed(log, names[0], film)
    except AstrayError as astray:
        difference = astray.difference
        result = {"identical": False, "steps": difference.step, "first_difference": asdict(difference)}
        where = f"episode {difference.episode_id}, step {difference.step}"
        text = f"{names[0]}: differs at {where}: {difference.field}; nothing was written"
        _console.emit("replay", log.ledger.head, result, text, as_json)
        return CheckFailedError.exit_code
    result = {"identical": True, "first_difference": None, **made}
    _console.emit("replay", log.ledger.head, result, text, as_json)
    return 0


def _materialised(log: Log, name: str, folder: Path) -> tuple[dict[str, Any], str]:
    from rlhf_audit.replay.materialise import materialise

    made = materialise(log, name, folder)
    text = f"{name}: identical, {made.steps} steps, written in full to {folder}"
    return {"steps": made.steps, "materialised": {"folder": str(folder), "files": dict(made.files)}}, text


def _filmed(log: Log, name: str, path: Path | None) -> tuple[dict[str, Any], str]:
    from rlhf_audit.replay.video import film

    assert path is not None
    made = film(log, name, path, log.clock.now())
    said = _console.many(made.remarks, "answer")
    text = f"{name}: identical; {path} shows {_console.many(made.frames, 'picture')} with {said}"
    if made.raters:
        text += f" of {', '.join(made.raters)}\nWho is in it stays in it: no erasure reaches a film."
    facts = {"file": str(path), "frames": made.frames, "feedback": made.remarks, "raters": list(made.raters)}
    return {"steps": made.steps, "video": facts}, text


def _line(one: "RolloutDiff") -> str:
    note = f" ({one.note})" if one.note else ""
    if one.difference is not None:
        where = f"episode {one.difference.episode_id}, step {one.difference.step}"
        return f"{one.session_id}: differs at {where}: {one.difference.field}{note}"
    if not one.steps:
        return f"{one.session_id}: {one.note or 'no steps to play'}"
    return f"{one.session_id}: identical, {one.steps} steps{note}"
