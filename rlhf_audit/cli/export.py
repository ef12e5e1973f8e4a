"""``export``: hand out what raters agreed to hand out."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import UsageError
from rlhf_audit.exchange.export import Format
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit export study --format parquet --to shared/study"


def run(
    log_path: LogPath,
    form: Annotated[
        Format | None, typer.Option("--format", help="What it is written as.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for it, outside the log.")
    ] = None,
    purpose: Annotated[
        Purpose, typer.Option(help="What each row's grant must cover now.")
    ] = Purpose.PUBLICATION,
    recipient: Annotated[
        str, typer.Option(metavar="TEXT", help="Who gets it; told to raters who are erased later.")
    ] = "",
    rater: Annotated[
        str | None,
        typer.Option(metavar="R", help="Instead: all that is held about this rater, for them alone."),
    ] = None,
    told: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Instead: note that whoever has this export knows of withdrawals."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a copy of what raters agreed to hand out.

    Only rows whose grant covers the purpose now, and the steps that they are about. Raters have a
    new name in each export. The ledger notes what went to whom; an erasure names it. With --rater R
    it is the rater's own copy: everything held about them, also after a withdrawal.
    """
    _check_options(log_path, form, to, rater, told)
    log = open_log(log_path)
    if told is not None:
        _tell(log, told, as_json)
    elif rater is not None and to is not None:
        _own_copy(log, rater, to, as_json)
    elif form is not None and to is not None:
        _hand_out(log, form, to, purpose, recipient, as_json)


def _check_options(
    log_path: Path, form: Format | None, to: Path | None, rater: str | None, told: Path | None
) -> None:
    whole = (form, to) if rater is None else (to,)
    beside = [form] if rater is not None else [form, to, rater] if told is not None else []
    if (told is None and None in whole) or any(one is not None for one in beside):
        raise UsageError(
            "it is not clear what is to be written",
            seen="options that do not go together, or too few",
            needed="--format F --to DIR, or --rater R --to DIR, or --told DIR",
            fix=f"rlhf-audit export {log_path} --format parquet --to ANOTHER-FOLDER",
        )


def _tell(log: Log, folder: Path, as_json: bool) -> None:
    from rlhf_audit.exchange import export

    recipient = export.told(log, folder)
    text = f"Noted: {recipient or 'whoever has it'} knows of all that was withdrawn until now."
    _console.emit("export", log.ledger.head, {"told": str(folder), "recipient": recipient}, text, as_json)


def _own_copy(log: Log, rater: str, to: Path, as_json: bool) -> None:
    from rlhf_audit.exchange import own_copy

    own_copy.check_free(log, to)
    counts = own_copy.make(log, rater, to)
    result = {"path": str(to), "format": "own-copy", "rows": counts["feedback"], "raters": [rater]}
    text = (
        f"{to}: all that is held about {rater}; begin with index.html.\n"
        "Hand it to them and to nobody else, then delete it here: an erasure does not reach it."
    )
    _console.emit("export", log.ledger.head, result | {"holds": counts}, text, as_json)


def _hand_out(log: Log, form: Format, to: Path, purpose: Purpose, recipient: str, as_json: bool) -> None:
    from rlhf_audit.exchange.export import export

    made = export(log, form, to, purpose, recipient)
    content = made.content
    result = {
        "path": str(to),
        "format": form.value,
        "purpose": purpose.value,
        "recipient": recipient,
        "rows": content.rows,
        "raters": sorted(made.names),
        "names": dict(made.names),
        "steps": content.steps,
        "episodes": content.episodes,
        "left_out": list(content.left_out),
        "files": dict(made.files),
    }
    rated = f"{_console.many(content.rows, 'row')} of feedback by {_console.many(len(made.names), 'rater')}"
    text = (
        f"{to}: {rated}, {_console.many(content.steps, 'step')}"
        f" in {_console.many(content.episodes, 'episode')}"
    )
    if content.left_out:
        text += (
            f"\nLeft out, since only digests of its observations are there: {', '.join(content.left_out)}."
        )
    if not recipient:
        text += "\nNo recipient is noted: an erasure will not be able to say who has it (--recipient TEXT)."
    _console.emit("export", log.ledger.head, result, text, as_json)
