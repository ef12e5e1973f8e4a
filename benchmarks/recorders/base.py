"""What is asked of each recorder that is compared, and how its recording is checked."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from benchmarks.recorders.environments import SEED


@dataclass(frozen=True)
class Opened:
    """An environment that is being recorded.

    Attributes:
        env: Its ``step`` is as the environment's own; ``reset`` takes the first ``seed``, or nothing;
            ``close`` ends the recording, so that it can be read.
        told: ``step`` returns a TimeStep of dm_env.
    """

    env: Any
    told: bool = False


@dataclass(frozen=True)
class Episode:
    """One episode: T actions, T + 1 observations."""

    observations: Any
    actions: Any
    env_rewards: Any
    terminated: Any
    truncated: Any


class Recorder(Protocol):
    """One of those that are compared.

    Attributes:
        name: In the table.
        package: What must be installed.
        share: Its recordings are so many times shorter: it is slow.
        images: It differs from another one with images only.
    """

    name: str
    package: str
    share: int
    images: bool

    def absent(self) -> str | None:
        """Say why it can't be had here; None where it can."""

    def open(self, env: gym.Env[Any, Any], folder: Path) -> Opened:
        """Begin a recording in a new folder."""

    def size(self, folder: Path) -> int:
        """Return how many bytes a recording takes."""

    def episodes(self, folder: Path) -> Iterator[Episode]:
        """Read a recording back."""

    def loads(self, folder: Path, env_id: str) -> Mapping[str, Callable[[], int]]:
        """Return ways to have all steps in memory; each says how many there were."""


class Bare:
    """Nothing is recorded."""

    name, package, share, images = "bare", "", 1, False

    def absent(self) -> str | None:
        return None

    def open(self, env: gym.Env[Any, Any], folder: Path) -> Opened:
        del folder
        return Opened(env)

    def size(self, folder: Path) -> int:
        return bytes_in(folder)

    def episodes(self, folder: Path) -> Iterator[Episode]:
        del folder
        return iter(())

    def loads(self, folder: Path, env_id: str) -> Mapping[str, Callable[[], int]]:
        del folder, env_id
        return {}


def play(opened: Opened, actions: Sequence[Any]) -> float:
    """Make every action, and the resets that come up; return how many seconds it took."""
    step, reset = opened.env.step, opened.env.reset
    begun = perf_counter()
    if opened.told:
        for action in actions:
            if step(action).last():
                reset()
    else:
        for action in actions:
            _, _, terminated, truncated, _ = step(action)
            if terminated or truncated:
                reset()
    return perf_counter() - begun


def difference(recorded: Iterator[Episode], env: gym.Env[Any, Any], actions: Sequence[Any]) -> str | None:
    """Play once more; return what of a recording differs first, values or dtypes, or None."""
    # Some keep a reset that nothing followed.
    made = (episode for episode in recorded if len(episode.actions))
    for number, (found, true) in enumerate(itertools.zip_longest(made, _played(env, actions))):
        if found is None or true is None:
            return f"episodes: {'fewer' if found is None else 'more'} than {number + (found is None)}"
        for name, wanted in vars(true).items():
            own = np.asarray(getattr(found, name))
            if name == "truncated" and not (true.terminated[-1] or wanted[-1]):
                # The recording's end cuts the last episode off; some call that truncated.
                own, wanted = own[:-1], wanted[:-1]
            if own.dtype != wanted.dtype or not np.array_equal(own, wanted):
                return name
    return None


def _played(env: gym.Env[Any, Any], actions: Sequence[Any]) -> Iterator[Episode]:
    observation, _ = env.reset(seed=SEED)
    seen, rows = [np.array(observation)], []
    for number, action in enumerate(actions, 1):
        observation, env_reward, terminated, truncated, _ = env.step(action)
        seen.append(np.array(observation))
        rows.append((action, float(env_reward), bool(terminated), bool(truncated)))
        if terminated or truncated or number == len(actions):
            yield Episode(np.array(seen), *(np.array(column) for column in zip(*rows, strict=True)))
            observation, _ = env.reset()
            seen, rows = [np.array(observation)], []


def bytes_in(folder: Path) -> int:
    """Return how many bytes the files below a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
