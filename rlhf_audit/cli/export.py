"""``export``: hand out what raters agreed to hand out."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.exchange.export import Format
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit export study --format parquet --to shared/study"


def run(
    log_path: LogPath,
    form: Annotated[Format, typer.Option("--format", help="What it is written as.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for it, outside the log.")],
    purpose: Annotated[
        Purpose, typer.Option(help="What each row's grant must cover now.")
    ] = Purpose.PUBLICATION,
    recipient: Annotated[
        str, typer.Option(metavar="TEXT", help="Who gets it; told to raters who are erased later.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a copy of what raters agreed to hand out.

    Only rows whose grant covers the purpose now, and the steps that they are about. Raters have a
    new name in each export. The ledger notes what went to whom; an erasure names it.
    """
    from rlhf_audit.exchange.export import export

    log = open_log(log_path)
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
