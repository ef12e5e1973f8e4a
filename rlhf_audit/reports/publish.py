"""A report as files: report.json, and report.html made from that JSON."""

from dataclasses import dataclass
from pathlib import Path

from rlhf_audit.audits import runner
from rlhf_audit.errors import UsageError
from rlhf_audit.log import durable, views
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.reports import document, gather, html

JSON, HTML = "report.json", "report.html"


@dataclass(frozen=True)
class Published:
    """Where a report is, and how many findings it shows."""

    html: Path
    json: Path
    findings: int


def publish(log: Log, folder: Path) -> Published:
    """Make the report of a log and enter it in the ledger; the same report again is no new entry.

    Raises:
        UsageError: ``folder`` is a place of the log's own data.
    """
    with log.writing():
        path = log.layout.recorded(folder)
        if not f"{path}/".startswith(("../", "reports/")):
            raise UsageError(
                "a report can't be written among the log's own files",
                seen=path,
                needed="a folder outside the log, or one in its reports/",
                fix="rlhf-audit report LOG --to LOG/reports/NAME",
            )
        durable.check_writable(folder)
        connection = views.connect(log, log.clock.now())
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
        built = document.build(facts, audits, points)
        # The page is made from the file's bytes, so that the one can always be made again from the other.
        contents = {JSON: document.report_bytes(built), HTML: html.render_report(built).encode()}
        log.place(folder, contents, ArtefactKind.REPORT.value, {"rater_ids": raters})
    return Published(folder / HTML, folder / JSON, sum(len(audit.findings) for audit in audits))
