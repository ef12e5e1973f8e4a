"""``terms``: give a log a new version of what raters agree to."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log, read_terms

EXAMPLE = "rlhf-audit terms study new-terms.md"


def run(
    log_path: LogPath,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="The text, UTF-8; shown as it is.")
    ],
    as_json: AsJson = False,
) -> None:
    """Add a new version of the terms.

    From then on nobody is recorded who has not agreed to it; what was given by older terms stays
    usable as it was granted. The newest text again changes nothing. show LOG terms prints it.
    """
    from rlhf_audit.consent import register, terms
    from rlhf_audit.types import ConsentState

    text = read_terms(file)
    log = open_log(log_path)
    digest = terms.add(log, text)
    _, version, _ = terms.current(log)
    ask = {
        one.rater_id
        for one in register.standings(log, log.clock.now())
        if one.state is ConsentState.GIVEN and one.terms_sha256 != digest
    }
    gone = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    agreed = {
        one.rater_id
        for one in register.standings(log, log.clock.now())
        if one.state is ConsentState.GIVEN and one.terms_sha256 == digest
    }
    waiting = sorted(ask - agreed - gone)
    result = {"terms_sha256": digest, "version": version, "to_ask": waiting}
    told = f"version {version}, SHA-256 {digest}"
    if waiting:
        told += f"\nNot recorded until they agree to it: {', '.join(waiting)}."
        told += f"\nAsk them: rlhf-audit consent {log_path} {waiting[0]} --purpose training"
    _console.emit("terms", log.ledger.head, result, told, as_json)
