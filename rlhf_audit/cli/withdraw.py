"""``withdraw``: stop the use of what a rater gave."""

import getpass
import sys
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath
from rlhf_audit.errors import UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit withdraw study r-1a2b3c4d"

# A code is 24 characters with its dashes: what is longer is none, and need not be read whole.
_LONGEST = 1024


def run(
    log_path: LogPath,
    rater_id: Annotated[
        str | None,
        typer.Argument(metavar="RATER", show_default=False, help="Pseudonym; left out with --code."),
    ] = None,
    purpose: Annotated[
        list[Purpose] | None, typer.Option(help="Only this; all purposes if none is named.")
    ] = None,
    code: Annotated[
        bool, typer.Option("--code", help="Ask for the rater's withdrawal code instead; or a line of stdin.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the use of what a rater gave.

    At once, without a question, and also while a session is being recorded. With --code it is the
    rater who withdraws, by the code that enroll printed: typed unseen, or given as a line of standard
    input, never as an argument. After 5 wrong codes none is heard for 15 minutes; RATER always is.
    """
    from rlhf_audit.clock import to_text
    from rlhf_audit.consent import codes, register, standings

    if code == (rater_id is not None):
        raise UsageError(
            "it is not clear who withdraws",
            seen="a rater and --code" if code else "neither a rater nor --code",
            needed="one of the two",
            fix=f"rlhf-audit withdraw {log_path} --code",
        )
    # Nothing is healed first: a withdrawal waits for no retraining.
    log = Log(log_path)
    if rater_id is None:
        rater_id = codes.opened(log, _read_code())
    purposes, erase_by = register.withdraw(log, rater_id, purpose or None)
    result = {"rater_id": rater_id, "purposes": purposes, "erase_by": to_text(erase_by)}
    wholly = not standings.stands(log, rater_id, log.clock.now())
    text = (
        f"{rater_id} has withdrawn {', '.join(purposes)}: nothing of theirs is used for that now.\n"
        f"Due by {_console.moment(erase_by)}: {_due(log_path, rater_id, wholly)}"
    )
    _console.emit("withdraw", log.ledger.head, result, text, as_json)


def _read_code() -> str:
    if sys.stdin is None:
        return ""
    if sys.stdin.isatty():
        try:
            return getpass.getpass("withdrawal code: ", sys.stderr)
        except EOFError:
            return ""
    return sys.stdin.readline(_LONGEST).rstrip("\r\n")


def _due(log_path: LogPath, rater_id: str, wholly: bool) -> str:
    if wholly:
        return f"their erasure, rlhf-audit erase {log_path} {rater_id} --apply"
    return (
        f"what was made with it is made again; see rlhf-audit audit {log_path} pending_withdrawals.\n"
        "What they agreed to otherwise stands, and an erasure would take all of it."
    )
