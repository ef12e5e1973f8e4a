"""Environments of every kind, recorded with random actions, come out again to the bit in a fresh process."""

from pathlib import Path

import pytest
from recorder_world import act, in_a_fresh_process, log_and_rater

from rlhf_audit import envs
from rlhf_audit.errors import UsageError
from rlhf_audit.recording.recorder import Recorder

# Steps each; images are large.
ENVIRONMENTS = {
    "CartPole-v1": 200,
    "Pendulum-v1": 250,
    "MountainCarContinuous-v0": 200,
    "FrozenLake-v1": 200,
    "Blackjack-v1": 200,
    "Taxi-v4": 250,
    "LunarLander-v3": 300,
    "LunarLanderContinuous-v3": 300,
    "HalfCheetah-v5": 150,
    "Humanoid-v5": 100,
    "ALE/Pong-v5": 100,
    "ALE/Breakout-v5": 150,
}


def test_every_listed_environment_replays_in_a_fresh_process(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    for env_id, n_steps in ENVIRONMENTS.items():
        with Recorder(envs.open_env(env_id), log, rater, info=["lives", "x_position"]) as env:
            act(env, n_steps)
    wanted = [[f"s-{n:04d}", steps, None] for n, steps in enumerate(ENVIRONMENTS.values(), 1)]
    assert in_a_fresh_process(log) == wanted


@pytest.mark.parametrize(("env_id", "extra"), [("ALE/Pong-v5", "atari"), ("HalfCheetah-v5", "mujoco")])
def test_a_missing_extra_is_named(env_id: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] in ("ale_py", "mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UsageError, match="not installed") as refused:
        envs.open_env(env_id)
    assert refused.value.fix == f"pip install 'rlhf-audit[{extra}]'"
