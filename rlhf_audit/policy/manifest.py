"""What a policy was trained on: lineage for machines, and a card for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "rlhf_audit.policy/1"


@dataclass(frozen=True)
class RaterShare:
    """What one rater gave to a policy.

    Attributes:
        rows: Training rows.
        yes_when_right: Estimated probability of "yes" to a right action; None where none was estimated.
        yes_when_wrong: The same to a wrong action.
        verdict: good, uninformative or inverted, or that none can be claimed.
    """

    rater_id: str
    rows: int
    yes_when_right: float | None = None
    yes_when_wrong: float | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Lineage of one policy.

    Attributes:
        log_head: Size and root of the ledger when the training rows were read.
        env: The environment's record.
        network: Shape of the network.
        weights: Names of the weights, in order.
        algorithm: How it was trained.
        parameters: Every parameter of the algorithm.
        mode: ``offline`` or ``live``.
        recipe: What makes the training repeatable: flags, threads and versions.
        rows: Training rows.
        raters: Who gave them, by first appearance.
        sessions: Whose rows were used, in the ledger's order.
        files: Path and digest of every file that was read.
    """

    name: str
    log_id: str
    log_head: Mapping[str, Any]
    env: Mapping[str, Any]
    network: Mapping[str, Any]
    weights: Sequence[str]
    weights_sha256: str
    algorithm: str
    parameters: Mapping[str, Any]
    seed: int
    mode: str
    recipe: Mapping[str, str]
    rows: int
    raters: Sequence[RaterShare]
    sessions: Sequence[str]
    files: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA} | asdict(self)


def card(manifest: Manifest) -> str:
    """Return the policy card, Markdown."""
    raters = "\n".join(_row(share) for share in manifest.raters) or "| none | 0 | | | |"
    parameters = "\n".join(f"- {name}: {value}" for name, value in sorted(manifest.parameters.items()))
    recipe = "\n".join(f"- {name}: {value}" for name, value in sorted(manifest.recipe.items()))
    return f"""\
# Policy {manifest.name}

A Keras softmax policy for {manifest.env["env_id"]}, taught by people's (or scripted raters') answers to
"was the action correct?".

- weights: SHA-256 {manifest.weights_sha256}
- learnt: {manifest.mode}, algorithm `{manifest.algorithm}`, seed {manifest.seed}
- rows: {manifest.rows}, from {len(manifest.raters)} raters in {len(manifest.sessions)} sessions
- log: {manifest.log_id}, {manifest.log_head["size"]} entries, root {manifest.log_head["root"]}

## Who taught it

| rater | rows | yes when right | yes when wrong | verdict |
|---|---|---|---|---|
{raters}

The two probabilities are estimates. A rater who withdraws is taken out by training again without them.

## Parameters

{parameters}

## Made with

{recipe}

`manifest.json` beside this card names every file that was read, with its digest.
"""


def _row(share: RaterShare) -> str:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    return (
        f"| {share.rater_id} | {share.rows} | {number(share.yes_when_right)} |"
        f" {number(share.yes_when_wrong)} | {share.verdict or ''} |"
    )
