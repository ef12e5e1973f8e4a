"""``verify``: check everything in a log."""

import contextlib
from dataclasses import asdict
from pathlib import Path

from rlhf_audit.cli import _console, _tables
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import CheckFailedError, RlhfAuditError
from rlhf_audit.log.ledger import Head
from rlhf_audit.log.store import Log

EXAMPLE = "rlhf-audit verify study"


def run(log_path: LogPath, as_json: AsJson = False) -> int:
    """Check everything in a log.

    Every file, entry and signature, and the log's policies, reports and receipts.
    Exits with 1 when something is not as it was written, and names the file.
    """
    from rlhf_audit import verification

    # What is damaged is what this verb is to report; an erased rater who is back is to be seen, not mended.
    with contextlib.suppress(RlhfAuditError):
        open_log(log_path, repeat_erasures=False)
    found = verification.verify(log_path)
    result = {
        "ok": found.ok,
        "entries": found.entries,
        "files": found.files,
        "problems": [asdict(one) for one in found.problems],
    }
    if found.ok:
        text = f"ok: {found.entries} entries and {found.files} files are as they were written"
    else:
        told = [_console.printable(f"{one.file}: {one.problem}") for one in found.problems]
        lines = [_tables.prose(line, "  ", "      ") for line in told]
        text = "\n".join([f"problems: {len(found.problems)}", *lines])
    _console.emit("verify", _head(log_path), result, text, as_json)
    return 0 if found.ok else CheckFailedError.exit_code


def _head(log_path: Path) -> Head | None:
    try:
        return Log(log_path).ledger.head
    except RlhfAuditError:
        return None
