"""``evaluate``: how well a policy does."""

from pathlib import Path
from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, Seed

EXAMPLE = "rlhf-audit evaluate policies/first --episodes 100"


def run(
    policy: Annotated[
        Path, typer.Argument(metavar="policies/NAME", show_default=False, help="The policy's folder.")
    ],
    episodes: Annotated[int, typer.Option(min=1, help="How many fresh episodes to play.")] = 100,
    sampled: Annotated[
        bool, typer.Option("--sampled", help="Draw actions by their probability, not the likeliest.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a policy's mean return.

    Plays fresh episodes; the interval is a bootstrap at 95 per cent.
    """
    from rlhf_audit.policy import store
    from rlhf_audit.replay import evaluation

    stored = store.load(policy)
    env_id = stored.manifest["env"]["env_id"]
    with _console.Progress() as progress:
        found = evaluation.evaluate(
            stored.weights,
            stored.spec,
            env_id,
            episodes,
            seed,
            sampled,
            lambda done, total: progress.count("episode", done, total),
        )
    result = {
        "policy": str(policy),
        "env_id": env_id,
        "weights_sha256": stored.weights_sha256,
        "mean_return": found.mean_return,
        "lower": found.lower,
        "upper": found.upper,
        "episodes": found.episodes,
        "sampled": sampled,
        "seed": seed,
    }
    how = "sampled" if sampled else "greedy"
    text = (
        f"{policy} on {env_id}: mean return {found.mean_return:.1f}"
        f" (95 per cent: {found.lower:.1f} to {found.upper:.1f}) over {found.episodes} episodes, {how}"
    )
    _console.emit("evaluate", None, result, text, as_json)
