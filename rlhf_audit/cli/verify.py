"""``verify``: check everything in a log."""

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console, _tables
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import CheckFailedError, RlhfAuditError, UsageError
from rlhf_audit.log.ledger import Head
from rlhf_audit.log.store import Log

EXAMPLE = "rlhf-audit verify study"


def run(
    log_path: LogPath,
    since: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Earlier checkpoints: a file, or where anchor wrote."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="VKEY", help="Who must have cosigned the checkpoint, or one of --since."),
    ] = None,
    trust_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="A public key known to be the log's after its key was lost."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check everything in a log.

    Every file, entry and signature, and the log's policies, reports and receipts.
    Exits with 1 when something is not as it was written, and names the file. With --since it is proved that
    the ledger begins with each of those checkpoints: a log that was rolled back, or rewritten and signed
    again, does not.
    """
    from rlhf_audit import verification
    from rlhf_audit.log import notes

    try:
        witnesses = [notes.verifier_key(text) for text in witness or ()]
        trusted = [bytes.fromhex(text) for text in trust_key or ()]
    except ValueError as error:
        raise UsageError(
            "a value of --witness or --trust-key can't be read",
            seen="another form",
            needed="--witness NAME+HASH+KEY, as the witness publishes it; --trust-key 64 hex digits",
            fix="rlhf-audit verify --help",
        ) from error
    # What is damaged is what this verb is to report; an erased rater who is back is to be seen, not mended.
    with contextlib.suppress(RlhfAuditError):
        open_log(log_path, repeat_erasures=False)
    found = verification.verify(log_path, verification.Beliefs(since, witnesses, trusted))
    result = {
        "ok": found.ok,
        "entries": found.entries,
        "files": found.files,
        "problems": [asdict(one) for one in found.problems],
        "since": [asdict(one) for one in found.since],
    }
    if found.ok:
        text = f"ok: {found.entries} entries and {found.files} files are as they were written"
        if found.since:
            earlier = _console.many(len(found.since), "earlier checkpoint")
            text += f"\nthe ledger begins with {earlier}, the latest of {found.since[-1].size} entries"
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
