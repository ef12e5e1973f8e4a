"""How far a policy moves when a rater is left out: trained again without them, compared on the logged states.

Both sides are trained now, from all that may be used now, so that nothing but the rater is different. Nothing
is written, and nothing is left when it is interrupted: weights are in memory alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
from scipy import stats

from rlhf_audit.errors import ConsentError
from rlhf_audit.log import artefacts, views
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.layout import checked_rater_id
from rlhf_audit.log.store import Log
from rlhf_audit.policy import heads, network, store
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.policy.store import StoredPolicy
from rlhf_audit.replay import dataset, trainer
from rlhf_audit.types import AuditResult, AuditRow, FloatArray, IntArray, RatedSteps, Severity, Weights

AUDIT_ID = "policy_influence"
QUESTION = "How far does each policy move when a rater is left out?"
THRESHOLD = 0.1
"""Share of logged states with another action from which a move is a finding (ours)."""

Progress = Callable[[str, int, int], None]


def measure(
    log: Log, rater_ids: Sequence[str], as_of: datetime | None = None, progress: Progress | None = None
) -> AuditResult:
    """Train each policy that was taught by one of these raters with all and without each of them.

    Args:
        log: Where policies and answers are.
        rater_ids: Whom to leave out, one at a time.
        as_of: When consent is judged; now by default.
        progress: Told what is trained, the fits that are done and the most there may be.

    Returns:
        A row a rater and policy, ``rater:policy``; ``value`` is the share of the distinct logged states that
        were judged on which the likeliest action is another one, its interval Wilson's.

    Raises:
        ConsentError: A rater has no grant for audits that stands.
        UsageError: Steps that can't be learnt from.

    Determinism:
        As ``trainer.train``; names of raters decide nothing but the rows' order.
    """
    rows: list[AuditRow] = []
    connection = views.connect(log, as_of or log.clock.now())
    try:
        for rater_id in rater_ids:
            _check(connection, rater_id)
        for found in artefacts.current(log, ArtefactKind.POLICY):
            held = [rater_id for rater_id in sorted(set(rater_ids)) if found.holds(rater_id)]
            if held:
                rows += _policy_rows(log, connection, found, held, progress or _silent)
    finally:
        connection.close()
    ordered = tuple(sorted(rows, key=lambda row: row.subject))
    return AuditResult(AUDIT_ID, QUESTION, Severity.INFO, ordered, "", {"threshold": THRESHOLD})


def without(data: RatedSteps, rater: int) -> RatedSteps:
    """Return the rows of all others, numbered as if that rater had never been."""
    kept = data.raters != rater
    raters, order = _renumbered(data.raters[kept])
    return replace(
        data,
        observations=data.observations[kept],
        actions=data.actions[kept],
        values=data.values[kept],
        raters=raters,
        rater_ids=tuple(data.rater_ids[number] for number in order),
        episodes=_renumbered(data.episodes[kept])[0],
        action_probabilities=data.action_probabilities[kept],
    )


def moved(spec: NetworkSpec, one: Weights, other: Weights, states: FloatArray) -> npt.NDArray[np.bool_]:
    """Return for each state whether the likeliest action of the two policies differs.

    Of an action that is a number: by more than the first policy's own standard deviation.
    """
    said, said_otherwise = (network.outputs(spec, weights, states) for weights in (one, other))
    apart = np.zeros(len(states), bool)
    spread = iter(heads.standard_deviations(spec, one))
    for choices, place in heads.places(spec.heads):
        a, b = said[:, place], said_otherwise[:, place]
        if choices:
            apart |= a.argmax(axis=1) != b.argmax(axis=1)
        else:
            apart |= (np.abs(a - b) > next(spread)).any(axis=1)
    return apart


def _policy_rows(
    log: Log, connection: duckdb.DuckDBPyConnection, found: Artefact, rater_ids: list[str], progress: Progress
) -> list[AuditRow]:
    name = found.facts["name"]
    policy = store.load(found.folder)
    if policy.manifest["mode"] != "offline":
        return [_untold(f"{r}:{name}", 0, "taught live: not trained again") for r in rater_ids]
    interface = Interface.of(policy.manifest["env"], policy.manifest["network"]["hidden"])
    data = dataset.load(log, connection, policy.manifest["env"]["env_id"], interface).rated
    states = np.unique(data.observations, axis=0)
    rows, whole = [], None
    for rater_id in rater_ids:
        others = without(data, data.rater_ids.index(rater_id)) if rater_id in data.rater_ids else None
        subject = f"{rater_id}:{name}"
        if others is None:
            rows.append(_untold(subject, len(states), "nothing of theirs may be used for training any more"))
        elif not len(others):
            rows.append(_untold(subject, len(states), "nobody else taught it"))
        else:
            whole = whole or _trained(policy, data, f"{name} with all", progress)
            left = _trained(policy, others, f"{name} without {rater_id}", progress)
            apart = moved(policy.spec, whole.weights, left.weights, states)
            rows.append(_row(subject, apart, whole.weights_sha256 == policy.weights_sha256))
    return rows


def _trained(policy: StoredPolicy, data: RatedSteps, what: str, progress: Progress) -> trainer.TrainedPolicy:
    manifest = policy.manifest

    def told(done: int, most: int) -> None:
        progress(what, done, most)

    return trainer.train(data, policy.spec, manifest["algorithm"], manifest["seed"], told)


def _row(subject: str, apart: npt.NDArray[np.bool_], is_stored: bool) -> AuditRow:
    n, k = len(apart), int(apart.sum())
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    large = k / n >= THRESHOLD
    note = "acts otherwise without them" if large else "ok"
    if not is_stored:
        note += "; trained now from other rows than the policy that is there"
    lower, upper = float(interval.low), float(interval.high)
    return AuditRow(subject, n, k / n, lower, upper, None, None, large, note)


def _untold(subject: str, n: int, why: str) -> AuditRow:
    return AuditRow(subject, n, None, None, None, None, None, False, f"insufficient: {why}")


def _check(connection: duckdb.DuckDBPyConnection, rater_id: str) -> None:
    checked_rater_id(rater_id)
    standing = connection.execute(
        "SELECT count(*) FROM grants"
        " WHERE rater_id = ? AND state = 'given' AND list_contains(purposes, 'audit')",
        [rater_id],
    ).fetchall()
    if not standing[0][0]:
        raise ConsentError(
            f"{rater_id} may not be audited",
            seen="no grant for audits that stands",
            needed="a rater who agreed to audits",
            fix="rlhf-audit show LOG consent",
        )


def _renumbered(numbers: IntArray) -> tuple[IntArray, list[int]]:
    """Return numbers by first appearance, and the old ones in that order."""
    old, first, codes = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    new: Any = np.argsort(order)[codes].astype(np.int64)
    return new, [int(old[number]) for number in order]


def _silent(_what: str, _done: int, _most: int) -> None:
    pass
