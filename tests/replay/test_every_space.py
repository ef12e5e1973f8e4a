"""Every playable space: recorded while learning, replayed to the bit, retrained twice, evaluated, shown."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import space_world  # noqa: F401 (registers its environments)
from session_world import SetClock, enrolled, new_log, script

from rlhf_audit.errors import UsageError
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.replay import retrain
from rlhf_audit.replay.evaluation import evaluate
from rlhf_audit.replay.rollout import replay

ENVIRONMENTS = (
    "Taxi-v4",
    "Blackjack-v1",
    "Pendulum-v1",
    "Levers-v0",
    "Spot-v0",
    *(pytest.param(name, marks=pytest.mark.sweep) for name in ("FrozenLake-v1", "Dials-v0")),
    pytest.param("MountainCarContinuous-v0", marks=pytest.mark.sweep),
)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log", SetClock())


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_recorded_replayed_retrained_and_evaluated(log: Log, tmp_path: Path, env_id: str) -> None:
    yes, no = enrolled(log, "always-yes"), enrolled(log, "always-no")
    live = script(
        log,
        yes,
        "always-yes",
        env_id=env_id,
        learn="likelihood",
        to=tmp_path / "live",
        max_feedback=6,
        ask_every=2,
    )
    script(log, no, "always-no", rates="s-0001", ask_every=2)
    script(log, yes, "always-yes", env_id=env_id, policy=tmp_path / "live", max_feedback=3, seed=9)
    assert live.feedback == 6 and live.session_id == "s-0001"
    for session_id in ("s-0001", "s-0003"):
        again = replay(log, session_id)
        assert (again.difference, again.scope) == (None, "everything")
    space = gym.make(env_id).action_space
    for episode in reader.session(log, "s-0001").episodes:
        for step in episode.steps:
            assert space.contains(_typed(space, step.action))
            assert step.action_probability is not None and step.action_probability > 0
    digests = [
        retrain.retrain(log, tmp_path / name, "trusting", seed=4).weights_sha256 for name in ("one", "two")
    ]
    assert digests[0] == digests[1]
    kept = store.load(tmp_path / "one")
    for sampled in (False, True):
        done = evaluate(kept.weights, kept.spec, env_id, 2, seed=1, sampled=sampled)
        assert done == evaluate(kept.weights, kept.spec, env_id, 2, seed=1, sampled=sampled)
        assert np.isfinite(done.mean_return)


def _typed(space: Any, action: Any) -> Any:
    return np.int64(action) if isinstance(space, gym.spaces.Discrete) else action


def test_a_policy_that_altered_its_action_is_found_out(log: Log) -> None:
    from session_world import alter

    script(log, enrolled(log, "always-yes"), "always-yes", env_id="Pendulum-v1", max_feedback=5)
    path = next((log.layout.root / "steps").rglob("*.parquet"))
    alter(path, "action", 2, [np.float32(0.125)])
    difference = replay(log, "s-0001").difference
    assert difference is not None and (difference.step, difference.field) == (2, "action")


def test_a_space_of_varying_size_is_refused_by_name(log: Log) -> None:
    with pytest.raises(UsageError, match="no policy can act in Telling-v0") as refused:
        script(log, enrolled(log, "always-yes"), "always-yes", env_id="Telling-v0", max_feedback=1)
    assert "Text" in refused.value.seen and "Discrete" in refused.value.needed
    assert not reader.session_ids(log)


def test_who_needs_an_oracle_says_so(log: Log) -> None:
    for name in ("oracle", "flip-20", "inverted", "favours-1", "tires", "fast"):
        with pytest.raises(UsageError, match=f"'{name}' can't judge 'Taxi-v4'") as refused:
            script(log, enrolled(log, name), name, env_id="Taxi-v4", max_feedback=1)
        assert "always-yes" in refused.value.fix


def test_a_policy_of_another_environment_is_refused(log: Log, tmp_path: Path) -> None:
    rater = enrolled(log, "always-yes")
    script(log, rater, "always-yes", env_id="Taxi-v4", learn="article", to=tmp_path / "taxi", max_feedback=2)
    with pytest.raises(UsageError, match="not for Pendulum-v1") as refused:
        script(log, rater, "always-yes", env_id="Pendulum-v1", policy=tmp_path / "taxi", max_feedback=2)
    assert refused.value.seen == "500 inputs, 6 actions"
    assert refused.value.needed == "3 inputs, actions of 1 dimensions: a number"


@pytest.mark.parametrize(
    ("env_id", "looks"),
    [("Levers-v0", dict), ("Pendulum-v1", list), ("Taxi-v4", int), ("Dials-v0", list), ("Spot-v0", int)],
)
def test_show_says_actions_in_words(
    log: Log, env_id: str, looks: type, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from rlhf_audit.cli import show

    script(log, enrolled(log, "always-yes"), "always-yes", env_id=env_id, max_feedback=2)
    show.run(log.layout.root, "feedback", as_json=True)
    rows = json.loads(capsys.readouterr().out)["result"]["rows"]
    assert len(rows) == 2
    assert all(isinstance(row["action"], looks) and 0 < len(row["action_meaning"]) <= 60 for row in rows)
