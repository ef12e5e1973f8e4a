"""Gymnasium wrappers that record whatever acts in them: one environment, or a vector of them.

In a training script::

    env = Recorder(gymnasium.make("CartPole-v1"), "my-log", "r-7f3a01bc")
    ...  # as before; and, for a rater's answer about the step just made:
    env.rate(1)

It is a context manager; ``close`` seals the session. A session that was left open is sealed by whatever opens
the log next: what ``step`` returned from is there.
"""

import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlhf_audit import envs
from rlhf_audit.consent import register
from rlhf_audit.errors import UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import Trajectory
from rlhf_audit.log.writer import SessionFacts, SessionWriter
from rlhf_audit.seeds import child_seed
from rlhf_audit.types import EpisodeFacts, Feedback, Grant, Kind, Purpose


class ConsentedWriter(SessionWriter):
    """Lets no answer through unless the session's own grant stood when it was given."""

    def __init__(self, log: Log, grant: Grant, facts: SessionFacts, purpose: Purpose | None) -> None:
        super().__init__(log, grant, facts)
        self.grant = grant
        self._purpose = purpose

    def check(self, as_of: datetime) -> None:
        """Raise a ConsentError if the grant does not stand at ``as_of``."""
        # Another process may have written a withdrawal since the last look.
        if self._log.ledger.changed_on_disk():
            self._log.ledger.load()
        register.grant_for(self._log, self.grant.rater_id, as_of, self._purpose, self.grant.grant_id)

    def feedback(self, row: Feedback) -> None:
        self.check(row.answered_at)
        super().feedback(row)


class LibrarySession:
    """The session of a script: its lock, its grant, its writer, and what a rater says in it."""

    def __init__(
        self, log: Log | Path | str, rater_id: str, env: gym.Env[Any, Any], seed: int, info: Sequence[str]
    ) -> None:
        self.log = log if isinstance(log, Log) else Log(Path(log))
        self._held = contextlib.ExitStack()
        self.seed = seed
        found = envs.describe(env)
        facts = SessionFacts(
            Kind.RATING.value,
            "library",
            json.loads(found.to_json()),
            seed,
            1,
            None,
            None,
            None,
            {"episodes": None, "max_feedback": None},
            tuple(info),
        )
        try:
            self._held.enter_context(self.log.writing())
            grant = register.grant_for(self.log, rater_id, self.log.clock.now(), None)
            self.writer = ConsentedWriter(self.log, grant, facts, None)
        except BaseException:
            self._held.close()
            raise
        self._position = 0

    @property
    def closed(self) -> bool:
        """Whether the session was sealed."""
        return not self.log.is_held

    def begin(self, number: int, stream: int, seed: int | None, options: Any, observation: Any) -> Trajectory:
        """Begin an episode; return where its steps go."""
        episode_id = f"{self.writer.session_id}-e{number:04d}"
        said = None if options is None else _json(options)
        self.writer.episode(EpisodeFacts(episode_id, number, seed, None, stream, said), observation)
        return self.writer.stream(stream)

    def rate(self, episode_id: str, step: int, value: float, latency_s: float) -> None:
        """Record an answer about a step; it is on the disk when this returns."""
        if value not in (0, 1):
            raise UsageError("a rating is 0 or 1", seen=str(value)[:20], needed="1 for yes, 0 for no")
        now = self.log.clock.now()
        row = Feedback(
            episode_id,
            step,
            Kind.RATING,
            float(value),
            now,
            now,
            float(latency_s),
            self._position,
            grant_id=self.writer.grant.grant_id,
        )
        self.writer.feedback(row)
        self._position += 1

    def close(self) -> None:
        """Seal the session and give the log back."""
        if not self.closed:
            with self._held:
                self.writer.seal()


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records every step of one environment.

    Args:
        env: Any environment whose spaces Gymnasium knows.
        log: The log, or its folder.
        rater_id: Under whose grant: nothing is recorded without one.
        info: Keys of ``info`` that are kept, as JSON.
        seed: Where the first reset's seed comes from, if the script gives none.

    Raises:
        ConsentError: No grant of the rater stands.
        LockedError: Another process is recording.
        UsageError: A space that can't be recorded.

    Determinism:
        A reset without a seed lets the environment's generators go on, except the first, which gets one; so
        ``replay`` can make every episode again, in order.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        log: Log | Path | str,
        rater_id: str,
        *,
        info: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(env)
        self._session = LibrarySession(log, rater_id, env, seed, info)
        self._info = tuple(info)
        self._episodes = 0
        self._trajectory: Trajectory | None = None
        self._make_step = env.step

    @property
    def session_id(self) -> str:
        """The session's name in the log."""
        return self._session.writer.session_id

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and begin an episode."""
        if seed is None and self._episodes == 0:
            seed = child_seed(self._session.seed, "reset", 0) % 2**31
        observation, info = self.env.reset(seed=seed, options=options)
        self._trajectory = self._session.begin(self._episodes, 0, seed, options, observation)
        self._append = self._trajectory.append
        self._episodes += 1
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step and record it; it is there when this returns, whatever happens to the process."""
        result = self._make_step(action)
        observation, env_reward, terminated, truncated, info = result
        if self._info:
            kept = kept_info(info, self._info)
            self._append(action, observation, env_reward, terminated, truncated, None, kept)
        else:
            self._append(action, observation, env_reward, terminated, truncated)
        return result

    def rate(self, value: float, *, latency_s: float = 0.0) -> None:
        """Record the rater's answer to "was this action correct?" about the step just made.

        Args:
            value: 1 for yes, 0 for no.
            latency_s: Seconds from shown to answered.

        Raises:
            ConsentError: The grant ended meanwhile.
            UsageError: No step was made yet.
        """
        where = None if self._trajectory is None else self._trajectory.position
        if where is None or where[1] == 0:
            raise UsageError(
                "there is no step to rate", seen="an episode without a step", needed="a step first"
            )
        self._session.rate(where[0], where[1] - 1, value, latency_s)

    def close(self) -> None:
        """Seal the session and close the environment."""
        try:
            self._session.close()
        finally:
            super().close()


def kept_info(info: Any, keys: Sequence[str]) -> str:
    """Return JSON of the chosen keys that are there; arrays as lists, what JSON can't say as text."""
    return json.dumps({key: info[key] for key in keys if key in info}, default=_said, sort_keys=True)


def _said(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


def _json(options: Any) -> str:
    try:
        return json.dumps(options, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "the options of reset can't be written down",
            seen=type(options).__name__,
            needed="numbers, text, lists and mappings only",
        ) from error
