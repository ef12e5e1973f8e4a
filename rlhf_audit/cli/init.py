"""``init``: create a log."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath

EXAMPLE = "rlhf-audit init study"


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
    as_json: AsJson = False,
) -> None:
    """Create a log in a new or empty folder."""
    from rlhf_audit import canonical
    from rlhf_audit.consent import terms
    from rlhf_audit.errors import UsageError
    from rlhf_audit.log import store

    try:
        text = terms.DEFAULT_TERMS if terms_file is None else canonical.read_file(terms_file).decode()
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the terms can't be read", seen=repr(str(terms_file)), needed="a text file in UTF-8"
        ) from error
    if not text.strip():
        raise UsageError("the terms are empty", needed="the text that raters are to read")
    log = store.create(log_path, terms=text.encode(), sealed=sealed)
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
