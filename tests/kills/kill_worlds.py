"""Environments to be recorded while the recorder is killed, and what acts in them and notes what it was told.

Everything follows from seeds: an undisturbed run tells what any other may find in its log, value by value.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Sequence, Text, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.recording.vector import VectorRecorder

Note = Callable[[Any], None]
Seen = Callable[[Any], Any]
N_STREAMS = 3


class Short(gym.Env[Any, Any]):
    """Episodes of one to six steps in which no two numbers are alike; one array for every observation."""

    observation_space: gym.Space[Any] = Box(-1e9, 1e9, (2,), np.float64)
    action_space: gym.Space[Any] = Discrete(3)

    def __init__(self) -> None:
        self._buffer = np.zeros(2)
        self._left = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(1, 7))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self._left -= 1
        return self._seen(), float(self.np_random.normal()), self._left == 0, False, {"left": self._left}

    def _seen(self) -> Any:
        self._buffer[:] = self.np_random.normal(), self._left
        return self._buffer


class Telling(Short):
    """The same, of spaces whose values vary in size."""

    observation_space = Dict(
        left=Discrete(10), words=Text(12), points=Sequence(Box(-1e9, 1e9, (2,), np.float64))
    )
    action_space = Tuple((Discrete(3), Text(5)))

    def _seen(self) -> Any:
        points = tuple(self.np_random.normal(size=2) for _ in range(self._left))
        return {"left": self._left, "words": "abcdefghijkl"[: 2 * self._left], "points": points}


def plain(value: Any) -> Any:
    """Return a value of any space as JSON can say it, alike before and after it was stored."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def digest(*values: Any) -> str:
    said = json.dumps(plain(list(values)), sort_keys=True)
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def step_fact(
    where: tuple[str, str, int],
    begun: tuple[int | None, Mapping[str, Any] | None],
    before: Any,
    action: Any,
    after: Any,
    outcome: tuple[Any, ...],
) -> list[Any]:
    """Return what is told of a step: where it is, and a digest of all that a log holds of it."""
    env_reward, terminated, truncated, info = outcome
    ended = float(env_reward), bool(terminated), bool(truncated)
    return ["step", *where, digest(list(begun), before, action, after, *ended, info)]


def act(env: Recorder, note: Note, n_steps: int, seen: Seen = plain, info: str | None = None) -> None:
    """Act at random; reset with a seed and without, twice over, midway; rate every fourth step."""
    env.action_space.seed(n_steps)
    number, step, over = -1, 0, True
    for n in range(n_steps):
        for _ in range(over + (over and n % 7 == 3)):
            number += 1
            given = (number % 3 == 0) or None
            begun = (given and 100 + number, given and {"start": number})
            before, step = seen(env.reset(seed=begun[0], options=begun[1])[0]), 0
        action = env.action_space.sample()
        observation, *outcome, said = env.step(action)
        after, said = seen(observation), {info: said[info]} if info else None
        where = env.session_id, f"{env.session_id}-e{number:04d}", step
        note(step_fact(where, begun, before, action, after, (*outcome, said)))
        if n % 4 == 0:
            env.rate(n % 3 % 2)
            note(["rating", *where, n % 3 % 2])
        before, step, over = after, step + 1, outcome[1] or n % 11 == 10


def act_in_vector(env: VectorRecorder, note: Note, n_steps: int, mode: AutoresetMode) -> None:
    """The same in each environment of a vector, with its own resets."""
    env.action_space.seed(n_steps)
    observations, _ = env.reset(seed=list(range(N_STREAMS)))
    before = [plain(one) for one in observations]
    begun: list[tuple[int | None, None]] = [(stream, None) for stream in range(N_STREAMS)]
    numbers, steps, n_begun = list(range(N_STREAMS)), [0] * N_STREAMS, N_STREAMS
    resets = [False] * N_STREAMS
    for n in range(n_steps):
        actions = env.action_space.sample()
        observations, env_rewards, terminated, truncated, infos = env.step(actions)
        rated = None
        for stream in range(N_STREAMS):
            over = bool(terminated[stream] or truncated[stream])
            again = over and mode is AutoresetMode.SAME_STEP
            if not resets[stream]:
                after = plain(infos["final_obs"][stream] if again else observations[stream])
                where = env.session_id, f"{env.session_id}-e{numbers[stream]:04d}", steps[stream]
                outcome = env_rewards[stream], terminated[stream], truncated[stream], None
                note(step_fact(where, begun[stream], before[stream], actions[stream], after, outcome))
                steps[stream] += 1
                rated = stream, where
            if again or resets[stream]:
                numbers[stream], steps[stream], begun[stream] = n_begun, 0, (None, None)
                n_begun += 1
            before[stream] = plain(observations[stream])
            resets[stream] = over and mode is AutoresetMode.NEXT_STEP
        if n % 4 == 0 and rated is not None:
            env.rate(n % 3 % 2, stream=rated[0])
            note(["rating", *rated[1], n % 3 % 2])


def vector(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([Short] * N_STREAMS, autoreset_mode=mode)
