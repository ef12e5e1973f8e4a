"""What the tests of interrupts, full disks and damage share: a recorder of small parts, and its log."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from session_world import enrolled, new_log, opened

from rlhf_audit.log import reader, writer
from rlhf_audit.log.part import PartShape
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.verification import verify


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(PartShape, "slots", property(lambda self: 8))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    yield


def recorder(tmp_path: Path, name: str = "Reusing-v0", **options: Any) -> Recorder:
    log = new_log(tmp_path / "log")
    return Recorder(
        gym.make(name, disable_env_checker=True), log, enrolled(log, scripted="oracle"), **options
    )


def act(env: Recorder, n_steps: int) -> None:
    over = True
    for step in range(n_steps):
        if over:
            env.reset()
        *_, over, _, _ = env.step(step % 2)
        if step % 5 == 0:
            env.rate(1)


def left_open(tmp_path: Path, env: Recorder) -> Log:
    """Return the log as a kill would leave it now."""
    # A copy takes its time: the thread beside must not move files under it.
    env._session.writer._beside.submit(int).result()
    shutil.copytree(tmp_path / "log", tmp_path / "left", ignore=shutil.ignore_patterns(".lock"))
    env.close()
    return opened(Log(tmp_path / "left"))


def recovered(log: Log) -> reader.RecordedSession:
    with log.writing():
        assert writer.recover(log) == ["s-0001"]
    found = verify(log.layout.root)
    assert found.ok, found.problems
    return reader.session(log, "s-0001")


def right(session: reader.RecordedSession) -> int:
    """Assert that every episode hangs together; return the number of steps."""
    for episode in session.episodes:
        before = 0
        for n, step in enumerate(episode.steps):
            assert (step.step, list(step.observation)) == (n, [n, before])
            assert not step.terminated or n == 6
            before = step.action
        assert list(episode.final_observation) == [len(episode.steps), before]
    assert len({episode.episode_id for episode in session.episodes}) == len(session.episodes)
    return sum(len(episode.steps) for episode in session.episodes)
