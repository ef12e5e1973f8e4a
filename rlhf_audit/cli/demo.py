"""``demo``: the whole tour."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson
from rlhf_audit.errors import CheckFailedError

EXAMPLE = "rlhf-audit demo demo"


def run(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier tour.")
    ] = Path("demo"),
    as_json: AsJson = False,
) -> int:
    """Take the whole tour with scripted raters on CartPole-v1.

    It records, replays, retrains, audits, reports, withdraws, erases and verifies, in about a minute.
    """
    from rlhf_audit import demo

    # The tour is what was asked for: it is the result, except beside a document.
    result = demo.run(directory, _console.say if as_json else _console.out)
    _console.emit("demo", None, result, "", as_json)
    went_well = (
        result["verified"]
        and result["replayed_identical"]
        and (result["weights_sha256"] == result["control_weights_sha256"])
    )
    return 0 if went_well else CheckFailedError.exit_code
