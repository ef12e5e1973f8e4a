"""Play recorded sessions again and compare every value, to the bit.

The very loop that recorded a session runs again (``rlhf_audit.session``) with the recorded answers as its
rater and with a sink that compares instead of writing.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit import envs
from rlhf_audit.clock import TickingClock
from rlhf_audit.errors import DamagedError, DigestMismatchError, UsageError
from rlhf_audit.log import keys, reader
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.live import LiveLearner
from rlhf_audit.policy.network import NetworkSpec, initial_weights, weights_sha256
from rlhf_audit.replay.comparing import Comparer, Difference, DifferenceFound, RecordedRater, same, undos
from rlhf_audit.seeds import child_seed
from rlhf_audit.session import Fixed, Learner, Limits, Moment, acting, interview
from rlhf_audit.types import Feedback, Kind, Weights

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWERS_TRIED = 64
"""How far before a difference its cause is looked for."""


@dataclass(frozen=True)
class RolloutDiff:
    """One session played again.

    Attributes:
        steps: Steps compared.
        difference: None when all is identical.
        scope: ``everything``, or ``environment`` where the policy can't be had again.
        note: Why.
    """

    session_id: str
    steps: int
    difference: Difference | None
    scope: str
    note: str = ""


@dataclass(frozen=True)
class _Policy:
    """The policy as it was before the first step, and how it learns."""

    spec: NetworkSpec
    weights: Weights
    algorithm: str | None
    seed: int

    def fresh(self) -> Learner:
        if self.algorithm is None:
            return Fixed(self.weights, weights_sha256(self.weights))
        return LiveLearner(self.spec, self.weights, self.algorithm, child_seed(self.seed, "learn"))


def replay(log: Log, session_id: str) -> RolloutDiff:
    """Play one session again; return the first step that differs.

    Args:
        log: Where it is.
        session_id: Which.

    Raises:
        EnvMismatchError: The environment here is not the build that was recorded.

    Determinism:
        Exact comparison; no clock, no randomness beyond the recorded seed.
    """
    recorded = reader.session(log, session_id)
    if not recorded.episodes:
        return RolloutDiff(session_id, 0, None, "environment", "rates the steps of another session")
    record = envs.EnvRecord.from_json(json.dumps(recorded.facts["env"]))
    with contextlib.closing(envs.open_env(record.env_id)) as env:
        envs.check_same(record, env, versions=False)
        policy, note = _policy(log, recorded)
        if policy is None:
            steps, difference = _environment_only(recorded, env, record.n_actions)
            return RolloutDiff(session_id, steps, difference, "environment", note)
    comparer, rater = _play(recorded, policy, recorded.feedback)
    difference = _first_difference(log, recorded, policy, comparer, rater)
    return RolloutDiff(session_id, comparer.steps, difference, "everything", note)


def _policy(log: Log, recorded: reader.RecordedSession) -> tuple[_Policy | None, str]:
    """Return the policy, or None and why it can't be had."""
    described, seed, learn = (recorded.facts[name] for name in ("policy", "seed", "learn"))
    alone = "the environment alone is compared"
    if learn and recorded.feedback is None:
        return None, f"its feedback was erased: {alone}"
    spec = NetworkSpec.from_json(described["network"])
    weights: Weights = ()
    if described["path"] is None:
        weights = initial_weights(spec, child_seed(seed, "policy"))
    else:
        with contextlib.suppress(UsageError, DamagedError, DigestMismatchError):
            weights = store.load(Path(log.layout.root / described["path"])).weights
    if weights_sha256(weights) != described["weights_sha256"]:
        return None, f"the policy {described['name']} is gone or was replaced: {alone}"
    policy = _Policy(spec, weights, learn["algorithm"] if learn else None, seed)
    note = "its feedback was erased" if recorded.feedback is None else ""
    return policy, note


def _play(
    recorded: reader.RecordedSession,
    policy: _Policy,
    rows: Sequence[Feedback] | None,
    n_steps: int | None = None,
) -> tuple[Comparer, RecordedRater]:
    """Run the session's own loop with these answers, up to the first difference that ends it."""
    facts = recorded.facts
    learner = policy.fresh()
    comparer = Comparer(recorded, learner, n_steps)
    rater = RecordedRater(rows or ())
    limits = Limits(facts["ask_every"])
    meanings = envs.action_meanings(facts["env"]["env_id"], policy.spec.n_actions)
    clock = TickingClock(_NO_TIME)
    with contextlib.closing(envs.open_env(facts["env"]["env_id"])) as env:
        moments = acting(env, learner, facts["seed"], None, recorded.session_id, comparer)
        moments = _as_many_as_recorded(moments, comparer)
        with contextlib.suppress(DifferenceFound):
            if rows is not None:
                interview(moments, rater, comparer, learner, limits, clock, meanings, "", lambda: None)
            for _ in moments:
                pass
    return comparer, rater


def _as_many_as_recorded(moments: Iterator[Moment], comparer: Comparer) -> Iterator[Moment]:
    for _ in range(comparer.total):
        yield next(moments)


def _first_difference(
    log: Log,
    recorded: reader.RecordedSession,
    policy: _Policy,
    comparer: Comparer,
    rater: RecordedRater,
) -> Difference | None:
    """Return the first difference, traced to the answer that caused it where weights went another way."""
    name = recorded.session_id
    if rater.astray:
        return Difference(name, *rater.astray, "feedback.step")
    suspects = comparer.suspects
    if policy.algorithm is None or recorded.feedback is None:
        return suspects[0] if suspects else comparer.first
    if suspects:
        # Had the policy learnt otherwise for good, later steps or the last weights would differ too.
        alone = len(suspects) == 1 and comparer.first is None and _weights_agree(log, recorded, comparer)
        return _cause(log, recorded, policy, comparer, 0 if alone else _ANSWERS_TRIED) or suspects[0]
    if comparer.first is not None or _weights_agree(log, recorded, comparer):
        return comparer.first
    last = recorded.feedback[-1]
    cause = _cause(log, recorded, policy, comparer, _ANSWERS_TRIED)
    return cause or Difference(name, last.episode_id, last.step, "weights_sha256")


def _weights_agree(log: Log, recorded: reader.RecordedSession, comparer: Comparer) -> bool:
    """Say whether the last weights are those recorded; a session that was cut short may hold none."""
    learnt = recorded.facts["weights_mac"]
    if learnt is None:
        return True
    key = keys.read(log.layout, recorded.facts["rater_id"])
    return bool(key.mac("weights", comparer.last_weights.encode()) == learnt)


def _cause(
    log: Log, recorded: reader.RecordedSession, policy: _Policy, comparer: Comparer, n_before: int
) -> Difference | None:
    """Return the answer that, given otherwise, makes the first value that differs come out as recorded.

    Tried are the answers since the last step that agreed, newest first; then ``n_before`` of those before,
    since a policy that is all but certain may show a difference late.
    """
    rows = recorded.feedback or ()
    late = range(comparer.agreed, comparer.rows)
    before = range(max(0, comparer.agreed - n_before), comparer.agreed)
    taken_back = undos(rows)
    for number in (*reversed(late), *reversed(before)):
        row = rows[number]
        if number in taken_back:
            continue
        for value in (1.0, 0.0, None):
            if value == row.value and (value is None) == (row.kind is Kind.SKIP):
                continue
            kind = Kind.SKIP if value is None else Kind.RATING
            changed = [*rows[:number], replace(row, kind=kind, value=value), *rows[number + 1 :]]
            if _explains(log, recorded, policy, comparer, changed):
                return Difference(recorded.session_id, row.episode_id, row.step, "feedback.value")
    return None


def _explains(
    log: Log,
    recorded: reader.RecordedSession,
    policy: _Policy,
    comparer: Comparer,
    rows: Sequence[Feedback],
) -> bool:
    """Say whether with these answers the first value that differed comes out as recorded."""
    if not comparer.suspects:
        again, _ = _play(recorded, policy, rows)
        return not again.suspects and again.first is None and _weights_agree(log, recorded, again)
    until = _position(recorded, comparer.suspects[0]) + 1
    again, _ = _play(recorded, policy, rows, until)
    return again.steps == until and not again.suspects


def _position(recorded: reader.RecordedSession, where: Difference) -> int:
    """Return how many steps of the session came before."""
    steps = (step for episode in recorded.episodes for step in episode.steps)
    return next(
        number
        for number, step in enumerate(steps)
        if (step.episode_id, step.step) == (where.episode_id, where.step)
    )


def _environment_only(
    recorded: reader.RecordedSession, env: Any, n_actions: int
) -> tuple[int, Difference | None]:
    count = 0
    for episode in recorded.episodes:
        wanted = child_seed(recorded.facts["seed"], "reset", episode.episode) % 2**31
        if episode.reset_seed != wanted:
            return count, Difference(recorded.session_id, episode.episode_id, 0, "reset_seed")
        observation = np.array(env.reset(seed=episode.reset_seed)[0])
        for step in episode.steps:
            where = (recorded.session_id, step.episode_id, step.step)
            if not 0 <= step.action < n_actions:
                return count, Difference(*where, "action")
            after, env_reward, terminated, truncated, _ = env.step(step.action)
            for field, value in (
                ("observation", observation),
                ("env_reward", float(env_reward)),
                ("terminated", bool(terminated)),
                ("truncated", bool(truncated)),
            ):
                if not same(getattr(step, field), value):
                    return count, Difference(*where, field)
            observation = np.array(after)
            count += 1
        if not same(episode.final_observation, observation):
            last = episode.steps[-1]
            return count, Difference(recorded.session_id, last.episode_id, last.step, "final_observation")
    return count, None
