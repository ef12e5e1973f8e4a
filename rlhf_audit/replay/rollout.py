"""Play recorded sessions again and compare every value, to the bit.

The very loop that recorded a session runs again (``rlhf_audit.session``) with the recorded answers as its
rater and with a sink that compares instead of writing.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit import envs
from rlhf_audit.clock import SystemClock
from rlhf_audit.errors import DamagedError, UsageError
from rlhf_audit.log import keys, reader
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.live import LiveLearner
from rlhf_audit.policy.network import NetworkSpec, initial_weights, probabilities, weights_sha256
from rlhf_audit.seeds import child_seed
from rlhf_audit.session import Fixed, Learner, Limits, acting, interview
from rlhf_audit.types import Answer, AnswerKind, Feedback, Kind, Observation, Question, Transition


@dataclass(frozen=True)
class Difference:
    """The first value that came out otherwise.

    Attributes:
        field: Its name; ``weights_sha256`` when only the last weights differ.
    """

    session_id: str
    episode_id: str
    step: int
    field: str


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


class _Stop(Exception):
    """A difference was found."""


class _Comparer:
    """A sink that compares; stops at the first difference of the environment or the action."""

    def __init__(self, recorded: reader.RecordedSession, learner: Learner) -> None:
        self._learner = learner
        self._session_id = recorded.session_id
        self._expected: Iterator[tuple[Transition, Observation, str | None]] = (
            (step, after, episode.behaviour_policy_sha256)
            for episode in recorded.episodes
            for step, after in zip(
                episode.steps,
                [*(step.observation for step in episode.steps[1:]), episode.final_observation],
                strict=True,
            )
        )
        self._seeds = {episode.episode_id: episode.reset_seed for episode in recorded.episodes}
        self._behaviour = ""
        self._asked: tuple[str, int] | None = None
        self.steps = 0
        self.total = sum(len(episode.steps) for episode in recorded.episodes)
        self.first: Difference | None = None
        self._cause: tuple[str, int] | None = None
        self.suspect: Difference | None = None
        self.last_weights = ""

    def episode(self, **facts: Any) -> None:
        self._behaviour = facts["behaviour_policy_sha256"]
        wanted = self._seeds.get(facts["episode_id"])
        if wanted is not None and wanted != facts["reset_seed"]:
            self._stop(facts["episode_id"], 0, "reset_seed")

    def step(self, step: Transition, next_observation: Observation) -> None:
        expected, after, behaviour = next(self._expected)
        where = (expected.episode_id, expected.step)
        if where != (step.episode_id, step.step):
            self._stop(*where, "step")
        if step.step == 0 and behaviour is not None and behaviour != self._behaviour:
            self._suspect(where, "behaviour_policy_sha256")
        if not _same(expected.observation, step.observation):
            self._stop(*where, "observation")
        chances = probabilities(self._learner.weights, step.observation[None])[0]
        if not _same(expected.action_probability, float(chances[expected.action])):
            self._suspect(where, "action_probability")
        for field in ("action", "env_reward", "terminated", "truncated"):
            if getattr(expected, field) != getattr(step, field):
                self._stop(*where, field)
        self.steps += 1
        if step.terminated or step.truncated or self.steps == self.total:
            following = "final_observation"
            if not _same(after, next_observation):
                self._stop(*where, following)

    def feedback(self, row: Feedback) -> None:
        self._asked = (row.episode_id, row.step)

    def weights(self, sha256: str) -> None:
        self.last_weights = sha256

    def _suspect(self, where: tuple[str, int], field: str) -> None:
        # A wrong probability is either itself wrong, or follows from an answer before it: see `_blame`.
        if self.suspect is None:
            self.suspect = Difference(self._session_id, *where, field)
            self._cause = self._asked

    @property
    def cause(self) -> tuple[str, int] | None:
        """The last answer before the first suspect."""
        return self._cause if self.suspect else self._asked

    def _stop(self, episode_id: str, step: int, field: str) -> None:
        self.first = Difference(self._session_id, episode_id, step, field)
        raise _Stop


class _RecordedRater:
    """Gives the recorded answers again, in the order in which they were given."""

    simulated_time = True

    def __init__(self, rows: tuple[Feedback, ...]) -> None:
        self._rows = rows
        self._given = 0
        # An undo supersedes what stood; a skip after an undo supersedes the undo.
        self._undos: set[int] = set()
        for number, row in enumerate(rows):
            if row.kind is Kind.SKIP and row.supersedes is not None and row.supersedes not in self._undos:
                self._undos.add(number)
        self.astray: tuple[str, int] | None = None

    def ask(self, question: Question) -> Answer:
        if self._given == len(self._rows):
            return Answer(AnswerKind.QUIT)
        row = self._rows[self._given]
        self._given += 1
        if self._given - 1 in self._undos:
            return Answer(AnswerKind.UNDO)
        if (row.episode_id, row.step) != (question.episode_id, question.step):
            self.astray = (row.episode_id, row.step)
            raise _Stop
        return Answer(AnswerKind.ANSWER, row.value) if row.kind is not Kind.SKIP else Answer(AnswerKind.SKIP)

    def close(self) -> None:
        """Nothing is held."""


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
        learner, note = _learner(log, recorded)
        if learner is None:
            steps, difference = _environment_only(recorded, env)
            return RolloutDiff(session_id, steps, difference, "environment", note)
        steps, difference = _everything(log, recorded, env, learner)
        return RolloutDiff(session_id, steps, difference, "everything", note)


def _learner(log: Log, recorded: reader.RecordedSession) -> tuple[Learner | None, str]:
    """Return the policy as it was before the first step, or None and why it can't be had."""
    policy, seed = recorded.facts["policy"], recorded.facts["seed"]
    if recorded.facts["learn"] and recorded.feedback is None:
        return None, "its feedback was erased: the environment alone is compared"
    spec = NetworkSpec.from_json(policy["network"])
    if policy["path"] is None:
        weights = initial_weights(spec, child_seed(seed, "policy"))
    else:
        try:
            weights = store.load(Path(log.layout.root / policy["path"])).weights
        except (UsageError, DamagedError):
            weights = ()
    if weights_sha256(weights) != policy["weights_sha256"]:
        return None, f"the policy {policy['name']} is gone or was replaced: the environment alone is compared"
    if recorded.facts["learn"]:
        algorithm = recorded.facts["learn"]["algorithm"]
        return LiveLearner(spec, weights, algorithm, child_seed(seed, "learn")), ""
    note = "its feedback was erased" if recorded.feedback is None else ""
    return Fixed(weights, weights_sha256(weights)), note


def _everything(
    log: Log, recorded: reader.RecordedSession, env: Any, learner: Learner
) -> tuple[int, Difference | None]:
    comparer = _Comparer(recorded, learner)
    rater = _RecordedRater(recorded.feedback or ())
    moments = acting(env, learner, recorded.facts["seed"], None, recorded.session_id, comparer)
    until = _until(moments, comparer)
    limits = Limits(recorded.facts["ask_every"])
    facts = recorded.facts
    meanings = envs.action_meanings(facts["env"]["env_id"], facts["policy"]["network"]["n_actions"])
    with contextlib.suppress(_Stop):
        if recorded.feedback is None:
            for _ in until:
                pass
        else:
            interview(until, rater, comparer, learner, limits, SystemClock(), meanings, "", lambda: None)
            for _ in until:
                pass
    return comparer.steps, _blame(log, recorded, comparer, rater)


def _until(moments: Any, comparer: _Comparer) -> Any:
    """Yield as many moments as there are recorded steps."""
    for _ in range(comparer.total):
        yield next(moments)


def _blame(
    log: Log, recorded: reader.RecordedSession, comparer: _Comparer, rater: _RecordedRater
) -> Difference | None:
    """Return the first difference, traced to the answer that caused it where weights went another way."""
    name = recorded.session_id
    if rater.astray:
        return Difference(name, *rater.astray, "feedback.step")
    learnt = recorded.facts["weights_mac"]
    same_weights = True
    if learnt is not None and recorded.feedback is not None and comparer.first is None:
        key = keys.read(log.layout, recorded.facts["rater_id"])
        same_weights = key.mac("weights", comparer.last_weights.encode()) == learnt
    diverged = recorded.facts["learn"] and (comparer.first is not None or not same_weights)
    if diverged and comparer.cause and (comparer.suspect or comparer.first is None):
        return Difference(name, *comparer.cause, "feedback.value")
    return comparer.suspect or comparer.first


def _environment_only(recorded: reader.RecordedSession, env: Any) -> tuple[int, Difference | None]:
    count = 0
    for episode in recorded.episodes:
        observation = np.array(env.reset(seed=episode.reset_seed)[0])
        for step in episode.steps:
            found = (observation, *env.step(step.action)[:4])
            for field, value in (
                ("observation", found[0]),
                ("env_reward", float(found[2])),
                ("terminated", bool(found[3])),
                ("truncated", bool(found[4])),
            ):
                if not _same(getattr(step, field), value):
                    return count, Difference(recorded.session_id, step.episode_id, step.step, field)
            observation = np.array(found[1])
            count += 1
        if not _same(episode.final_observation, observation):
            last = episode.steps[-1]
            return count, Difference(recorded.session_id, last.episode_id, last.step, "final_observation")
    return count, None


def _same(recorded: Any, found: Any) -> bool:
    """Exact, bit for bit: NaN equals NaN, and 0.0 is not -0.0."""
    left, right = np.asarray(recorded), np.asarray(found)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
