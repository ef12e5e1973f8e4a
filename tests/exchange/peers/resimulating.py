"""Runs in a peer's own Python: play what the peer reads once more, and compare every value."""

import json
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np


def same(recorded, made) -> bool:
    if isinstance(made, tuple):
        return len(recorded) == len(made) and all(map(same, recorded, made))
    made = np.asarray(made)
    recorded = np.asarray(recorded)
    # A peer may hand numbers on as Python's; what it holds must be the very value.
    return recorded.shape == made.shape and bool((recorded.astype(made.dtype) == made).all())


def environments(root):
    """Return each environment's record by its name in the export."""
    return json.loads((Path(root) / "export.json").read_text())["environments"]


def open_again(record):
    import exchange_pictures  # noqa: F401 - registers its environment

    return gym.make(record["env_id"], **record["spec"]["kwargs"])


def check(record, episodes) -> int:
    """Play episodes again: ``(reset_seed, observations, actions, env_rewards, terminated, truncated)``."""
    env = open_again(record)
    steps = 0
    for seed, observations, actions, env_rewards, terminated, truncated in episodes:
        observation, _ = env.reset(seed=seed)
        for step, action in enumerate(actions):
            assert same(observations[step], observation), (record["env_id"], step, "observation")
            given = np.asarray(action, env.action_space.dtype)
            observation, env_reward, ends, stops, _ = env.step(given if given.shape else given.item())
            assert float(env_rewards[step]) == float(env_reward), (record["env_id"], step, "env_reward")
            assert (bool(terminated[step]), bool(truncated[step])) == (ends, stops), (record["env_id"], step)
            steps += 1
        assert same(observations[len(actions)], observation), (record["env_id"], "final observation")
    return steps


def tell(**found) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
