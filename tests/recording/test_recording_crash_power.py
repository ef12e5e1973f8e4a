"""Power cuts: whatever of the unsynced reached the disk, a rated step is there, and nothing is made up."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from power_cut import Disk
from session_world import Reusing, enrolled, new_log, opened

from rlhf_audit.log import reader, reopened, trajectory, writer
from rlhf_audit.log.part import PartShape
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.verification import verify


class Telling(Reusing):
    """The same, with a text of another length at every step: what goes through the side stream."""

    observation_space = gym.spaces.Dict(n=gym.spaces.Discrete(1000), text=gym.spaces.Text(40))  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return {"n": 0, "text": ""}, {}

    def step(self, action: int) -> Any:
        observation, *rest = super().step(action)
        n = int(observation[0])
        return {"n": n, "text": "abcdefg"[:n]}, *rest


class Large(Reusing):
    """The same, in observations so large that their own pages are synced."""

    observation_space = gym.spaces.Box(-1000, 1000, (2000,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        return self._large(observation), info

    def step(self, action: int) -> Any:
        observation, *rest = super().step(action)
        return self._large(observation), *rest

    def _large(self, observation: Any) -> Any:
        return np.resize(observation, 2000)


if "LargeCut-v0" not in gym.registry:
    gym.register("LargeCut-v0", entry_point="test_recording_crash_power:Large")
if "TellingCut-v0" not in gym.registry:
    gym.register("TellingCut-v0", entry_point="test_recording_crash_power:Telling")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(PartShape, "slots", property(lambda self: 8))
    monkeypatch.setattr(writer, "_SYNC_EVERY_S", 0.02)
    yield


def script(env: Recorder, n_steps: int, disk: Disk | None = None, every: int = 5) -> None:
    """Act at random, and rate every fifth step."""
    actions = np.random.default_rng(1)
    over = True
    for step in range(n_steps):
        if over:
            env.reset()
        *_, terminated, truncated, _ = env.step(int(actions.integers(2)))
        over = terminated or truncated
        if step % every == 0:
            env.rate(step % 2)
            if disk is not None:
                disk.told += 1


def check(log: Log, told: int) -> int:
    """Assert that a log is whole and holds what was acknowledged; return its steps."""
    found = verify(log.layout.root)
    assert found.ok, found.problems
    if not reader.session_ids(log):
        assert not told
        return 0
    session = reader.session(log, "s-0001")
    assert session.feedback is not None
    rated = [(row.episode_id, row.step) for row in session.feedback]
    assert told <= len(rated) <= told + 1
    assert len(set(rated)) == len(rated)
    steps = {(step.episode_id, step.step): step for episode in session.episodes for step in episode.steps}
    assert len(steps) == sum(len(episode.steps) for episode in session.episodes) == session.facts["n_steps"]
    assert set(rated) <= set(steps), "a rated step is lost"
    actions = np.random.default_rng(1)
    for number, episode in enumerate(session.episodes):
        assert episode.episode == number
        before = None
        for n, step in enumerate(episode.steps):
            assert step.step == n
            assert shown(step.observation, n, before)
            assert step.action == actions.integers(2)
            before = step.action
        assert shown(episode.final_observation, len(episode.steps), before), "a made-up last observation"
        whole = len(episode.steps) == 7
        assert whole == episode.steps[-1].terminated
        assert whole or number == len(session.episodes) - 1
    return len(steps)


def shown(observation: Any, n: int, before: int | None) -> bool:
    if isinstance(observation, dict):
        return bool(observation["n"] == n and observation["text"] == "abcdefg"[:n])
    return bool(observation[0] == n and observation[1] == (before or 0))


@pytest.mark.parametrize("name", ["Reusing-v0", "TellingCut-v0", "LargeCut-v0"])
def test_a_power_cut_at_any_sync_takes_no_rated_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "log")
    rater_id = enrolled(log)
    disk = Disk(tmp_path / "log", monkeypatch)
    with Recorder(gym.make(name), log, rater_id) as env:
        script(env, 40, disk)
    monkeypatch.undo()
    disk.release()
    monkeypatch.setattr(PartShape, "slots", property(lambda self: 8))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(reopened, "boot", lambda: "another")
    luck, kept = random.Random(1), set()
    for number, moment in enumerate(disk.moments):
        for drawn in (None, luck):
            if number % 4 and drawn is None:
                continue
            root = disk.fail(moment, tmp_path / "left", drawn)
            after = opened(Log(root))
            with after.writing():
                writer.recover(after)
            kept.add(check(after, moment.told))
            shutil.rmtree(root)
    assert len(kept) > 5
    assert max(kept) == 40
    assert trajectory.boot() != "another"
