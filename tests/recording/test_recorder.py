"""The wrapper for a script's own environment: nothing is lost, nothing changes, and it replays."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from recorder_world import HERE, Odd, act, alike, in_a_fresh_process, log_and_rater, recorded
from session_world import enrolled, feedback_rows, opened, step_rows

import rlhf_audit
from rlhf_audit.errors import ConsentError, LockedError, ReplayError, UsageError
from rlhf_audit.log import reader
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.replay import rollout
from rlhf_audit.verification import verify


def test_two_lines_record_what_happens_and_change_nothing(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with rlhf_audit.Recorder(gym.make("CartPole-v1"), log, rater) as env:
        seen = act(env, 300)
    assert alike(seen, act(gym.make("CartPole-v1"), 300))
    # A reset that nothing followed, at the end, says nothing.
    assert alike(recorded(log), seen[: len(recorded(log))]) and len(seen) - len(recorded(log)) <= 1
    assert rollout.replay(log, "s-0001").difference is None


def test_answers_name_the_step_just_made(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with Recorder(gym.make("CartPole-v1"), log, rater) as env:
        env.reset()
        with pytest.raises(UsageError, match="no step to rate"):
            env.rate(1)
        env.step(0)
        env.step(1)
        env.rate(1, latency_s=0.5)
        with pytest.raises(UsageError, match="0 or 1"):
            env.rate(0.5)
        with pytest.raises(UsageError, match="latency"):
            env.rate(1, latency_s=float("nan"))
    (row,) = feedback_rows(log, rater)
    assert (row["episode_id"], row["step"], row["value"], row["latency_s"]) == ("s-0001-e0000", 1, 1.0, 0.5)


def test_a_script_tells_which_policy_acts_and_how_probable_an_action_was(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with Recorder(gym.make("CartPole-v1"), log, rater) as env:
        with pytest.raises(UsageError, match="reset"):
            env.act(0, 0.5)
        env.policy_sha256 = "0" * 64
        env.reset(seed=4)
        env.act(1, 0.25)
        env.step(0)
        env.act(1, 1.0)
        env.policy_sha256 = None
        env.reset(seed=5)
        env.step(0)
    session = reader.session(log, "s-0001")
    assert [e.behaviour_policy_sha256 for e in session.episodes] == ["0" * 64, None]
    assert [[s.action_probability for s in e.steps] for e in session.episodes] == [[0.25, None, 1.0], [None]]
    assert rollout.replay(log, "s-0001").difference is None


def test_the_environment_acts_on_what_is_recorded(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with Recorder(gym.make("Pendulum-v1"), log, rater) as env:
        env.reset(seed=1)
        for number in range(20):
            env.step(np.array([np.sin(number) / 3], np.float64))
    assert rollout.replay(log, "s-0001").difference is None


def test_resets_that_no_step_follows_are_made_again(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with Recorder(gym.make("CartPole-v1"), log, rater) as env:
        env.reset(seed=4)
        env.reset()
        seen = [env.reset()[0], env.step(0)[0]]
        env.reset(seed=9)
        env.reset(seed=10)
        env.step(1)
    session = reader.session(log, "s-0001")
    # Before a reset with a seed an empty episode says nothing.
    assert [(e.reset_seed, len(e.steps)) for e in session.episodes] == [(4, 0), (None, 0), (None, 1), (10, 1)]
    assert np.array_equal(session.episodes[2].steps[0].observation, seen[0])
    assert in_a_fresh_process(log) == [["s-0001", 2, None]]
    assert verify(log.layout.root).ok


def test_odd_rewards_buffers_and_info_come_back(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    keys = ["deep", "n", "array", "bad", "who", "never"]
    with Recorder(Odd(), log, rater, info=keys) as env:
        seen = act(env, 45)
    found = recorded(log)
    assert alike(found, seen[: len(found)]) and len(found) >= 45
    first = json.loads(step_rows(log, env_id="Odd")[0]["info"])
    assert first == {"array": [0, 1], "bad": "nan", "deep": {"x": 0.5}, "n": 1, "who": "<object>"}
    with pytest.raises(ReplayError, match="can't be opened again") as refused:
        rollout.replay(log, "s-0001")
    assert "recorder_world:Odd, which was not made by gymnasium.make" in refused.value.seen


def test_options_of_a_reset_are_recorded_or_refused_before_it(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with Recorder(Odd(), log, rater) as env:
        env.reset(options={"start": 5})
        with pytest.raises(UsageError, match="options of reset"):
            env.reset(options={"start": object()})
        env.step([0.5])
    (episode,) = reader.session(log, "s-0001").episodes
    assert episode.reset_options == '{"start": 5}' and episode.steps[0].observation[0] == 5


WRAPPED = {
    "statistics": lambda env: wrappers.RecordEpisodeStatistics(env),
    "limit": lambda env: wrappers.TimeLimit(env, 9),
    "stack": lambda env: wrappers.FrameStackObservation(env, 3),
    "rescaled": lambda env: wrappers.RescaleObservation(env, np.float32(-1), np.float32(1)),
    "time": lambda env: wrappers.TimeAwareObservation(env),
    "deep": lambda env: wrappers.RecordEpisodeStatistics(
        wrappers.FrameStackObservation(wrappers.TimeLimit(env, 30), 2)
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_gymnasiums_wrappers_are_put_on_again(name: str, tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    made = "MountainCar-v0" if name == "rescaled" else "CartPole-v1"
    with Recorder(WRAPPED[name](gym.make(made)), log, rater) as env:
        act(env, 120)
    found = rollout.replay(log, "s-0001")
    assert (found.steps, found.difference) == (120, None)


def test_a_wrapper_whose_arguments_are_code_can_be_recorded_only(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    halved = wrappers.TransformReward(gym.make("CartPole-v1"), lambda env_reward: env_reward / 2)
    with Recorder(halved, log, rater) as env:
        act(env, 5)
    assert recorded(log)[1][2] == 0.5
    with pytest.raises(ReplayError, match="wrapper TransformReward differs"):
        rollout.replay(log, "s-0001")


def test_a_recorder_within_wrappers_records_what_it_sees(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with wrappers.RecordEpisodeStatistics(Recorder(gym.make("CartPole-v1"), log, rater)) as env:
        act(env, 60)
    assert rollout.replay(log, "s-0001").steps == 60


def test_a_wrapper_of_ones_own_can_not_be_put_on_again(tmp_path: Path) -> None:
    class Mine(gym.ObservationWrapper):  # type: ignore[type-arg]
        def observation(self, observation: Any) -> Any:
            return -observation

    log, rater = log_and_rater(tmp_path)
    with Recorder(Mine(gym.make("CartPole-v1")), log, rater) as env:
        act(env, 5)
    with pytest.raises(ReplayError, match="wrapper Mine differs"):
        rollout.replay(log, "s-0001")


ENDINGS = {
    "closed": "env.close()",
    "forgotten": "",
    "exit": "sys.exit(3)",
    "exception": "raise RuntimeError('the script failed')",
    "interrupt": "import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
    "collected": "del env; gc.collect(); print(log.is_held)",
    "kill": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "vanish": "os._exit(0)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_step_returned_from_is_there_however_the_script_ends(ending: str, tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    code = f"""
import gc, os, sys, time
import gymnasium
from session_world import KEY
from rlhf_audit import Recorder
from rlhf_audit.log.store import Log
log = Log({str(log.layout.root)!r} and __import__("pathlib").Path({str(log.layout.root)!r}), signing_key=KEY)
env = Recorder(gymnasium.make("CartPole-v1"), log, {rater!r})
env.reset(seed=5)
for step in range(4):
    env.step(step % 2)
env.rate(1)
env.step(0)
{ENDINGS[ending]}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True)
    sealed = opened(log)
    if ending in ("kill", "vanish"):
        assert reader.session_ids(sealed) == []
        said = _opens(sealed, rater)
        assert said == ["sealed session s-0001, which had been cut short"]
        sealed = opened(log)
    assert "Exception ignored" not in done.stderr
    assert reader.session_ids(sealed)[0] == "s-0001"
    facts = reader.session_facts(sealed, "s-0001")
    assert (facts["n_steps"], facts["n_feedback"]) == (5, 1)
    assert rollout.replay(sealed, "s-0001").difference is None
    assert verify(sealed.layout.root).ok


def _opens(log: Any, rater: str) -> list[str]:
    """Open the log by another recorder; return what is said."""
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        from rlhf_audit.recording import library

        patch.setattr(library._LOGGER, "warning", lambda text, *rest: said.append(text % rest))
        Recorder(gym.make("CartPole-v1"), log, rater).close()
    return said


def test_a_process_that_was_forked_off_does_not_end_the_session(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    code = f"""
import os, sys
from pathlib import Path
import gymnasium
from session_world import KEY
from rlhf_audit import Recorder
from rlhf_audit.log.store import Log
env = Recorder(gymnasium.make("CartPole-v1"), Log(Path({str(log.layout.root)!r}), signing_key=KEY), {rater!r})
env.reset(seed=5)
env.step(0)
if os.fork() == 0:
    sys.exit()
os.wait()
env.step(1)
env.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=HERE, check=True)
    assert reader.session_facts(opened(log), "s-0001")["n_steps"] == 2


def test_nothing_is_recorded_without_a_grant_or_while_another_records(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    refuses = enrolled(log, purposes=())
    with pytest.raises(ConsentError):
        Recorder(gym.make("CartPole-v1"), log, refuses)
    with Recorder(gym.make("CartPole-v1"), log, rater), pytest.raises(LockedError):
        Recorder(gym.make("CartPole-v1"), opened(log), rater)
    # Nothing happened, so nothing was recorded; and the lock is free again.
    with Recorder(gym.make("CartPole-v1"), opened(log), rater) as env:
        env.reset()
        env.step(0)
    assert reader.session_ids(opened(log)) == ["s-0001"]


def test_a_withdrawal_ends_the_answers_not_the_script(tmp_path: Path) -> None:
    from rlhf_audit.consent import register

    log, rater = log_and_rater(tmp_path)
    with Recorder(gym.make("CartPole-v1"), log, rater) as env:
        env.reset()
        env.step(0)
        env.rate(1)
        register.withdraw(opened(log), rater)
        with pytest.raises(ConsentError):
            env.rate(1)
        env.step(1)
    assert reader.session_facts(opened(log), "s-0001")["n_feedback"] == 1


def test_use_out_of_turn_is_told(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    env = Recorder(gym.make("CartPole-v1"), log, rater)
    with pytest.raises(UsageError, match="no episode has begun"):
        env.step(0)
    for seed in (2**63, "x"):
        with pytest.raises(UsageError, match="can't be a seed"):
            env.reset(seed=seed)  # type: ignore[arg-type]
    env.reset(seed=np.int64(3))  # type: ignore[arg-type]
    env.step(0)
    env.close()
    env.close()
    for use in (lambda: env.step(0), env.reset, lambda: env.rate(1)):
        with pytest.raises(UsageError, match="closed"):
            use()
    assert reader.session_facts(log, "s-0001")["n_steps"] == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observations": "none"}, "observations can't be kept"),
        ({"info": "key"}, "info takes the keys"),
        ({"seed": 0.5}, "can't be a seed"),
    ],
)
def test_wrong_arguments_write_nothing(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with pytest.raises(UsageError, match=message):
        Recorder(gym.make("CartPole-v1"), log, rater, **wrong)
    assert not log.is_held and not [*log.layout.journal.iterdir()]


def test_an_observation_of_another_shape_is_refused(tmp_path: Path) -> None:
    class Shapeless(Odd):
        def reset(self, **_: Any) -> Any:
            return np.zeros(1), {}

    log, rater = log_and_rater(tmp_path)
    with Recorder(Shapeless(), log, rater) as env, pytest.raises(UsageError, match="not of its space"):
        env.reset()


def test_a_private_class_can_be_recorded(tmp_path: Path) -> None:
    class _Hidden(Odd):
        pass

    log, rater = log_and_rater(tmp_path)
    with Recorder(_Hidden(), log, rater) as env:
        act(env, 5)
    assert reader.session_facts(log, "s-0001")["env"]["env_id"] == "Hidden"
    with pytest.raises(ReplayError, match="can't be opened again"):
        rollout.replay(log, "s-0001")


@pytest.mark.sweep
def test_half_a_million_steps_in_one_episode(tmp_path: Path) -> None:
    class Endless(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1e9, 1e9, (4,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def __init__(self) -> None:
            self._buffer = np.zeros(4, np.float32)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self._buffer[:] = 0
            return self._buffer, {}

        def step(self, action: int) -> Any:
            self._buffer[0] += 1
            self._buffer[1:] = action, -self._buffer[0], self._buffer[0] / 7
            return self._buffer, float(action), False, False, {}

    n = 500_000
    log, rater = log_and_rater(tmp_path)
    with Recorder(Endless(), log, rater) as env:
        env.reset()
        for step in range(n):
            env.step(step % 3 % 2)
    (episode,) = reader.session(log, "s-0001").episodes
    columns = episode.columns
    steps = np.arange(n, dtype=np.float32)
    actions = np.arange(n) % 3 % 2
    assert np.array_equal(columns.numbers, np.arange(n)) and np.array_equal(columns.actions, actions)
    assert np.array_equal(columns.observations[:, 0], steps)
    assert np.array_equal(columns.observations[1:, 1], actions[:-1].astype(np.float32))
    assert np.array_equal(columns.observations[:, 3], steps / np.float32(7))
    assert np.array_equal(columns.env_rewards, actions) and episode.final_observation[0] == n
    assert verify(log.layout.root).ok
