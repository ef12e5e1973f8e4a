"""``verify``: check everything in a log."""

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath
from rlhf_audit.errors import CheckFailedError, RlhfAuditError
from rlhf_audit.log.ledger import Head
from rlhf_audit.log.store import Log

EXAMPLE = "rlhf-audit verify study"


def run(log_path: LogPath, as_json: AsJson = False) -> int:
    """Check every file, entry, signature, policy and receipt of a log; exits with 1 when one is not right."""
    from rlhf_audit import verification

    found = verification.verify(log_path)
    result = {
        "ok": found.ok,
        "entries": found.entries,
        "files": found.files,
        "problems": list(found.problems),
    }
    head = _head(log_path)
    if found.ok:
        text = f"ok: {found.entries} entries and {found.files} files are as they were written"
    else:
        text = "\n".join([f"{len(found.problems)} problems", *(f"  {one}" for one in found.problems)])
    text = "\n".join(_console.printable(line) for line in text.split("\n"))
    _console.emit("verify", head, result, text, as_json)
    return 0 if found.ok else CheckFailedError.exit_code


def _head(log_path: LogPath) -> Head | None:
    try:
        return Log(log_path).ledger.head
    except RlhfAuditError:
        return None
