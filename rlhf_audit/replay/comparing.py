"""The two ends of a session that is played again: the recorded answers, and a sink that compares."""

import copy
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlhf_audit.log import reader
from rlhf_audit.log.info import kept
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.session import Learner
from rlhf_audit.spaces.hashed import HashedSpace, observation_space
from rlhf_audit.types import (
    Answer,
    AnswerKind,
    EpisodeFacts,
    Feedback,
    Kind,
    Observation,
    Question,
    Transition,
)

_BITS = struct.Struct("<d").pack


@dataclass(frozen=True)
class Difference:
    """The first value that came out otherwise.

    Attributes:
        field: Its name; ``weights_sha256`` when only the last weights differ and no one answer explains it.
    """

    session_id: str
    episode_id: str
    step: int
    field: str


class DifferenceFound(Exception):
    """Ends the loop: what would follow says nothing more."""


class Comparer:
    """A sink that compares; it stops at the first value that no policy could explain.

    Args:
        recorded: What should come out.
        learner: Which policy acts, weights as they are at each step.
        n_steps: Compare only so many steps.

    Attributes:
        steps: Steps compared.
        doubted: How many there were before the first of the suspects.
        suspects: Values that follow from the weights and came out otherwise: altered themselves, or because
            an answer before them was.
        first: The value at which it stopped, which does not follow from the weights; None if it did not stop.
        agreed: How many feedback rows had been given before the last step that agreed, ere the first suspect.
        rows: How many before the first suspect; all of them when there is none.
        learnt: Digests of the weights after each feedback row.
    """

    def __init__(
        self, recorded: reader.RecordedSession, learner: Learner, n_steps: int | None = None
    ) -> None:
        self._learner = learner
        self._stored = stored_form(recorded.facts)
        self._session_id = recorded.session_id
        self._erased = recorded.feedback is None
        self._expected = _expected(recorded.episodes)
        self._coming = next(self._expected, None)
        self._behaviour: str | None = None
        self._most = n_steps
        self.steps = 0
        self.doubted = 0
        self.rows = 0
        self.agreed = 0
        self.suspects: list[Difference] = []
        self.first: Difference | None = None
        self.learnt: list[str] = []

    @property
    def more(self) -> bool:
        """Whether another step is to be compared."""
        return self._coming is not None and (self._most is None or self.steps < self._most)

    def episode(self, facts: EpisodeFacts) -> None:
        """Compare what an episode begins with."""
        self._behaviour = facts.behaviour_policy_sha256
        if self._coming is None:
            return
        begun = self._coming.episode
        wanted = begun.reset_seed if begun.episode_id == facts.episode_id else None
        if wanted is not None and wanted != facts.reset_seed:
            self._stop((facts.episode_id, 0), "reset_seed")

    def step(self, step: Transition, next_observation: Observation) -> None:
        """Compare a step."""
        assert self._coming is not None
        expected, after = self._coming.step, self._coming.after
        behaviour = self._coming.episode.behaviour_policy_sha256
        where = (step.episode_id, step.step)
        if (expected.episode_id, expected.step) != where:
            self._stop(where, "step")
        if not same(expected.observation, self._stored(step.observation)):
            self._stop(where, "observation")
        if step.step == 0 and not self._redacted(behaviour) and behaviour != self._behaviour:
            self._suspect(where, "behaviour_policy_sha256")
        self._compare_action(where, expected, step)
        for field in ("env_reward", "terminated", "truncated", "info"):
            if not same(getattr(expected, field), getattr(step, field)):
                self._stop(where, field)
        self.steps += 1
        if not self.suspects:
            self.agreed = self.rows
        self._coming = next(self._expected, None)
        last = step.terminated or step.truncated or self._coming is None
        if last and not same(after, self._stored(next_observation)):
            self._stop(where, "final_observation")

    def feedback(self, row: Feedback) -> None:
        del row
        self.rows += not self.suspects

    def weights(self, sha256: str) -> None:
        self.learnt.append(sha256)

    def _compare_action(self, where: tuple[str, int], expected: Transition, step: Transition) -> None:
        known = not self._redacted(expected.action_probability)
        if not same(expected.action, step.action):
            # The recorded chance tells which policy acted: if it is this one's, the action alone is another.
            agrees = not known or same(expected.action_probability, step.action_probability)
            if not agrees:
                self._suspect(where, "action_probability")
            self._stop(where, "action")
        if known and not same(expected.action_probability, step.action_probability):
            self._suspect(where, "action_probability")

    def _redacted(self, value: object) -> bool:
        return value is None and self._erased

    def _suspect(self, where: tuple[str, int], field: str) -> None:
        if not self.suspects:
            self.doubted = self.steps
        self.suspects.append(Difference(self._session_id, *where, field))

    def _stop(self, where: tuple[str, int], field: str) -> None:
        self.first = Difference(self._session_id, *where, field)
        raise DifferenceFound


class ComparedStage:
    """Where a policy acts again, and every value is compared with what was recorded.

    Args:
        env: Fresh, as the session's was.
        comparer: Told of all that happens in it.
        info: Keys of ``info`` that were kept.
    """

    def __init__(self, env: gym.Env[Any, Any], comparer: Comparer, info: Sequence[str]) -> None:
        self._env, self._comparer, self._info = env, comparer, info
        self._name, self._step = "", 0
        self._before: Any = None

    def begin(self, facts: EpisodeFacts) -> Observation:
        self._name, self._step = facts.episode_id, 0
        self._before, _ = self._env.reset(seed=facts.reset_seed)
        self._comparer.episode(facts)
        begun: Observation = self._before
        return begun

    def act(self, action: Any, probability: float) -> tuple[Observation, float, bool]:
        # An environment may give the very same array again.
        before = copy.deepcopy(self._before)
        after, env_reward, terminated, truncated, found = self._env.step(action)
        said = kept(found, self._info) if self._info else None
        over = bool(terminated), bool(truncated)
        row = Transition(self._name, self._step, before, action, probability, float(env_reward), *over, said)
        self._before, self._step = after, self._step + 1
        self._comparer.step(row, after)
        return after, float(env_reward), any(over)

    def picture(self) -> npt.NDArray[np.uint8] | None:
        """Nobody looks."""
        return None


class RecordedRater:
    """Gives the recorded answers again, in the order in which they were given.

    Attributes:
        astray: Where an answer was recorded when another step was asked about.
    """

    simulated_time = True

    def __init__(self, rows: Sequence[Feedback]) -> None:
        self._rows = rows
        self._given = 0
        self._undos = reader.undos((row.kind, row.supersedes) for row in rows)
        self.astray: tuple[str, int] | None = None

    def ask(self, question: Question) -> Answer:
        if self._given == len(self._rows):
            return Answer(AnswerKind.QUIT)
        number, row = self._given, self._rows[self._given]
        self._given += 1
        if number in self._undos:
            return Answer(AnswerKind.UNDO)
        if (row.episode_id, row.step) != (question.episode_id, question.step):
            self.astray = (row.episode_id, row.step)
            raise DifferenceFound
        return Answer(AnswerKind.SKIP) if row.kind is Kind.SKIP else Answer(AnswerKind.ANSWER, row.value)

    def close(self) -> None:
        """Nothing is held."""


def same(recorded: Any, found: Any) -> bool:
    """Exact, bit for bit, whatever the space: NaN equals NaN, and 0.0 is not -0.0.

    An environment may give values of another dtype than its space has, such as Python's numbers: what is
    compared is what would be recorded.
    """
    if isinstance(recorded, Mapping):
        return all(same(value, found[name]) for name, value in recorded.items())
    if isinstance(recorded, tuple):
        return len(recorded) == len(found) and all(map(same, recorded, found))
    if recorded is None or isinstance(recorded, str | bytes):
        return bool(recorded == found)
    left = np.asarray(recorded)
    right = np.asarray(found, left.dtype)
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def stored_form(facts: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return what makes of an observation the value that a session's log holds of it: itself, or a digest."""
    space = observation_space(facts)
    return space.digest if isinstance(space, HashedSpace) else _itself


def _itself(observation: Any) -> Any:
    return observation


def each_same(recorded: Sequence[Any], stored: Callable[[Any], Any]) -> Callable[[int, Any], bool]:
    """Return what says of one of many recorded values whether it is ``same`` as what is found."""
    if not isinstance(recorded, np.ndarray) or stored is not _itself:
        return lambda number, found: same(recorded[number], stored(found))
    dtype, shape = recorded.dtype, recorded.shape[1:]

    def agrees(number: int, found: Any) -> bool:
        array = np.asarray(found, dtype)
        return array.shape == shape and array.tobytes() == recorded[number].tobytes()

    return agrees


def same_number(recorded: float, found: float) -> bool:
    """Say whether two numbers are the same, bit for bit."""
    return _BITS(recorded) == _BITS(found)


@dataclass(frozen=True)
class _Expected:
    """A recorded step, its episode, and the observation after it."""

    episode: RecordedEpisode
    step: Transition
    after: Observation


def _expected(episodes: Iterable[RecordedEpisode]) -> Iterator[_Expected]:
    for episode in episodes:
        observations = episode.columns.observations
        for number, step in enumerate(episode.steps, 1):
            after = observations[number] if number < len(observations) else episode.final_observation
            yield _Expected(episode, step, after)
