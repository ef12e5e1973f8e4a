"""``rotate-key``: a new signing key."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log

EXAMPLE = "rlhf-audit rotate-key study"


def run(
    log_path: LogPath,
    key_file: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="An Ed25519 private key in PEM, instead of a new one."),
    ] = None,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="Nobody has the old key: verify then asks whom to trust."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give the log a new signing key.

    The old key signs for it in the ledger. The new one is kept beside the old one, which other logs may use.
    """
    from rlhf_audit.log import checkpoint, rotation

    log = open_log(log_path, repeat_erasures=False)
    before = log.public_key
    new = None if key_file is None else checkpoint.read_key(key_file)
    entry = rotation.rotate(log, new, lost)
    kept = None if new else checkpoint.rotated_key_path(log.public_key).name
    result = {
        "public_key": log.public_key.hex(),
        "replaces": before.hex(),
        "lost": lost,
        "entry": entry.seq,
        "key_file": kept,
    }
    lines = [f"{log.public_key.hex()} signs this log from entry {entry.seq} on"]
    if kept:
        lines.append(f"its private half is {kept}, beside where the old key is looked for: keep a copy")
    if lost:
        lines += [
            "nobody vouches for it: tell those who verify the log, by another way than the log, to use",
            f"  rlhf-audit verify {log_path} --trust-key {log.public_key.hex()}",
        ]
    _console.emit("rotate-key", log.ledger.head, result, "\n".join(lines), as_json)
