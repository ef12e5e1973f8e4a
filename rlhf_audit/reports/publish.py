"""A report as files: report.json, and the page, the Markdown and the tables made from that JSON.

The files are the same few whatever the report holds, and the ledger's entry names each: so an erasure finds
and destroys all of them, and none of a former report is left behind.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_audit.audits import memory, runner
from rlhf_audit.errors import UsageError
from rlhf_audit.log import durable, views
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.reports import against, document, gather, markdown, tables

JSON, HTML, MARKDOWN = against.JSON, "report.html", "report.md"


@dataclass(frozen=True)
class Published:
    """Where a report is, and how many findings it shows.

    Attributes:
        tables: One CSV a table.
    """

    html: Path
    json: Path
    markdown: Path
    tables: tuple[Path, ...]
    findings: int


def publish(
    log: Log, folder: Path, older: against.Old | None = None, every_environment: bool = False
) -> Published:
    """Make the report of a log and enter it in the ledger; the same report again is no new entry.

    Args:
        log: Which.
        folder: Where to; what else it holds is left alone.
        older: A report to compare with.
        every_environment: Draw disputed steps of environments that are not Gymnasium's own, too.

    Raises:
        UsageError: ``folder`` is a place of the log's own data.
    """
    with log.writing(), memory.uncollected():
        path = log.layout.recorded(folder)
        if not f"{path}/".startswith(("../", "reports/")):
            raise UsageError(
                "a report can't be written among the log's own files",
                seen=path,
                needed="a folder outside the log, or one in its reports/",
                fix="rlhf-audit report LOG --to LOG/reports/NAME",
            )
        durable.check_writable(folder)
        connection = views.connect(log, log.clock.now(), read_once=True)
        try:
            audits = runner.run(connection)
            facts, points = gather.gather(connection, log.log_id, log.data_head())
            raters = [
                row["rater_id"]
                for row in views.query(
                    connection, "SELECT DISTINCT rater_id FROM raters ORDER BY rater_id"
                ).to_pylist()
            ]
        finally:
            connection.close()
        # Not before: what draws takes 35 MB, and the audits need theirs first.
        from rlhf_audit.reports import frames, html

        drawn, note = frames.pictured(log, points.disputed, every_environment)
        points = replace(points, disputed=drawn, pictures_note=note)
        built = document.build(facts, audits, points, older.compare if older else None)
        # All is made from the file's bytes, so that each can always be made again from the one.
        contents = {
            JSON: document.report_bytes(built),
            HTML: html.render_report(built).encode(),
            MARKDOWN: markdown.render(built).encode(),
            **tables.csv_files(built),
        }
        log.place(folder, contents, ArtefactKind.REPORT.value, {"rater_ids": raters})
    names = tuple(folder / name for name in contents if name.endswith(".csv"))
    findings = sum(len(audit.findings) for audit in audits)
    return Published(folder / HTML, folder / JSON, folder / MARKDOWN, names, findings)
