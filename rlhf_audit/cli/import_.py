"""``import``: take in episodes that were recorded elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.exchange.importing import ImportFormat
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit import study data.csv --format csv --env CartPole-v1 --consent-reference 'form B'"


def run(
    log_path: LogPath,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="A CSV file, or a Minari dataset's folder."),
    ],
    form: Annotated[ImportFormat, typer.Option("--format", help="What it is.")],
    consent_reference: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Where it is written down that the rater agreed. Name no person: it stays for ever.",
        ),
    ] = "",
    rater: Annotated[
        str | None,
        typer.Option(metavar="R", show_default="somebody enrolled for it", help="Under whose grant."),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(metavar="ID", show_default="as FILE says", help="The environment; CSV does not say it."),
    ] = None,
    purpose: Annotated[
        list[Purpose] | None,
        typer.Option(
            show_default="training, audit", help="To what they agreed, if they were not asked here."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in episodes of an agent.

    They become one session under a grant; refused without consent (3). Feedback in FILE is not
    read, and what a person did themselves must not be imported: steps stay when a rater is erased.
    """
    from rlhf_audit.exchange.importing import Request, take_in

    log = open_log(log_path)
    chosen = tuple(purpose) if purpose else (Purpose.TRAINING, Purpose.AUDIT)
    made = take_in(log, Request(file, form, consent_reference, rater, env, chosen))
    result = {
        "session_id": made.session_id,
        "rows": made.steps,
        "raters": [made.rater_id],
        "rater_id": made.rater_id,
        "grant_id": made.grant_id,
        "withdrawal_code": made.withdrawal_code,
        "env_id": made.env_id,
        "episodes": made.episodes,
        "steps": made.steps,
        "unseeded": made.unseeded,
    }
    steps, episodes = _console.many(made.steps, "step"), _console.many(made.episodes, "episode")
    lines = [
        f"{made.session_id}: {steps} in {episodes} of {made.env_id}, under {made.grant_id} of {made.rater_id}"
    ]
    if made.withdrawal_code is not None:
        lines.append(
            f"withdrawal code  {made.withdrawal_code}\nThe code is shown only now; give it to the rater."
        )
    if made.unseeded:
        lines.append(
            f"{_console.many(made.unseeded, 'episode')} came without a seed: replay can't compare that"
        )
    shown_once = made.withdrawal_code is not None
    _console.emit("import", log.ledger.head, result, "\n".join(lines), as_json, only_now=shown_once)
