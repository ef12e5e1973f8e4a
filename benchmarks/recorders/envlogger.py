"""EnvLogger, in Riegeli files. It takes environments of dm_env: what makes one of ours counts as its own."""

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.recorders.base import Episode, Opened, bytes_in


class EnvLogger:
    name, package, share, images = "EnvLogger", "envlogger", 4, False

    def absent(self) -> str | None:
        if find_spec("envlogger") is None:
            return "not installed"
        try:
            _envlogger()
        except ImportError as error:
            return str(error).split("(")[0].strip()
        return None

    def open(self, env: gym.Env[Any, Any], folder: Path) -> Opened:
        logger = _envlogger().EnvLogger(_adapted(env), data_directory=str(folder))

        def reset(seed: int | None = None) -> Any:
            logger._environment.seed = seed
            return logger.reset()

        return Opened(SimpleNamespace(step=logger.step, reset=reset, close=logger.close), told=True)

    def size(self, folder: Path) -> int:
        return bytes_in(folder)

    def episodes(self, folder: Path) -> Iterator[Episode]:
        with _envlogger().Reader(data_directory=str(folder)) as reader:
            for episode in reader.episodes:
                steps = list(episode)
                made = [step.timestep for step in steps[1:]]
                yield Episode(
                    np.array([step.timestep.observation for step in steps]),
                    np.array([step.action for step in steps[1:]]),
                    np.array([step.reward for step in made]),
                    np.array([step.last() and step.discount == 0 for step in made]),
                    np.array([step.last() and step.discount != 0 for step in made]),
                )

    def loads(self, folder: Path, env_id: str) -> Mapping[str, Callable[[], int]]:
        del env_id
        return {"Reader, episodes": lambda: sum(len(one.actions) for one in self.episodes(folder))}


def _envlogger() -> Any:
    # Version 1.2 uses a name that numpy 2 has no more; 1.3 needs a newer C library than many machines have.
    if not hasattr(np, "unicode_"):
        np.unicode_ = np.str_  # type: ignore[attr-defined]
    import envlogger

    return envlogger


def _adapted(env: gym.Env[Any, Any]) -> Any:
    import dm_env
    from dm_env import specs

    def spec(space: Any, name: str) -> Any:
        return specs.Array(space.shape, space.dtype, name)

    class Adapted(dm_env.Environment):  # type: ignore[misc]
        seed: int | None = None

        def reset(self) -> Any:
            return dm_env.restart(env.reset(seed=self.seed)[0])

        def step(self, action: Any) -> Any:
            observation, env_reward, terminated, truncated, _ = env.step(action)
            if terminated:
                return dm_env.termination(float(env_reward), observation)
            if truncated:
                return dm_env.truncation(float(env_reward), observation)
            return dm_env.transition(float(env_reward), observation)

        def observation_spec(self) -> Any:
            return spec(env.observation_space, "observation")

        def action_spec(self) -> Any:
            return spec(env.action_space, "action")

    return Adapted()
