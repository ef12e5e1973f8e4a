"""``retrain``: train a policy offline from a log."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, Seed, open_log, policy_folder

EXAMPLE = "rlhf-audit retrain study --to policies/first"


def run(
    log_path: LogPath,
    to: Annotated[Path, typer.Option(metavar="policies/NAME", help="Where the policy goes.")],
    algorithm: Annotated[
        str, typer.Option(metavar="A", help="likelihood (weighs each rater), trusting, or article.")
    ] = "likelihood",
    seed: Seed = 0,
    expect: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Write nothing, and exit with 1, unless this comes out."),
    ] = None,
    env: Annotated[
        str | None, typer.Option(metavar="ID", help="Needed when the log holds several environments.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a policy offline from the log.

    Every rating that may be used is used. Prints the digest of the weights: the same log,
    algorithm and seed give the same one.
    """
    from rlhf_audit.replay.retrain import retrain

    log = open_log(log_path)
    folder = policy_folder(to, log)
    with _console.Progress() as progress:
        made = retrain(log, folder, algorithm, seed, env, expect, progress=partial(progress.count, "fit"))
    result = {
        "policy": str(to),
        "name": made.name,
        "weights_sha256": made.weights_sha256,
        "rows": made.rows,
        "raters": made.raters,
        "algorithm": made.algorithm,
        "mode": made.mode,
        "seed": seed,
        "excluded": made.excluded,
    }
    text = f"{to}: learnt from {made.rows} ratings of {len(made.raters)} raters by {made.algorithm}"
    if made.excluded:
        text += f"\n{made.excluded} ratings were left out: no consent to training stands for them"
    _console.emit(
        "retrain", log.ledger.head, result, f"{text}\nweights SHA-256 {made.weights_sha256}", as_json
    )
