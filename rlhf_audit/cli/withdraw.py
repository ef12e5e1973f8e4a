"""``withdraw``: stop the use of what a rater gave."""

from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, RaterId
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit withdraw study r-1a2b3c4d"


def run(
    log_path: LogPath,
    rater_id: RaterId,
    purpose: Annotated[
        list[Purpose] | None, typer.Option(help="Only this; all purposes if none is named.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop the use of what a rater gave.

    At once, without a question, and also while a session is being recorded.
    """
    from rlhf_audit.clock import to_text
    from rlhf_audit.consent import register

    # Nothing is healed first: a withdrawal waits for no retraining.
    log = Log(log_path)
    purposes, erase_by = register.withdraw(log, rater_id, purpose or None)
    result = {"rater_id": rater_id, "purposes": purposes, "erase_by": to_text(erase_by)}
    text = (
        f"{rater_id} has withdrawn {', '.join(purposes)}: nothing of theirs is used for that now.\n"
        f"Due by {_console.moment(erase_by)}: {_due(log_path, rater_id, len(purposes) == len(Purpose))}"
    )
    _console.emit("withdraw", log.ledger.head, result, text, as_json)


def _due(log_path: LogPath, rater_id: str, wholly: bool) -> str:
    if wholly:
        return f"their erasure, rlhf-audit erase {log_path} {rater_id} --apply"
    return (
        f"what was made with it is made again; see rlhf-audit audit {log_path} pending_withdrawals.\n"
        "What they agreed to otherwise stands, and an erasure would take all of it."
    )
