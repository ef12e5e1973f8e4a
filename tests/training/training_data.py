"""Fixed synthetic answers, scripted CartPole answers, and the digests that a fresh process prints."""

import json
import os

import numpy as np

from rlhf_audit.envs import open_env
from rlhf_audit.policy.heads import draw_action
from rlhf_audit.policy.live import LiveLearner
from rlhf_audit.policy.network import (
    NetworkSpec,
    initial_weights,
    probabilities,
    weights_sha256,
)
from rlhf_audit.raters.oracles import oracle_action
from rlhf_audit.replay.evaluation import evaluate
from rlhf_audit.replay.trainer import train
from rlhf_audit.seeds import generator
from rlhf_audit.types import RatedSteps, Weights

SPEC = NetworkSpec(4, 2)
PANEL = ("oracle", "oracle", "flip-10", "always-yes", "inverted")


def synthetic(n: int, n_raters: int = 3, seed: int = 0) -> RatedSteps:
    """Return ``n`` answers about a linear rule; the last rater says the opposite. No environment, no libm."""
    draws = generator(seed, "synthetic")
    observations = (draws.integers(-1000, 1000, (n, 4)) / 500).astype(np.float32)
    actions = draws.integers(0, 2, n)
    right = (observations @ np.array([0, 0.25, 1, 0.5], np.float32) > 0) == (actions == 1)
    raters = np.arange(n) % n_raters
    values = np.where(raters == n_raters - 1, ~right, right) if n_raters > 2 else right
    return RatedSteps(
        observations,
        actions,
        values.astype(np.float32),
        raters,
        tuple(f"r-{index}" for index in range(n_raters)),
        np.arange(n) // 20,
        np.full(n, np.nan, np.float32),
        2,
    )


def rated(
    env_id: str,
    n: int,
    seed: int,
    raters: tuple[str, ...] = ("oracle",),
    *,
    in_turn: bool = True,
    weights: Weights | None = None,
) -> tuple[RatedSteps, NetworkSpec]:
    """Return scripted answers about every 10th step of a policy, untrained by default, that samples.

    ``in_turn`` passes each question to the next rater; otherwise each rates one run of steps.
    """
    env = open_env(env_id)
    spec = NetworkSpec(int(env.observation_space.shape[0]), int(env.action_space.n))
    weights = weights or initial_weights(spec, seed)
    draws, answers = generator(seed, "act"), generator(seed, "answer")
    rows: list[tuple[np.ndarray, int, float, int, int]] = []
    step, episode, observation = 0, -1, None
    while len(rows) < n:
        if observation is None:
            episode += 1
            observation, _ = env.reset(seed=seed * 100_003 + episode)
        action = draw_action(probabilities(weights, observation[None])[0], draws.random())
        if step % 10 == 0:
            rater = len(rows) % len(raters) if in_turn else len(rows) * len(raters) // n
            right = oracle_action(env_id, observation) == action
            value = _says(raters[rater], right, answers.random())
            rows.append((observation, action, value, rater, episode))
        step += 1
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation = None
    seen, actions, values, rater_of, episodes = zip(*rows, strict=True)
    data = RatedSteps(
        np.array(seen, np.float32),
        np.array(actions, np.int64),
        np.array(values, np.float32),
        np.array(rater_of, np.int64),
        tuple(f"r-{index}" for index in range(len(raters))),
        np.array(episodes, np.int64),
        np.full(n, np.nan, np.float32),
        spec.n_actions,
    )
    return data, spec


def in_rounds(env_id: str, n: int, rounds: int, seed: int) -> tuple[RatedSteps, NetworkSpec]:
    """Return oracle answers of sessions, each under the policy retrained from those before it."""
    parts: list[RatedSteps] = []
    weights = None
    for turn in range(rounds):
        part, spec = rated(env_id, n // rounds, seed * 1_000 + turn, weights=weights)
        parts.append(part)
        if turn < rounds - 1:
            weights = train(joined(parts), spec, seed=seed).weights
    return joined(parts), spec


def joined(parts: list[RatedSteps]) -> RatedSteps:
    """Return the rows of several logs with the same raters, one after the other."""
    firsts = np.cumsum([0, *(int(part.episodes.max()) + 1 for part in parts)])
    return RatedSteps(
        np.concatenate([part.observations for part in parts]),
        np.concatenate([part.actions for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.raters for part in parts]),
        parts[0].rater_ids,
        np.concatenate([part.episodes + first for part, first in zip(parts, firsts, strict=False)]),
        np.concatenate([part.action_probabilities for part in parts]),
        parts[0].n_actions,
    )


def mean_return(env_id: str, data: RatedSteps, spec: NetworkSpec, algorithm: str, seed: int) -> float:
    """Train on ``data`` and return the mean return of 100 greedy episodes."""
    policy = train(data, spec, algorithm, seed)
    return evaluate(policy.weights, spec, env_id, 100, seed).mean_return


def _says(name: str, right: bool, uniform: float) -> float:
    if name == "always-yes":
        return 1.0
    flipped = name == "inverted" or (name == "flip-10" and uniform < 0.1)
    return float(right != flipped)


def digests() -> dict[str, str]:
    """Train offline and live on fixed answers, and return the digests of the weights."""
    data = synthetic(200)
    found = {
        name: train(data, SPEC, name, 0).weights_sha256 for name in ("likelihood", "trusting", "article")
    }
    learner = LiveLearner(SPEC, initial_weights(SPEC, 0), seed=0)
    for row in range(80):
        learner.update(data.observations[row], int(data.actions[row]), float(data.values[row]))
    return {**found, "live": weights_sha256(learner.weights)}


if __name__ == "__main__":
    if cores := os.environ.get("TEST_CORES"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    print(json.dumps(digests()))
