"""One session: the agent acts, the rater is asked, the policy may learn.

Recording runs it with a person or a script and writes; replay runs the very same code with the recorded
answers and compares. That is what makes a session replayable to the last bit.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlhf_audit.clock import Clock
from rlhf_audit.log.info import kept
from rlhf_audit.log.reader import RecordedSession
from rlhf_audit.policy import heads
from rlhf_audit.policy.interface import Interface
from rlhf_audit.raters.base import FeedbackSource
from rlhf_audit.seeds import child_seed, generator
from rlhf_audit.spaces import describing
from rlhf_audit.types import (
    AnswerKind,
    EpisodeFacts,
    Feedback,
    Kind,
    Observation,
    Question,
    Transition,
    Weights,
    episode_id,
)


class Sink(Protocol):
    """Where the events of a session go."""

    def episode(self, facts: EpisodeFacts, observation: Observation) -> None:
        """An episode begins."""

    def step(self, step: Transition, next_observation: Observation) -> None:
        """A step was made."""

    def feedback(self, row: Feedback) -> None:
        """The rater gave something; it is kept when this returns."""

    def weights(self, sha256: str) -> None:
        """The live policy has these weights now."""


class Learner(Protocol):
    """A policy that may learn while it acts."""

    @property
    def weights(self) -> Weights:
        """The weights now."""

    @property
    def weights_sha256(self) -> str:
        """Their digest."""

    def update(self, observation: Observation, action: Any, value: float) -> None:
        """Learn from one answer."""

    def undo(self) -> None:
        """Unlearn the last answer that stands."""


class Fixed:
    """A policy that does not learn."""

    def __init__(self, weights: Weights, sha256: str) -> None:
        self.weights = weights
        self.weights_sha256 = sha256

    def update(self, observation: Observation, action: Any, value: float) -> None:
        """Learn nothing."""

    def undo(self) -> None:
        """Unlearn nothing."""


@dataclass(frozen=True)
class Moment:
    """One step that the rater may be asked about."""

    episode_id: str
    step: int
    observation: Observation
    action: Any
    return_so_far: float
    frame: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Limits:
    """When to ask and when to stop.

    Attributes:
        ask_every: Every how manieth step of the session is asked about.
        episodes: At most so many; None for no limit.
        max_feedback: At most so many answers that stand; None for no limit.
        n_moments: How many moments there are; None where that is not known beforehand.
    """

    ask_every: int = 1
    episodes: int | None = None
    max_feedback: int | None = None
    n_moments: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        answers: Answers that stand.
        withdrew: The rater asked to leave.
    """

    answers: int
    withdrew: bool = False


def acting(
    env: gym.Env[Any, Any],
    learner: Learner,
    seed: int,
    episodes: int | None,
    prefix: str,
    sink: Sink,
    info: Sequence[str] = (),
) -> Iterator[Moment]:
    """Let the policy act and tell ``sink`` of each step; weights may change between two moments.

    Args:
        env: Fresh environment, reset here with seeds that follow from ``seed``.
        learner: Whose newest weights act, by sampling.
        seed: The session's root seed.
        episodes: At most so many.
        prefix: Episode ids begin with it.
        sink: Told of every step before the moment is yielded.
        info: Keys of ``info`` that it is told too.
    """
    interface = Interface(describing.describe(env.observation_space), describing.describe(env.action_space))
    draws = generator(seed, "act")
    number = 0
    while episodes is None or number < episodes:
        name = episode_id(prefix, number)
        reset_seed = child_seed(seed, "reset", number) % 2**31
        observation = _kept(env.reset(seed=reset_seed)[0])
        facts = EpisodeFacts(name, number, reset_seed, learner.weights_sha256)
        sink.episode(facts, observation)
        step, total, over = 0, 0.0, False
        while not over:
            said = heads.opinions(interface.spec, learner.weights, interface.encode(observation)[None])
            action, chance = interface.act(learner.weights, said, 0, draws)
            frame = env.render() if env.render_mode else None
            after, reward, terminated, truncated, found = env.step(action)
            after = _kept(after)
            row = Transition(
                name,
                step,
                observation,
                action,
                chance,
                float(reward),
                bool(terminated),
                bool(truncated),
                kept(found, info) if info else None,
            )
            sink.step(row, after)
            yield Moment(name, step, observation, action, total, _picture(frame))
            observation, step, total, over = after, step + 1, total + float(reward), terminated or truncated
        number += 1


def rated_again(
    rated: RecordedSession, env: gym.Env[Any, Any], episodes: int | None = None
) -> Iterator[Moment]:
    """Yield the moments of a session's first ``episodes``, with pictures where ``env`` can draw them."""
    for episode in itertools.islice(rated.episodes, episodes):
        if env.render_mode:
            env.reset(seed=episode.reset_seed)
        total = 0.0
        for step in episode.steps:
            frame = None
            if env.render_mode:
                frame = _picture(env.render())
                env.step(step.action)
            yield Moment(step.episode_id, step.step, step.observation, step.action, total, frame)
            total += step.env_reward


def interview(
    moments: Iterable[Moment],
    source: FeedbackSource,
    sink: Sink,
    learner: Learner,
    limits: Limits,
    clock: Clock,
    in_words: Callable[[Any], str],
    grant_id: str,
    permitted: Callable[[], None],
) -> Outcome:
    """Ask about every ``ask_every``-th moment until the rater, the limits or the moments end it.

    Args:
        moments: In order; the next one is drawn only after the answer, so that it sees new weights.
        source: Who answers.
        sink: Told of each row before the learner learns from it.
        learner: Learns from each answer, unlearns what is undone.
        limits: When to ask and when to stop.
        clock: For ``shown_at`` and ``answered_at``.
        in_words: Says an action in a rater's words.
        grant_id: The consent under which rows are made.
        permitted: Called before each question; raises when consent is gone.
    """
    talk = _Talk(sink, learner, clock, grant_id)
    for number, moment in enumerate(moments):
        if number % limits.ask_every:
            continue
        waiting = deque([moment])
        while waiting:
            permitted()
            current = waiting[0]
            shown_at = clock.now()
            answer = source.ask(talk.question(current, in_words, limits))
            if answer.kind in (AnswerKind.QUIT, AnswerKind.WITHDRAW):
                return Outcome(talk.answers, withdrew=answer.kind is AnswerKind.WITHDRAW)
            if answer.kind is AnswerKind.UNDO:
                waiting.extendleft(talk.undo(shown_at))
                continue
            waiting.popleft()
            talk.note(current, answer.value, shown_at, answer.latency_s)
            if limits.max_feedback is not None and talk.answers >= limits.max_feedback:
                return Outcome(talk.answers)
    return Outcome(talk.answers)


class _Talk:
    """The rows of one session, and which of them stand."""

    def __init__(self, sink: Sink, learner: Learner, clock: Clock, grant_id: str) -> None:
        self._sink = sink
        self._learner = learner
        self._clock = clock
        self._grant_id = grant_id
        self._rows = 0
        self._position = 0
        self._standing: list[tuple[Moment, int, Feedback]] = []
        self._retracted: dict[tuple[str, int], int] = {}

    @property
    def answers(self) -> int:
        return sum(row.kind is not Kind.SKIP for _, _, row in self._standing)

    def question(self, moment: Moment, in_words: Callable[[Any], str], limits: Limits) -> Question:
        known = []
        if limits.n_moments is not None:
            known.append(-(-limits.n_moments // limits.ask_every))
        if limits.max_feedback is not None:
            # A skip stands, but is no answer.
            known.append(limits.max_feedback + len(self._standing) - self.answers)
        return Question(
            moment.episode_id,
            moment.step,
            moment.observation,
            moment.action,
            in_words(moment.action),
            len(self._standing),
            moment.return_so_far,
            (lambda: moment.frame) if moment.frame is not None else None,
            min(known, default=None),
        )

    def note(self, moment: Moment, value: float | None, shown_at: Any, latency_s: float) -> None:
        kind = Kind.SKIP if value is None else Kind.RATING
        replaced = self._retracted.pop((moment.episode_id, moment.step), None)
        row = self._put(moment, kind, value, shown_at, latency_s, replaced)
        self._standing.append((moment, self._rows - 1, row))
        self._position += 1
        if value is not None:
            self._learner.update(moment.observation, moment.action, value)
        self._sink.weights(self._learner.weights_sha256)

    def undo(self, shown_at: Any) -> list[Moment]:
        """Take the last standing row back; return its moment to ask again, or nothing."""
        if not self._standing:
            return []
        moment, number, row = self._standing.pop()
        self._put(moment, Kind.SKIP, None, shown_at, 0.0, number)
        self._retracted[(moment.episode_id, moment.step)] = self._rows - 1
        if row.kind is not Kind.SKIP:
            self._learner.undo()
        self._sink.weights(self._learner.weights_sha256)
        return [moment]

    def _put(
        self,
        moment: Moment,
        kind: Kind,
        value: float | None,
        shown_at: Any,
        latency_s: float,
        supersedes: int | None,
    ) -> Feedback:
        row = Feedback(
            moment.episode_id,
            moment.step,
            kind,
            value,
            shown_at,
            self._clock.now(),
            latency_s,
            self._position,
            supersedes,
            grant_id=self._grant_id,
        )
        self._sink.feedback(row)
        self._rows += 1
        return row


def _kept(observation: Any) -> Any:
    """Return a copy that neither an environment nor a rater can change any more."""
    if isinstance(observation, Mapping):
        return {name: _kept(member) for name, member in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_kept(member) for member in observation)
    copy = np.array(observation)
    copy.setflags(write=False)
    return copy


def _picture(frame: Any) -> npt.NDArray[np.uint8] | None:
    return None if frame is None else np.array(frame, dtype=np.uint8)
