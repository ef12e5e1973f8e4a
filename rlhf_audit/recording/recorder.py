"""A Gymnasium wrapper that records whatever acts in it.

In a training script::

    env = Recorder(gymnasium.make("CartPole-v1"), "my-log", "r-7f3a01bc")
    ...  # as before; and, for a rater's answer about the step just made:
    env.rate(1)

It is a context manager; ``close`` seals the session. Whoever forgets it, or stops the script by an exception,
``sys.exit`` or Ctrl-C, has it sealed as the script ends; after a kill it is sealed by whatever opens the log
next. What ``step`` returned from is there.
"""

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from rlhf_audit import envs
from rlhf_audit.log.info import kept
from rlhf_audit.log.refusals import not_begun
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import StepResult, Trajectory
from rlhf_audit.recording.library import (
    OpenSession,
    by_a_script,
    checked_seed,
    ended,
    recordable,
    written_options,
)
from rlhf_audit.spaces import reading


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records every step of one environment.

    Args:
        env: Any environment whose spaces Gymnasium knows.
        log: The log, or its folder.
        rater_id: Under whose grant: nothing is recorded without one.
        info: Keys of ``info`` that are kept, as JSON.
        observations: ``full``; ``hashed`` keeps 16 bytes of each, which ``replay --materialise`` turns back.
        seed: Where the first reset's seed comes from, if the script gives none.

    Attributes:
        policy_sha256: Digest of the behaviour policy's weights, recorded at each reset; None if not known.

    Raises:
        ConsentError: No grant of the rater stands.
        LockedError: Another process is recording.
        UsageError: A space that can't be recorded.

    Determinism:
        A reset without a seed lets the environment's generators go on, except the first and one after a step
        or a reset that failed, which get one; so ``replay`` can make every episode again, in order. Actions
        reach the environment in the dtype of their space, which is what is recorded.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        log: Log | Path | str,
        rater_id: str,
        *,
        info: Sequence[str] = (),
        observations: str = "full",
        seed: int = 0,
    ) -> None:
        record = envs.describe(env)
        self._take(env, by_a_script(log, rater_id, record, seed, info, observations))
        self._finalizer = weakref.finalize(self, self._session.close)

    @classmethod
    def into(cls, session: OpenSession, env: gym.Env[Any, Any]) -> "Recorder":
        """Return a recorder into a session that somebody else opened and closes: the command line."""
        recorder = cls.__new__(cls)
        recorder._take(env, session)
        return recorder

    def _take(self, env: gym.Env[Any, Any], session: OpenSession) -> None:
        super().__init__(env)
        self.policy_sha256: str | None = None
        self._session, self._info = session, session.facts.info
        self._recordable = recordable(reading.from_json(session.facts.env["action_space"]))
        self._trajectory: Trajectory | None = None
        self._step: Callable[[Any], StepResult] = self._refused

    @property
    def session_id(self) -> str:
        """The session's name in the log."""
        return self._session.writer.session_id

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and begin an episode."""
        if self._session.closed:
            raise ended()
        seed = checked_seed(seed)
        before = self._trajectory
        if seed is None and (before is None or not before.is_open):
            seed = self._session.fresh_seed()
        said = written_options(options)
        self._refuse()
        try:
            observation, info = self.env.reset(seed=seed, options=options)
            self._trajectory = self._session.begin(0, seed, said, observation, self.policy_sha256)
        except BaseException:
            if before is not None:
                before.end()
            raise
        fast = None if self._recordable or self._info else self._trajectory.around(self.env.step)
        self._step = fast or self._make_step
        if type(self).step is Recorder.step:
            # Found before the method is: a call less.
            self.__dict__["step"] = self._step
        return observation, info

    def step(self, action: Any) -> StepResult:
        """Make a step and record it; it is there when this returns, whatever happens to the process.

        One that fails or is interrupted ends the episode: what the environment has done then is not known.

        Raises:
            UsageError: There was no reset, or none since a step failed; or the recorder is closed.
        """
        return self._step(action)

    def act(self, action: Any, probability: float) -> StepResult:
        """Make a step as ``step`` does; record how probable the action was under the policy that chose it.

        Args:
            action: What was chosen.
            probability: From 0 to 1; of a continuous action its density.
        """
        if self._step == self._refused:
            self._refused(action)
        return self._make_step(action, probability)

    def _make_step(self, action: Any, probability: float | None = None) -> StepResult:
        trajectory = self._trajectory
        assert trajectory is not None
        try:
            if self._recordable is not None:
                action = self._recordable(action)
            result: StepResult = self.env.step(action)
            observation, env_reward, terminated, truncated, info = result
            said = kept(info, self._info) if self._info else None
            trajectory.append(action, observation, env_reward, terminated, truncated, probability, said)
        except BaseException:
            trajectory.end()
            raise
        return result

    def _refuse(self) -> None:
        self._step = self._refused
        self.__dict__.pop("step", None)

    def _refused(self, action: Any) -> StepResult:
        del action
        raise ended() if self._session.closed else not_begun()

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
        self._session.rate(where, value, latency_s)

    def close(self) -> None:
        """Seal the session and close the environment."""
        self._refuse()
        try:
            self._session.close()
        finally:
            super().close()
