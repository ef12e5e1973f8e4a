import gymnasium as gym
import numpy as np
import pytest

from rlhf_audit.errors import UsageError
from rlhf_audit.raters.oracles import ORACLES, n_oracle_actions, oracle_action

LEAST_MEAN_RETURN = {
    "CartPole-v1": 500.0,
    "MountainCar-v0": -110.0,
    "Acrobot-v1": -90.0,
    "LunarLander-v3": 230.0,
}


@pytest.mark.parametrize("env_id", ORACLES)
def test_an_oracle_is_good(env_id):
    returns = [_play(env_id, seed) for seed in range(20)]
    assert np.mean(returns) >= LEAST_MEAN_RETURN[env_id]


@pytest.mark.parametrize("env_id", ORACLES)
def test_actions_are_those_of_the_environment(env_id):
    env = gym.make(env_id)
    assert n_oracle_actions(env_id) == env.action_space.n
    env.observation_space.seed(0)
    chosen = {oracle_action(env_id, env.observation_space.sample()) for _ in range(500)}
    assert chosen <= set(range(env.action_space.n)) and len(chosen) > 1


def test_the_landers_oracle_is_gymnasiums_heuristic():
    from gymnasium.envs.box2d.lunar_lander import heuristic

    env = gym.make("LunarLander-v3")
    env.observation_space.seed(1)
    for _ in range(300):
        # Doubles: in float32 the reference rounds otherwise, which matters on a threshold only.
        seen = env.observation_space.sample().astype(np.float64)
        seen[6:] = np.round(seen[6:])
        assert oracle_action("LunarLander-v3", seen) == heuristic(env, seen)


def test_other_environments_have_no_oracle():
    with pytest.raises(UsageError) as refused:
        oracle_action("CartPole-v0", np.zeros(4))
    assert refused.value.fix == "did you mean CartPole-v1?"
    with pytest.raises(UsageError):
        n_oracle_actions("Blackjack-v1")


def _play(env_id: str, seed: int) -> float:
    env = gym.make(env_id, disable_env_checker=True)
    observation, _ = env.reset(seed=seed)
    total = 0.0
    while True:
        observation, reward, terminated, truncated, _ = env.step(oracle_action(env_id, observation))
        total += float(reward)
        if terminated or truncated:
            return total
