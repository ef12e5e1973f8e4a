"""``consent``: show the terms and record what the rater says."""

import sys
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, RaterId, open_log
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit consent study r-1a2b3c4d --purpose training --purpose audit"

# What the program does for each, whatever the operator's own terms say of it.
_MEANINGS = {
    Purpose.TRAINING: "your answers teach a computer program",
    Purpose.AUDIT: "your answers are compared with those of others, and reported on",
    Purpose.PUBLICATION: "your answers may be given to others",
}


def run(
    log_path: LogPath,
    rater_id: RaterId,
    purpose: Annotated[list[Purpose], typer.Option(help="What it covers; say it once for each.")],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; for scripted raters only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the terms and ask the rater, one purpose at a time.

    A no to one purpose leaves the others as they are. Each answer is recorded; a no to all of them
    exits with 3.
    """
    from rlhf_audit.consent import register, terms
    from rlhf_audit.errors import RefusedError

    log = open_log(log_path)
    scripted = register.rater(log, rater_id)["scripted"] is not None
    before = register.agreed_before(log, rater_id, log.clock.now())
    # In the order of the terms, not of the alphabet.
    purposes = [one for one in Purpose if one in {*purpose, *before}]
    shown = terms.current(log)
    if scripted and not yes:
        raise RefusedError(
            f"{rater_id} can't be asked",
            seen="a scripted rater",
            needed="--yes",
            fix=f"rlhf-audit consent {log_path} {rater_id} --purpose {purposes[0]} --yes",
        )
    agreed = purposes if yes else _agreed(log, rater_id, purposes, before, shown)
    refused = [one for one in purposes if one not in agreed]
    if refused:
        register.refuse(log, rater_id, refused, "terminal")
    if not agreed:
        stands = f"; what was agreed to before stands until rlhf-audit withdraw {log_path} {rater_id}"
        raise RefusedError(
            f"{rater_id} did not agree; that is recorded{'' if before else ', and nothing else will be'}",
            seen="anything but yes",
            needed="yes, freely given",
            fix=f"none is needed: nobody has to agree{stands if before else ''}",
        )
    grant = register.give(log, rater_id, agreed, "scripted" if yes else "terminal", shown[0])
    result = {
        "grant_id": grant.grant_id,
        "rater_id": rater_id,
        "purposes": sorted(agreed),
        "refused": sorted(refused),
        "expires_at": grant.expires_at,
    }
    until = _console.moment(grant.expires_at)
    text = f"{grant.grant_id}: {rater_id} agreed to {', '.join(agreed)} until {until}."
    text += f"\nNot agreed to: {', '.join(refused)}." if refused else ""
    for one in refused:
        if one in before:
            # A no to a question is no withdrawal, which would have what was made before made again.
            text += f"\nWhat was agreed to before for {one} stands. To take that back too:"
            text += f" rlhf-audit withdraw {log_path} {rater_id} --purpose {one}"
    _console.emit("consent", log.ledger.head, result, text, as_json)


def _agreed(
    log: Log,
    rater_id: str,
    purposes: Sequence[Purpose],
    before: Collection[Purpose],
    shown: tuple[str, int, str],
) -> list[Purpose]:
    """Show the terms, ask about each purpose, and return those that the rater agrees to."""
    from rlhf_audit.consent import register

    digest, version, text = shown
    until = log.clock.now() + timedelta(days=register.GRANT_DAYS)
    _console.say(
        f"{_console.shown(text)}\n---\nterms version {version}, SHA-256 {digest}\n"
        f"You are {rater_id}. You are asked to agree to: {', '.join(purposes)}.\n"
        f"Your consent would end by itself on {_console.moment(until)}."
    )
    agreed = []
    for number, one in enumerate(purposes, 1):
        known = " You agreed to this before." if one in before else ""
        count = f" ({number} of {len(purposes)})" if len(purposes) > 1 else ""
        _console.say(f"\n{one.capitalize()}{count}: {_MEANINGS[one]}.{known}\nDo you agree? Type yes or no:")
        if _says_yes():
            agreed.append(one)
    return agreed


def _says_yes() -> bool:
    # A slip of the finger is asked again; the end of the input, or no input at all, is a no.
    while answer := sys.stdin.readline() if sys.stdin is not None else "":
        if answer.strip().lower() in ("y", "yes", "n", "no"):
            return answer.strip().lower() in ("y", "yes")
        _console.say("Type yes or no:")
    return False
