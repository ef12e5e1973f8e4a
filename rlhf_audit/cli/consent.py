"""``consent``: show the terms and record what the rater says."""

import sys
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, RaterId, open_log
from rlhf_audit.consent.people import Giver
from rlhf_audit.errors import RefusedError, UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.types import Grant, Purpose

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
    purpose: Annotated[
        list[Purpose] | None, typer.Option(help="What it covers; say it once for each.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; for scripted raters only.")] = False,
    by: Annotated[
        Giver, typer.Option(help="Who agrees; others than the rater only where init --allow says so.")
    ] = Giver.RATER,
    scan: Annotated[
        Path | None,
        typer.Option("--import", metavar="SCAN", help="Ask nothing: a signed form, of which this is a scan."),
    ] = None,
    signed_on: Annotated[
        str | None, typer.Option(metavar="DATE", help="The day beside the signature, YYYY-MM-DD.")
    ] = None,
    invalidate: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Their grants never were valid, and why; name no person."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the terms and ask the rater, one purpose at a time.

    A no to one purpose leaves the others as they are. Each answer is recorded; a no to all of them
    exits with 3. With --import a form that they signed is recorded instead, by the digest of its
    scan, which stays where it is. With --invalidate nothing of theirs is used any more.
    """
    from rlhf_audit.consent import register

    _check_options(log_path, purpose, yes, scan, signed_on, invalidate)
    log = open_log(log_path)
    who = register.rater(log, rater_id)
    if invalidate is not None:
        _invalidate(log_path, log, rater_id, invalidate, as_json)
    elif scan is not None:
        _import(log, rater_id, purpose or [], scan, signed_on or "", by, as_json)
    else:
        _ask(log_path, log, rater_id, purpose or [], who["scripted"] is not None, yes, by, as_json)


def _check_options(
    log_path: Path,
    purpose: Sequence[Purpose] | None,
    yes: bool,
    scan: Path | None,
    signed_on: str | None,
    invalidate: str | None,
) -> None:
    problem = None
    if (scan is None) != (signed_on is None):
        problem = "--import without --signed-on, or the other way round", "both"
    elif scan is not None and yes:
        problem = "--yes beside --import", "--import alone: it asks nobody"
    elif invalidate is not None and (purpose or yes or scan):
        problem = "--invalidate beside other options", "--invalidate alone: it is about all of their grants"
    elif invalidate is None and not purpose:
        problem = "no purpose", "--purpose training, audit or publication"
    if problem is not None:
        raise UsageError(
            "it is not clear what was agreed to",
            seen=problem[0],
            needed=problem[1],
            fix=f"rlhf-audit consent {log_path} RATER --purpose training --purpose audit",
        )


def _ask(
    log_path: Path,
    log: Log,
    rater_id: str,
    purpose: Sequence[Purpose],
    scripted: bool,
    yes: bool,
    by: Giver,
    as_json: bool,
) -> None:
    from rlhf_audit.consent import people, register, terms

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
    if not scripted:
        # Before anybody reads and answers in vain.
        people.check_giver(log, rater_id, by)
    agreed = purposes if yes else _agreed(log, rater_id, purposes, before, shown, by)
    refused = [one for one in purposes if one not in agreed]
    if refused:
        register.refuse(log, rater_id, refused, "terminal", shown[0])
    if not agreed:
        stands = f"; what was agreed to before stands until rlhf-audit withdraw {log_path} {rater_id}"
        raise RefusedError(
            f"{rater_id} did not agree; that is recorded{'' if before else ', and nothing else will be'}",
            seen="anything but yes",
            needed="yes, freely given",
            fix=f"none is needed: nobody has to agree{stands if before else ''}",
        )
    grant = register.give(log, rater_id, agreed, "scripted" if yes else "terminal", shown[0], by=by)
    more = f"\nNot agreed to: {', '.join(refused)}." if refused else ""
    for one in refused:
        if one in before:
            # A no to a question is no withdrawal, which would have what was made before made again.
            more += f"\nWhat was agreed to before for {one} stands. To take that back too:"
            more += f" rlhf-audit withdraw {log_path} {rater_id} --purpose {one}"
    _emit(log, grant, agreed, refused, more, as_json)


def _emit(
    log: Log, grant: Grant, agreed: Sequence[Purpose], refused: Sequence[Purpose], more: str, as_json: bool
) -> None:
    result = {
        "grant_id": grant.grant_id,
        "rater_id": grant.rater_id,
        "purposes": sorted(agreed),
        "refused": sorted(refused),
        "expires_at": grant.expires_at,
    }
    until = _console.moment(grant.expires_at)
    text = f"{grant.grant_id}: {grant.rater_id} agreed to {', '.join(agreed)} until {until}.{more}"
    _console.emit("consent", log.ledger.head, result, text, as_json)


def _import(
    log: Log, rater_id: str, purposes: Sequence[Purpose], scan: Path, signed_on: str, by: Giver, as_json: bool
) -> None:
    from rlhf_audit.consent import forms, register, terms

    form = forms.read(scan, signed_on)
    grant = register.give(log, rater_id, purposes, "imported", form=form, by=by)
    agreed = [one for one in Purpose if one in grant.purposes]
    _, version, _ = terms.current(log)
    more = f"\nRecorded as a consent to the terms of version {version}, by a form signed on {signed_on}."
    more += f"\nKeep the scan, SHA-256 {form.scan_sha256}: only its digest is in the log."
    _emit(log, grant, agreed, [], more, as_json)


def _invalidate(log_path: Path, log: Log, rater_id: str, reason: str, as_json: bool) -> None:
    from rlhf_audit.consent import register

    grants = register.invalidate(log, rater_id, reason)
    text = (
        f"{', '.join(grants)}: invalid. Nothing that {rater_id} gave is used any more.\n"
        f"What was given by it has to go: rlhf-audit erase {log_path} {rater_id} --apply"
    )
    result = {"rater_id": rater_id, "invalidated": grants}
    _console.emit("consent", log.ledger.head, result, text, as_json)


def _agreed(
    log: Log,
    rater_id: str,
    purposes: Sequence[Purpose],
    before: Collection[Purpose],
    shown: tuple[str, int, str],
    by: Giver,
) -> list[Purpose]:
    """Show the terms, ask about each purpose, and return those that the rater agrees to."""
    from rlhf_audit.consent import register

    digest, version, text = shown
    who = f"You are {rater_id}." if by is Giver.RATER else f"You answer as the {by} of {rater_id}."
    until = log.clock.now() + timedelta(days=register.GRANT_DAYS)
    _console.say(
        f"{_console.shown(text)}\n---\nterms version {version}, SHA-256 {digest}\n"
        f"{who} You are asked to agree to: {', '.join(purposes)}.\n"
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
