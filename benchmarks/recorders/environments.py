"""The environments that are recorded, and the actions made in them: drawn beforehand, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

SEED = 1
STACKED = "Stacked-v0"


@dataclass(frozen=True)
class Case:
    """What is measured in one environment.

    Attributes:
        steps: In one recording of the quick recorders.
        stretch: Steps between two looks at the clock: about 1 ms, of which looking takes nothing, and other
            processes seldom take some.
        shorter: Recordings of slow recorders are at most so many times shorter.
    """

    env_id: str
    steps: int
    stretch: int
    shorter: int
    what: str


CASES = (
    Case("Null-v0", 400_000, 2_000, 20, "does nothing; observations of 4 floats, one endless episode"),
    Case("CartPole-v1", 200_000, 100, 20, "an episode of about 22 steps"),
    Case("HalfCheetah-v5", 20_000, 20, 4, "an episode of 1,000 steps, 17 floats of 64 bits, actions of 6"),
    Case("ALE/Pong-v5", 3_000, 4, 4, "frames of 210x160x3"),
    Case("Frames-v0", 2_000, 20, 4, "does nothing; the same frame of 210x160x3, one endless episode"),
)


class Null(gym.Env[Any, Any]):
    """Does nothing: what is left is the recorder. Its observations are four floats, or a frame."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, shape: Sequence[int] = (4,)) -> None:
        frame = len(shape) == 3
        dtype: Any = np.uint8 if frame else np.float32
        self.observation_space = gym.spaces.Box(0, 255 if frame else 1, tuple(shape), dtype)
        draws = np.random.default_rng(SEED)
        self._observation = (draws.integers(0, 255, shape) if frame else draws.random(shape)).astype(dtype)
        self._result: Any = self._observation, 1.0, False, False, {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        del seed, options
        return self._observation, {}

    def step(self, action: Any) -> Any:
        del action
        return self._result


class Stacked(gym.Env[Any, Any]):
    """Pong in grey, 84 by 84, its newest four frames; games follow each other in one endless episode."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)

    def __init__(self) -> None:
        self._game = gym.make("ALE/Pong-v5", obs_type="grayscale", disable_env_checker=True).unwrapped
        self.action_space = self._game.action_space
        self._picked = np.ix_(np.arange(84) * 210 // 84, np.arange(84) * 160 // 84)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        del options
        screen, _ = self._game.reset(seed=seed)
        self._stack = np.repeat(screen[self._picked][..., None], 4, axis=2)
        return self._stack, {}

    def step(self, action: Any) -> Any:
        screen, env_reward, terminated, truncated, _ = self._game.step(action)
        if terminated or truncated:
            screen, _ = self._game.reset()
        self._stack = np.concatenate([self._stack[..., 1:], screen[self._picked][..., None]], axis=2)
        return self._stack, float(env_reward), False, False, {}


gym.register("Null-v0", entry_point=f"{__name__}:Null")
gym.register("Frames-v0", entry_point=f"{__name__}:Null", kwargs={"shape": [210, 160, 3]})
gym.register(STACKED, entry_point=f"{__name__}:Stacked")


def make(env_id: str) -> gym.Env[Any, Any]:
    """Open an environment as a training script does; what is made up here stands without a wrapper.

    Raises:
        ImportError, gymnasium.error.Error: It is not installed.
    """
    if env_id.startswith("ALE/") or env_id == STACKED:
        import ale_py

        gym.register_envs(ale_py)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    if env_id in ("Null-v0", "Frames-v0", STACKED):
        return gym.make(env_id, disable_env_checker=True).unwrapped
    return gym.make(env_id)


def actions(env: gym.Env[Any, Any], n: int) -> Sequence[Any]:
    """Return ``n`` random actions, the same ones every time."""
    env.action_space.seed(SEED)
    return [env.action_space.sample() for _ in range(n)]
