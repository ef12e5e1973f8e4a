"""``report``: the audits as a page to read."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log

EXAMPLE = "rlhf-audit report study --to study/reports"


def run(
    log_path: LogPath,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where the report's files go.")],
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD", help="Say what has changed since this report.json, or the one in this folder."
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="Draw disputed steps of environments that are not Gymnasium's own, too: runs their code.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the audit report.

    report.json, and made from it report.html, which is one file, no script, printable; report.md; and each
    table as report-*.csv.
    """
    from rlhf_audit.reports import against as older
    from rlhf_audit.reports import publish

    # Before anything is written: it may be the very report that is replaced.
    old = None if against is None else older.read(against)
    log = open_log(log_path)
    made = publish.publish(log, to, old, frames)
    result = {
        "html": str(made.html),
        "json": str(made.json),
        "markdown": str(made.markdown),
        "tables": [str(path) for path in made.tables],
        "findings": made.findings,
    }
    text = f"{made.html}\n{made.json}\n{made.findings} findings"
    _console.emit("report", log.ledger.head, result, text, as_json)
