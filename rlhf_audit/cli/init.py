"""``init``: create a log."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, read_terms

EXAMPLE = "rlhf-audit init study"


class Permitted(StrEnum):
    """Who may agree for a rater, where a log says so."""

    GUARDIAN = "guardian"
    PROXY = "proxy"


def run(
    log_path: LogPath,
    terms_file: Annotated[
        Path | None,
        typer.Option("--terms", metavar="FILE", help="The text that raters agree to, instead of ours."),
    ] = None,
    sealed: Annotated[
        bool,
        typer.Option("--sealed", help="Encrypt what raters give; a copy without their keys says nothing."),
    ] = False,
    allow: Annotated[
        list[Permitted] | None,
        typer.Option(
            help="Who may agree for a rater: guardian (who is under age), proxy; nobody by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a log in a new or empty folder."""
    from rlhf_audit.consent import people, terms
    from rlhf_audit.log import store

    text = terms.DEFAULT_TERMS if terms_file is None else read_terms(terms_file)
    log = store.create(log_path, terms=text.encode(), sealed=sealed)
    if allow:
        people.permit(log, [people.Giver(one.value) for one in allow])
    result = {
        "log": str(log_path),
        "log_id": log.log_id,
        "format_version": log.header["format_version"],
        "public_key": log.public_key.hex(),
        "terms_sha256": terms.current(log)[0],
        "sealed": log.is_sealed,
    }
    _console.emit(
        "init",
        log.ledger.head,
        result,
        f"{log_path} is a new log, {log.log_id}.\nEnrol the first rater: rlhf-audit enroll {log_path}",
        as_json,
    )
