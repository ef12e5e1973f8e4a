"""A vector of environments is recorded as streams, whatever resets them; each replays in order."""

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as around
from recorder_world import Odd, in_a_fresh_process, log_and_rater
from session_world import feedback_rows

import rlhf_audit
from rlhf_audit.errors import ReplayError, UsageError
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.recording.vector import VectorRecorder
from rlhf_audit.replay import rollout
from rlhf_audit.verification import verify

KINDS = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}


def vector(kind: str, mode: AutoresetMode, env_id: str = "CartPole-v1", n: int = 3, **options: Any) -> Any:
    return KINDS[kind]([partial(gym.make, env_id, **options)] * n, autoreset_mode=mode)


def streams(log: Log, session_id: str = "s-0001") -> list[list[Any]]:
    """Return each stream's episodes."""
    found: dict[int, list[Any]] = {}
    for episode in reader.session(log, session_id).episodes:
        found.setdefault(episode.stream, []).append(episode)
    return [found[stream] for stream in sorted(found)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_each_stream_is_what_one_environment_alone_does(
    kind: str, mode: AutoresetMode, tmp_path: Path
) -> None:
    log, rater = log_and_rater(tmp_path)
    actions = np.random.default_rng(2).integers(0, 2, (120, 3))
    with rlhf_audit.VectorRecorder(vector(kind, mode), log, rater) as env:
        env.reset(seed=11)
        for row in actions:
            env.step(row)
    assert in_a_fresh_process(log)[0][2] is None
    assert verify(log.layout.root).ok
    for stream, episodes in enumerate(streams(log)):
        assert [e.reset_seed for e in episodes] == [11 + stream, *[None] * (len(episodes) - 1)]
        assert len({e.episode_id for e in episodes}) == len(episodes)
        assert all(e.steps[-1].terminated for e in episodes[:-1]) and len(episodes) > 3
        # One row for each action that reached the environment: not for those that a reset swallowed.
        lost = len(episodes) - 1 if mode is AutoresetMode.NEXT_STEP else 0
        pending = episodes[-1].steps[-1].terminated and mode is AutoresetMode.NEXT_STEP
        assert sum(len(e.steps) for e in episodes) == 120 - lost
        assert not pending or not lost
        alone = gym.make("CartPole-v1")
        for episode in episodes:
            observation = alone.reset(seed=episode.reset_seed)[0]
            for step in episode.steps:
                assert np.array_equal(step.observation, observation)
                observation, env_reward, terminated, *_ = alone.step(step.action)
                assert (step.env_reward, step.terminated) == (env_reward, terminated)
            assert np.array_equal(episode.final_observation, observation)


def test_a_vector_that_does_not_reset_by_itself(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with VectorRecorder(vector("sync", AutoresetMode.DISABLED), log, rater) as env:
        env.reset(seed=[5, None, 9], options={})
        for number in range(60):
            *_, terminated, truncated, _ = env.step(np.array([0, 1, number % 2]))
            over = terminated | truncated
            if over.any():
                options = {"reset_mask": over}
                env.reset(options=options)
                assert options == {"reset_mask": over}, "the script's own options stay whole"
        env.reset(seed=77, options={"reset_mask": np.array([False, True, False])})
        env.step(np.array([0, 0, 0]))
    first, second, third = streams(log)
    assert (first[0].reset_seed, third[0].reset_seed, second[-1].reset_seed) == (5, 9, 78)
    assert all(e.reset_seed is None for e in [*first[1:], *third[1:], *second[1:-1]])
    assert all(e.reset_options == "{}" for e in first)
    assert len(first) > 4 and all(e.steps[-1].terminated for e in first[:-1])
    # One whose first seed the script left open gets one: it could not be made again by anybody.
    assert second[0].reset_seed is not None


@pytest.mark.parametrize("kind", KINDS)
def test_without_seeds_of_the_scripts_own_streams_get_some(kind: str, tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    for number in range(2):
        with VectorRecorder(vector(kind, AutoresetMode.NEXT_STEP), log, rater, seed=number) as env:
            if number and kind == "async":
                # gymnasium's other vector can't begin with some of them.
                env.reset(options={"reset_mask": np.array([True, False, False])})
            env.reset()
            env.reset()
            env.step(np.zeros(3, int))
            env.reset()
            env.step(np.ones(3, int))
    assert [row[1:] for row in in_a_fresh_process(log)] == [[6, None], [6, None]]
    seeds = {e.reset_seed for name in ("s-0001", "s-0002") for own in streams(log, name) for e in own[:1]}
    assert None not in seeds and len(seeds) == 6


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_an_answer_names_the_stream_and_the_step(mode: AutoresetMode, tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with VectorRecorder(vector("sync", mode, n=2, max_episode_steps=3), log, rater) as env:
        env.reset(seed=1)
        with pytest.raises(UsageError, match="no step to rate"):
            env.rate(1, stream=0)
        for _ in range(3):
            env.step(np.array([0, 1]))
        env.rate(0, stream=1)
        with pytest.raises(UsageError, match="no such environment"):
            env.rate(1, stream=2)
        env.step(np.array([0, 1]))
        if mode is AutoresetMode.NEXT_STEP:
            with pytest.raises(UsageError, match="no step to rate"):
                env.rate(1, stream=1)
        else:
            env.rate(1, stream=1)
    rows = [(row["episode_id"], row["step"], row["value"]) for row in feedback_rows(log, rater)]
    assert rows[0] == ("s-0001-e0001", 2, 0.0)
    assert rows[1:] == ([] if mode is AutoresetMode.NEXT_STEP else [("s-0001-e0003", 0, 1.0)])


class Telling(gym.Env[Any, Any]):
    observation_space = gym.spaces.Dict(a=gym.spaces.Box(-9, 9, (2,)), b=gym.spaces.Discrete(99))
    action_space = gym.spaces.Dict(go=gym.spaces.Box(-1, 1, (1,)), way=gym.spaces.Discrete(3))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._n = 0
        return self._seen(0.0), {"n": -1}

    def step(self, action: Any) -> Any:
        self._n += 1
        over = self._n == 4
        info = (
            {"n": self._n} | ({"deep": {"x": 0.5}} if self._n == 2 else {}) | ({"end": "yes"} if over else {})
        )
        return self._seen(float(action["go"][0])), float(self._n), over, False, info

    def _seen(self, go: float) -> Any:
        return {"a": np.array([go, self.np_random.random()], np.float32), "b": np.int64(self._n)}


if "TellingAll-v0" not in gym.registry:
    gym.register("TellingAll-v0", entry_point=Telling)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_info_and_nested_spaces_are_those_of_one_environment(
    kind: str, mode: AutoresetMode, tmp_path: Path
) -> None:
    log, rater = log_and_rater(tmp_path)
    keys = ["n", "deep", "end"]
    with VectorRecorder(vector(kind, mode, "TellingAll-v0", 2), log, rater, info=keys) as env:
        env.reset(seed=3)
        for number in range(11):
            env.step({"go": np.full((2, 1), np.sin(number)), "way": np.array([0, 2])})
    with Recorder(gym.make("TellingAll-v0"), log, rater, info=keys) as alone:
        alone.reset(seed=3)
        for number in range(4):
            alone.step({"go": np.full(1, np.sin(number)), "way": 0})
    ones, twos = streams(log)[0][0], streams(log, "s-0002")[0][0]
    assert [step.info for step in ones.steps] == [step.info for step in twos.steps]
    assert ones.steps[1].info == '{"deep": {"x": 0.5}, "n": 2}'
    assert ones.steps[3].info == '{"end": "yes", "n": 4}'
    for name in ("s-0001", "s-0002"):
        assert rollout.replay(log, name).difference is None


def test_wrappers_within_are_put_on_again(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    wrapped = gym.make_vec(
        "CartPole-v1",
        num_envs=2,
        vectorization_mode="sync",
        wrappers=(partial(gym.wrappers.FrameStackObservation, stack_size=2),),
    )
    with VectorRecorder(around.RecordEpisodeStatistics(wrapped), log, rater) as env:
        env.reset(seed=1)
        for _ in range(40):
            env.step(env.action_space.sample())
    assert rollout.replay(log, "s-0001").difference is None


def test_wrappers_around_and_vectors_without_single_environments_are_told(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    made = partial(gym.make_vec, "CartPole-v1", num_envs=2)
    for env in (
        around.NormalizeObservation(made(vectorization_mode="sync")),
        made(vectorization_mode="vector_entry_point"),
    ):
        with VectorRecorder(env, log, rater) as recorder:
            recorder.reset(seed=1)
            for _ in range(30):
                recorder.step(np.array([0, 1]))
    assert reader.session_facts(log, "s-0002")["env"]["env_id"] == "CartPoleVectorEnv"
    with pytest.raises(ReplayError, match="wrapper NormalizeObservation"):
        rollout.replay(log, "s-0001")
    with pytest.raises(ReplayError, match="can't be opened again"):
        rollout.replay(log, "s-0002")
    assert verify(log.layout.root).ok


def test_what_can_not_be_recorded_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    unequal = SyncVectorEnv([partial(gym.make, "CartPole-v1", max_episode_steps=n) for n in (5, 6)])
    with pytest.raises(UsageError, match="differ"):
        VectorRecorder(unequal, log, rater)
    silent = vector("sync", AutoresetMode.NEXT_STEP)
    silent.metadata = {}
    with pytest.raises(UsageError, match="does not say when"):
        VectorRecorder(silent, log, rater)
    assert not log.is_held
    env = VectorRecorder(vector("sync", AutoresetMode.NEXT_STEP), log, rater)
    with pytest.raises(UsageError, match="no episode has begun"):
        env.step(np.zeros(3, int))
    env.close()
    with pytest.raises(UsageError, match="closed"):
        env.reset()
    assert reader.session_ids(log) == []


def test_environments_without_a_spec(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    with VectorRecorder(SyncVectorEnv([Odd, Odd]), log, rater) as env:
        env.reset()
        for _ in range(25):
            env.step(env.action_space.sample())
    assert [len(e.steps) for e in streams(log)[1]] == [20, 4]
    with pytest.raises(ReplayError, match="can't be opened again"):
        rollout.replay(log, "s-0001")
