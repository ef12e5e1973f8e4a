"""What a policy was trained on: lineage for machines, and a card for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.errors import UsageError
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.network import NetworkSpec, weight_names

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


_TYPES: Mapping[str, type] = {
    "schema": str,
    "name": str,
    "log_id": str,
    "log_head": dict,
    "env": dict,
    "network": dict,
    "weights": list,
    "weights_sha256": str,
    "algorithm": str,
    "parameters": dict,
    "seed": int,
    "mode": str,
    "recipe": dict,
    "rows": int,
    "raters": list,
    "sessions": list,
    "files": list,
}


def read(raw: bytes) -> tuple[dict[str, Any], NetworkSpec]:
    """Return a manifest, and the network that it describes.

    Raises:
        ValueError: It is none of ours, or its parts don't go together.
    """
    try:
        value = canonical.parse_object(raw)
    except ValueError as error:
        raise ValueError("a manifest that is not JSON as we write it") from error
    for name, kind in _TYPES.items():
        if not isinstance(value.get(name), kind) or isinstance(value[name], bool):
            raise ValueError(f"a manifest whose {name} is missing or of another type")
    if value["schema"] != SCHEMA:
        raise ValueError("a manifest of another format")
    try:
        env = value["env"]
        # Made of the spaces, not believed: a stranger's network could be of any shape.
        spec = Interface.of(env, [int(units) for units in value["network"]["hidden"]]).spec
        fits = spec.to_json() == value["network"]
        named = isinstance(env["env_id"], str) and value["weights"] == list(weight_names(spec))
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        UsageError,
    ) as error:
        raise ValueError("a manifest whose env or network can't be read") from error
    if not (fits and named):
        raise ValueError("a manifest whose env, network and weights don't go together")
    return value, spec


def card(manifest: Manifest) -> str:
    """Return the policy card, Markdown."""
    kind = "softmax policy" if isinstance(manifest.network["n_actions"], int) else "policy"
    raters = "\n".join(_row(share) for share in manifest.raters) or "| none | 0 | | | |"
    parameters = "\n".join(f"- {name}: {value}" for name, value in sorted(manifest.parameters.items()))
    recipe = "\n".join(f"- {name}: {value}" for name, value in sorted(manifest.recipe.items()))
    return f"""\
# Policy {manifest.name}

A Keras {kind} for {manifest.env["env_id"]}, taught by people's (or scripted raters') answers to
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
