"""How well a policy does: mean return over fresh episodes, with an interval."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlhf_audit.envs import open_env
from rlhf_audit.errors import UsageError
from rlhf_audit.policy import heads
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.replay.algorithms.fitting import no_progress
from rlhf_audit.seeds import child_seed, generator
from rlhf_audit.spaces import describing
from rlhf_audit.types import Weights

_RESAMPLES = 2_000

Env = gym.Env[Any, Any]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        mean_return: Mean over episodes of the sum of env_reward.
        lower: Lower end of the 95 per cent bootstrap interval of the mean.
        upper: Its upper end.
        episodes: How many.
        returns: Each episode's.
    """

    mean_return: float
    lower: float
    upper: float
    episodes: int
    returns: tuple[float, ...]


def evaluate(
    weights: Weights,
    spec: NetworkSpec,
    env_id: str,
    episodes: int = 100,
    seed: int = 0,
    sampled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Play ``episodes`` fresh episodes and return their mean return.

    Args:
        weights: The policy.
        spec: Its shape.
        env_id: Environment; each episode has its own reset seed.
        episodes: At least 1.
        seed: Root seed of resets, sampled actions and the bootstrap.
        sampled: Draw actions from the policy; otherwise take the most probable.
        progress: Told the finished episodes and all of them.

    Raises:
        UsageError: ``episodes`` is below 1, or the environment does not fit ``spec``.

    References:
        Efron 1979 (percentile bootstrap).
    """
    if episodes < 1:
        raise UsageError("an evaluation needs an episode", seen=f"--episodes {episodes}", needed="1 or more")
    envs = [open_env(env_id) for _ in range(episodes)]
    try:
        returns = _play(weights, spec, envs, seed, sampled, progress or no_progress)
    finally:
        for env in envs:
            env.close()
    draws = generator(seed, "evaluation", "bootstrap").integers(0, episodes, (_RESAMPLES, episodes))
    lower, upper = np.quantile(returns[draws].mean(axis=1), [0.025, 0.975])
    return Evaluation(float(returns.mean()), float(lower), float(upper), episodes, tuple(returns.tolist()))


def _play(
    weights: Weights,
    spec: NetworkSpec,
    envs: list[Env],
    seed: int,
    sampled: bool,
    progress: Callable[[int, int], None],
) -> npt.NDArray[np.float64]:
    """Step all episodes together, so that the policy sees one batch a step; return each one's sum."""
    seeds = [child_seed(seed, "evaluation", "reset", index) for index in range(len(envs))]
    current = [env.reset(seed=reset % 2**31)[0] for env, reset in zip(envs, seeds, strict=True)]
    interface = _interface(envs[0], spec)
    draws = [generator(seed, "evaluation", "actions", index) for index in range(len(envs))]
    returns = np.zeros(len(envs))
    playing = list(range(len(envs)))
    while playing:
        rows = np.stack([interface.encode(current[index]) for index in playing])
        said = heads.opinions(spec, weights, rows)
        going = []
        for row, index in enumerate(playing):
            action = (
                interface.act(weights, said, row, draws[index])[0]
                if sampled
                else interface.likeliest(said, row)
            )
            current[index], reward, terminated, truncated, _ = envs[index].step(action)
            returns[index] += float(reward)
            if not (terminated or truncated):
                going.append(index)
        if len(going) < len(playing):
            progress(len(envs) - len(going), len(envs))
        playing = going
    return returns


def _interface(env: Env, spec: NetworkSpec) -> Interface:
    spaces = describing.describe(env.observation_space), describing.describe(env.action_space)
    found = Interface(*spaces, hidden=spec.hidden)
    if found.spec != spec:
        raise UsageError(
            "the policy was made for another kind of environment",
            seen=found.spec.in_words,
            needed=spec.in_words,
        )
    return found
