"""``consent``: show the terms and record what the rater says."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, RaterId, open_log
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit consent study r-1a2b3c4d --purpose training --purpose audit"


def run(
    log_path: LogPath,
    rater_id: RaterId,
    purpose: Annotated[list[Purpose], typer.Option(help="What it covers; say it once for each.")],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; for scripted raters only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the terms and ask the rater.

    The answer is recorded either way; a no exits with 3.
    """
    from rlhf_audit.consent import register, terms
    from rlhf_audit.errors import RefusedError

    log = open_log(log_path)
    scripted = register.rater(log, rater_id)["scripted"] is not None
    asked = set(purpose)
    purposes = sorted(asked | register.agreed_before(log, rater_id, log.clock.now()))
    shown = terms.current(log)
    if scripted and not yes:
        raise RefusedError(
            f"{rater_id} can't be asked",
            seen="a scripted rater",
            needed="--yes",
            fix=f"rlhf-audit consent {log_path} {rater_id} --purpose {purposes[0]} --yes",
        )
    if not yes and not _agrees(log, rater_id, purposes, shown):
        register.refuse(log, rater_id, asked, "terminal")
        raise RefusedError(
            f"{rater_id} did not agree; that is recorded, and nothing else will be",
            seen="anything but yes",
            needed="yes, freely given",
            fix="none is needed: nobody has to agree",
        )
    grant = register.give(log, rater_id, purposes, "scripted" if yes else "terminal", shown[0])
    result = {
        "grant_id": grant.grant_id,
        "rater_id": rater_id,
        "purposes": purposes,
        "expires_at": grant.expires_at,
    }
    until = _console.moment(grant.expires_at)
    text = f"{grant.grant_id}: {rater_id} agreed to {', '.join(purposes)} until {until}."
    _console.emit("consent", log.ledger.head, result, text, as_json)


def _agrees(log: Log, rater_id: str, purposes: Sequence[Purpose], shown: tuple[str, int, str]) -> bool:
    from rlhf_audit.consent import register

    digest, version, text = shown
    until = log.clock.now() + timedelta(days=register.GRANT_DAYS)
    _console.say(
        f"{text}\n---\nterms version {version}, SHA-256 {digest}\n"
        f"You are {rater_id}. You are asked to agree to: {', '.join(purposes)}.\n"
        f"Your consent would end by itself on {_console.moment(until)}.\n\nDo you agree? Type yes or no:"
    )
    # A slip of the finger is asked again; the end of the input, or no input at all, is a no.
    while answer := sys.stdin.readline() if sys.stdin is not None else "":
        if answer.strip().lower() in ("y", "yes", "n", "no"):
            return answer.strip().lower() in ("y", "yes")
        _console.say("Type yes or no:")
    return False
