"""A wrapper that records a vector of environments: each is a stream of one session.

In a training script::

    envs = VectorRecorder(gymnasium.make_vec("CartPole-v1", 8, "sync"), "my-log", "r-7f3a01bc")
    ...  # as before; and, for a rater's answer about the step just made in one of them:
    envs.rate(1, stream=3)
"""

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate

from rlhf_audit import envs
from rlhf_audit.errors import UsageError
from rlhf_audit.log.info import kept, one_of_many
from rlhf_audit.log.refusals import not_begun
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import Trajectory
from rlhf_audit.recording.library import (
    by_a_script,
    checked_seed,
    ended,
    recordable,
    written_options,
)
from rlhf_audit.spaces import describing, reading

_ONLY_WATCHES = "RecordEpisodeStatistics"
"""A wrapper of vectors that changes nothing: a single environment gives the same without it."""


class VectorRecorder(VectorWrapper[Any, Any, Any, Any, Any]):
    """Records every step of every environment of a vector, their episodes apart.

    Args:
        env: A vector of equal environments: gymnasium's, or any that says its autoreset mode.
        log: The log, or its folder.
        rater_id: Under whose grant: nothing is recorded without one.
        info: Keys of ``info`` that are kept, as JSON.
        observations: ``full``; ``hashed`` keeps 16 bytes of each, which ``replay --materialise`` turns back.
        seed: Where the first reset's seeds come from, if the script gives none.

    Raises:
        ConsentError: No grant of the rater stands.
        LockedError: Another process is recording.
        UsageError: A space that can't be recorded, environments that differ, or no autoreset mode.

    Determinism:
        What resets by itself goes on with its generators (no seed is recorded), as does a reset without a
        seed, except a stream's first, which gets one. ``replay`` makes each stream again, in order.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        log: Log | Path | str,
        rater_id: str,
        *,
        info: Sequence[str] = (),
        observations: str = "full",
        seed: int = 0,
    ) -> None:
        super().__init__(env)
        self._mode = _autoreset_mode(env)
        self._session = by_a_script(log, rater_id, _describe(env), seed, info, observations)
        self._info = self._session.facts.info
        self._recordable = recordable(reading.from_json(describing.describe(env.action_space)))
        self._streams: list[Trajectory | None] = [None] * env.num_envs
        # Next to reset by itself; and where a step was made just before an episode began in its place.
        self._over = [False] * env.num_envs
        self._ready = self._failed = False
        self._before: list[tuple[str, int] | None] = [None] * env.num_envs
        self._finalizer = weakref.finalize(self, self._session.close)

    @property
    def session_id(self) -> str:
        """The session's name in the log."""
        return self._session.writer.session_id

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, or those in ``options["reset_mask"]``, and begin an episode in each.

        Args:
            seed: One for each; a whole number stands for it and those that follow.
            options: Handed on.
        """
        if self._session.closed:
            raise ended()
        mask = np.ones(self.num_envs, bool)
        if options is not None and "reset_mask" in options:
            mask = np.array(options["reset_mask"], bool)
        rest = {name: value for name, value in (options or {}).items() if name != "reset_mask"}
        said = None if options is None else written_options(rest)
        if self._failed and not mask.all():
            raise not_begun()
        given, seeds = self._seeds(seed, mask)
        # The vector takes the mask out of the options: the script's own stay whole.
        handed = None if options is None else dict(options)
        self._ready, self._failed = False, True
        observations, infos = self.env.reset(seed=given, options=handed)
        for stream, observation in enumerate(iterate(self.env.observation_space, observations)):
            if mask[stream]:
                self._begin(stream, seeds[stream], said, observation)
        self._ready, self._failed = None not in self._streams, False
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make a step in each and record it; all are there when this returns, whatever happens.

        One that fails or is interrupted ends all episodes: what the environments have done is not known.

        Raises:
            UsageError: Some were never reset, or not all since a step failed; or the recorder is closed.
        """
        if self._session.closed:
            raise ended()
        if not self._ready:
            raise not_begun()
        self._ready, self._failed = False, True
        try:
            result = self._made(actions)
        except BaseException:
            for trajectory in self._streams:
                if trajectory is not None:
                    trajectory.end()
            raise
        self._ready, self._failed = True, False
        return result

    def _made(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self._recordable is not None:
            actions = self._recordable(actions)
        result = self.env.step(actions)
        observations, env_rewards, terminated, truncated, infos = result
        each = zip(
            iterate(self.env.action_space, actions),
            iterate(self.env.observation_space, observations),
            strict=True,
        )
        for stream, (action, observation) in enumerate(each):
            if self._over[stream]:
                self._begin(stream, None, None, observation)
                continue
            over = bool(terminated[stream] or truncated[stream])
            again = over and self._mode is AutoresetMode.SAME_STEP
            trajectory = self._streams[stream]
            assert trajectory is not None
            trajectory.append(
                action,
                infos["final_obs"][stream] if again else observation,
                env_rewards[stream],
                terminated[stream],
                truncated[stream],
                None,
                self._kept(infos, stream, again) if self._info else None,
            )
            self._over[stream] = over and self._mode is AutoresetMode.NEXT_STEP
            if again:
                before = trajectory.position
                self._begin(stream, None, None, observation)
                self._before[stream] = before
        return result

    def rate(self, value: float, *, stream: int, latency_s: float = 0.0) -> None:
        """Record the rater's answer to "was this action correct?" about the step just made in one of them.

        Args:
            value: 1 for yes, 0 for no.
            stream: Which environment, from 0.
            latency_s: Seconds from shown to answered.

        Raises:
            ConsentError: The grant ended meanwhile.
            UsageError: There is no such environment, or the last call made no step in it but a reset.
        """
        if stream not in range(self.num_envs):
            raise UsageError(
                "there is no such environment", seen=str(stream)[:20], needed=f"0 to {self.num_envs - 1}"
            )
        trajectory = self._streams[stream]
        where = None if trajectory is None else trajectory.position
        if where is not None and where[1] == 0:
            where = self._before[stream]
        self._session.rate(where, value, latency_s)

    def close(self, **kwargs: Any) -> None:
        """Seal the session and close the environments."""
        try:
            self._session.close()
        finally:
            super().close(**kwargs)

    def __enter__(self) -> "VectorRecorder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, stream: int, seed: int | None, options: str | None, observation: Any) -> None:
        self._streams[stream] = self._session.begin(stream, seed, options, observation)
        self._over[stream], self._before[stream] = False, None

    def _seeds(self, seed: Any, mask: np.ndarray[Any, Any]) -> tuple[Any, list[int | None]]:
        """Return what the vector is given, and what that is for each of them."""
        n, first = self.num_envs, self._session.fresh_seed()
        begun = [stream is not None and not self._failed for stream in self._streams]
        if seed is None:
            if not any(begun) and mask.all():
                seed = first
            elif all(begun[stream] for stream in range(n) if mask[stream]):
                return None, [None] * n
            else:
                seed = [None] * n
        if isinstance(seed, list | tuple | np.ndarray):
            each = [checked_seed(one) for one in seed]
            # Nothing goes on in a stream that has not begun.
            fresh = (
                one if one is not None or on else first + stream
                for stream, (one, on) in enumerate(zip(each, begun, strict=False))
            )
            each = [*fresh, *each[n:]]
            return each, [*each, *[None] * n][:n]
        number = checked_seed(seed)
        assert number is not None
        return number, [checked_seed(number + stream) for stream in range(n)]

    def _kept(self, infos: Mapping[str, Any], stream: int, again: bool) -> str:
        """Return what is kept of a step's info; after a reset in the same step it stands apart."""
        own = one_of_many(infos, stream)
        return kept(own.get("final_info", {}) if again else own, self._info)


def _autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    mode = (env.metadata or {}).get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise UsageError(
            "the vector does not say when its environments are reset",
            seen=f"autoreset_mode {ascii(str(mode))[:40]}",
            needed="metadata['autoreset_mode'], one of gymnasium.vector.AutoresetMode",
        ) from error


class _OneOf(gym.Env[Any, Any]):
    """Stands for one environment of a vector where it is described."""

    def __init__(self, env: VectorEnv[Any, Any, Any], spec: EnvSpec) -> None:
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.spec = spec


def _describe(env: VectorEnv[Any, Any, Any]) -> envs.EnvRecord:
    """Return what to write down of each environment in a vector.

    Raises:
        UsageError: They differ.
    """
    base = env.unwrapped
    specs: Sequence[EnvSpec | None] = [None]
    # Others step all of them as one, with one generator: no single environment gives the same.
    if hasattr(base, "get_attr"):
        specs = base.get_attr("spec")
    nobody = EnvSpec(type(base).__name__, f"{type(base).__module__}:{type(base).__qualname__}")
    records = [envs.describe(_OneOf(env, spec or nobody)) for spec in specs]
    if any(record != records[0] for record in records):
        raise UsageError(
            "the environments of the vector differ",
            seen="other arguments or wrappers",
            needed="the same in all of them",
            fix="put a Recorder around each, or record vectors of equal ones",
        )
    around = [*_around(env, specs[0])]
    return envs.describe(_OneOf(env, _wrapped(specs[0] or nobody, around))) if around else records[0]


def _around(env: VectorEnv[Any, Any, Any], spec: EnvSpec | None) -> list[WrapperSpec]:
    """Return the wrappers around the vector that a single environment would not have, inner ones first."""
    found: list[WrapperSpec] = []
    while isinstance(env, VectorWrapper):
        name = type(env).__name__
        if name != _ONLY_WATCHES and spec is not None:
            found.insert(0, WrapperSpec(name, f"{type(env).__module__}:{name}", None))
        env = env.env
    return found


def _wrapped(spec: EnvSpec, around: Sequence[WrapperSpec]) -> EnvSpec:
    copy = EnvSpec(**{name: getattr(spec, name) for name in _SPEC_FIELDS})
    copy.additional_wrappers = (*spec.additional_wrappers, *around)
    return copy


_SPEC_FIELDS = ("id", "entry_point", "max_episode_steps", "nondeterministic", "kwargs")
