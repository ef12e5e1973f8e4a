"""One session: the agent acts, the rater is asked, the policy may learn.

Recording runs it with a person or a script and writes; replay runs the very same code with the recorded
answers and compares. That is what makes a session replayable to the last bit.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlhf_audit.clock import Clock
from rlhf_audit.log.reader import RecordedSession
from rlhf_audit.policy import heads
from rlhf_audit.policy.interface import Interface
from rlhf_audit.raters.base import FeedbackSource
from rlhf_audit.seeds import child_seed, generator
from rlhf_audit.types import (
    AnswerKind,
    EpisodeFacts,
    Feedback,
    Kind,
    Observation,
    Question,
    Weights,
    episode_id,
)


class Stage(Protocol):
    """Where a policy acts: an environment, and whoever records or compares what happens in it."""

    def begin(self, facts: EpisodeFacts) -> Observation:
        """Reset the environment; return its observation."""

    def act(self, action: Any, probability: float) -> tuple[Observation, float, bool]:
        """Make a step; return the observation after it, its env_reward, and whether the episode is over."""

    def picture(self) -> npt.NDArray[np.uint8] | None:
        """Draw what is to be seen; None where nothing is."""


class Sink(Protocol):
    """Where what the rater gives goes."""

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
    stage: Stage,
    interface: Interface,
    learner: Learner,
    seed: int,
    episodes: int | None,
    prefix: str,
) -> Iterator[Moment]:
    """Let the policy act; weights may change between two moments.

    Args:
        stage: Where; episodes begin with seeds that follow from ``seed``.
        interface: How the network reads and acts there.
        learner: Whose newest weights act, by sampling.
        seed: The session's root seed.
        episodes: At most so many.
        prefix: Episode ids begin with it.
    """
    draws = generator(seed, "act")
    number = 0
    while episodes is None or number < episodes:
        name = episode_id(prefix, number)
        reset_seed = child_seed(seed, "reset", number) % 2**31
        observation = _kept(stage.begin(EpisodeFacts(name, number, reset_seed, learner.weights_sha256)))
        step, total, over = 0, 0.0, False
        while not over:
            said = heads.opinions(interface.spec, learner.weights, interface.encode(observation)[None])
            action, chance = interface.act(learner.weights, said, 0, draws)
            frame = stage.picture()
            after, env_reward, over = stage.act(action, chance)
            yield Moment(name, step, observation, action, total, frame)
            observation, step, total = _kept(after), step + 1, total + env_reward
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
                frame = picture(env)
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


def picture(env: gym.Env[Any, Any]) -> npt.NDArray[np.uint8] | None:
    """Return what an environment draws, ``(height, width, 3)``; None where it draws nothing."""
    frame: Any = env.render() if env.render_mode else None
    return None if frame is None else np.array(frame, dtype=np.uint8)
