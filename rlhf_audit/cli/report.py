"""``report``: the audits as a page to read."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log

EXAMPLE = "rlhf-audit report study --to study/reports"


def run(
    log_path: LogPath,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where report.json and report.html go.")],
    as_json: AsJson = False,
) -> None:
    """Write the audit report.

    report.json, and report.html made from it: one file, no script, printable.
    """
    from rlhf_audit.reports import publish

    log = open_log(log_path)
    made = publish.publish(log, to)
    result = {"html": str(made.html), "json": str(made.json), "findings": made.findings}
    text = f"{made.html}\n{made.json}\n{made.findings} findings"
    _console.emit("report", log.ledger.head, result, text, as_json)
