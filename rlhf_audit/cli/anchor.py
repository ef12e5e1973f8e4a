"""``anchor``: keep the log's checkpoint where its host has no say."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log

EXAMPLE = "rlhf-audit anchor study --to /mnt/other-host/anchors"


def run(
    log_path: LogPath,
    place: Annotated[
        Path,
        typer.Option("--to", metavar="PATH", help="A file, a folder, or a git repository, to commit in."),
    ],
    as_json: AsJson = False,
) -> None:
    """Write the ledger's signed checkpoint somewhere else.

    Then verify --since PATH proves that nothing before it was rewritten, even by who has the signing key.
    A file holds the newest checkpoint, a folder all of them. Nothing is written where one that is there
    contradicts the log. Needs no signing key.
    """
    from rlhf_audit.log import anchors

    log = open_log(log_path, repeat_erasures=False)
    target, checkpoint = anchors.write(log, place)
    result = {"path": str(target), "size": checkpoint.size, "root": checkpoint.root.hex()}
    text = (
        f"{target} holds the checkpoint of the first {checkpoint.size} ledger entries"
        f"\nCheck against it: rlhf-audit verify {log_path} --since {place}"
    )
    _console.emit("anchor", log.ledger.head, result, text, as_json)
