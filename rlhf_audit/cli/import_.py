"""``import``: take in episodes, or ratings, that were recorded elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import StorageError, UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose

EXAMPLE = "rlhf-audit import study data.csv --format csv --env CartPole-v1 --consent-reference 'form B'"

Form = Literal["minari", "csv", "ratings"]


def run(
    log_path: LogPath,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="A CSV file, or a Minari dataset's folder."),
    ],
    form: Annotated[Form, typer.Option("--format", help="What it is.")],
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
            show_default="training, audit; ratings: audit",
            help="To what they agreed, if they were not asked here.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in episodes of an agent, or ratings.

    They become one session under a grant; refused without consent (3). Feedback in FILE is not
    read, and what a person did themselves must not be imported: steps stay when a rater is erased.

    ratings: a table with item, rater, label and optionally gold, latency_s, order, group.NAME. Every
    rater in it becomes a pseudonym with a session and a withdrawal code of their own.
    """
    if form == "ratings":
        _ratings(open_log(log_path), file, consent_reference, rater or env, purpose, as_json)
        return
    from rlhf_audit.exchange.importing import ImportFormat, Request, take_in

    log = open_log(log_path)
    chosen = tuple(purpose) if purpose else (Purpose.TRAINING, Purpose.AUDIT)
    made = take_in(log, Request(file, ImportFormat(form), consent_reference, rater, env, chosen))
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


def _ratings(
    log: Log, file: Path, reference: str, other: str | None, purpose: list[Purpose] | None, as_json: bool
) -> None:
    from rlhf_audit.exchange import ratings

    if other is not None:
        raise UsageError(
            "a table of ratings names its raters itself, and no environment",
            seen="--rater or --env",
            needed="neither",
            fix="rlhf-audit import LOG FILE --format ratings --consent-reference TEXT",
        )
    if _console.results() is None:
        raise StorageError(
            "nothing was done: withdrawal codes, which are shown only once, could not be shown",
            seen="a closed standard output",
            needed="a standard output that can be written",
            fix="run this at a terminal, or with its output in a file",
        )
    with _console.Progress() as progress:
        made = ratings.take_in(
            log,
            file,
            reference,
            tuple(purpose or (Purpose.AUDIT,)),
            lambda done, total: progress.count("raters taken in:", done, total),
        )
    result = {
        "rows": made.rows,
        "raters": [*made.codes],
        "withdrawal_codes": made.codes,
        "sessions": [*made.sessions],
        "items": made.items,
        "labels": [*made.words],
        "gold": made.n_gold,
    }
    given, items = _console.many(made.rows, "rating"), _console.many(made.items, "item")
    lines = [f"{given} of {items} by {_console.many(len(made.codes), 'rater')}, {made.n_gold} with gold"]
    if made.words:
        lines.append("labels  " + ", ".join(f"{code} = {word}" for code, word in enumerate(made.words)))
    lines.append("rater       withdrawal code: shown only now; give each rater theirs")
    lines += [f"{rater_id}  {code}" for rater_id, code in made.codes.items()]
    lines.append("Who is who: rlhf-audit show LOG raters")
    _console.emit("import", log.ledger.head, result, "\n".join(lines), as_json, only_now=True)
