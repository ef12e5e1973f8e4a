"""A step that fails ends its episode; what the process leaves behind at any such moment is whole."""

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from session_world import Reusing, enrolled, new_log, opened

from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, RlhfAuditError, UsageError
from rlhf_audit.log import reader, trajectory, writer
from rlhf_audit.log.part import PartShape
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.recording.vector import VectorRecorder
from rlhf_audit.verification import verify


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(PartShape, "slots", property(lambda self: 8))
    yield


class Failing(Reusing):
    """Refuses every action but 0 and 1, when it has already moved on."""

    def step(self, action: int) -> Any:
        result = super().step(action)
        if action not in (0, 1):
            raise ValueError(action)
        return result


class Precise(Reusing):
    """Gives more digits than its space has."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        return observation.astype(np.float64) + 0.1, info


def recorder(tmp_path: Path, env: gym.Env[Any, Any], **options: Any) -> tuple[Log, Recorder]:
    log = new_log(tmp_path / "log")
    return log, Recorder(env, log, enrolled(log, scripted="oracle"), **options)


@pytest.mark.parametrize("info", [(), ("key",)])
def test_after_a_step_that_fails_only_reset_helps(info: tuple[str, ...], tmp_path: Path) -> None:
    log, env = recorder(tmp_path, Failing(), info=info)
    with env:
        with pytest.raises(UsageError, match="no episode has begun"):
            env.step(0)
        env.reset()
        step = env.step
        for action in (0, 1):
            step(action)
        with pytest.raises(ValueError, match="7"):
            step(7)
        for again in (step, env.step):
            with pytest.raises(UsageError, match="no episode has begun"):
                again(0)
        with pytest.raises(UsageError, match="no step to rate"):
            env.rate(1)
        env.reset()
        env.step(1)
    session = reader.session(log, "s-0001")
    assert [len(episode.steps) for episode in session.episodes] == [2, 1]
    assert list(session.episodes[0].final_observation) == [2, 1]


def test_a_class_of_its_own_sees_every_step(tmp_path: Path) -> None:
    class Watching(Recorder):
        seen = 0

        def step(self, action: Any) -> Any:
            self.seen += 1
            return super().step(action)

    log = new_log(tmp_path / "log")
    with Watching(Reusing(), log, enrolled(log, scripted="oracle")) as env:
        env.reset()
        env.step(0)
        env.step(1)
    assert env.seen == 2
    assert reader.session_facts(log, "s-0001")["n_steps"] == 2


def test_a_vector_of_which_one_fails_is_reset_as_a_whole(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    several = gym.vector.SyncVectorEnv([Failing, Failing])
    with VectorRecorder(several, log, enrolled(log, scripted="oracle")) as envs:
        envs.reset()
        envs.step(np.array([0, 1]))
        envs.action_space = gym.spaces.MultiDiscrete([9, 9])
        with pytest.raises(ValueError, match="7"):
            envs.step(np.array([0, 7]))
        with pytest.raises(UsageError, match="no episode has begun"):
            envs.step(np.array([0, 0]))
        with pytest.raises(UsageError, match="no episode has begun"):
            envs.reset(options={"reset_mask": np.array([True, False])})
        envs.reset()
        envs.step(np.array([1, 1]))
    session = reader.session(log, "s-0001")
    assert sorted((episode.stream, len(episode.steps)) for episode in session.episodes) == [
        (0, 1),
        (0, 1),
        (1, 1),
        (1, 1),
    ]


def test_digits_that_the_space_does_not_have_are_refused(tmp_path: Path) -> None:
    log, env = recorder(tmp_path, Precise())
    with env, pytest.raises(UsageError, match="not of its space") as refused:
        env.reset()
    assert "DtypeObservation" in refused.value.fix
    assert not reader.session_ids(log)


@pytest.mark.parametrize("then", ["kill", "close", "reset"])
def test_interrupted_between_two_parts(then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next part is announced, and the episode has ended in the one before."""
    log, env = recorder(tmp_path, Reusing())
    env.reset()
    for _ in range(4):
        env.step(0)
    env.reset()
    with monkeypatch.context() as patched:
        real = trajectory.Trajectory._go_on_in

        def interrupted(self: Any, opened: Any) -> None:
            if opened.number:
                raise KeyboardInterrupt
            real(self, opened)

        patched.setattr(trajectory.Trajectory, "_go_on_in", interrupted)
        with pytest.raises(KeyboardInterrupt):
            for _ in range(6):
                env.step(0)
    if then == "kill":
        root = tmp_path / "left"
        shutil.copytree(tmp_path / "log", root, ignore=shutil.ignore_patterns(".lock"))
        env.close()
        log = opened(Log(root))
        with log.writing():
            assert writer.recover(log) == ["s-0001"]
    elif then == "close":
        env.close()
    else:
        env.reset()
        env.step(1)
        env.close()
    assert verify(log.layout.root).ok
    lengths = [len(episode.steps) for episode in reader.session(log, "s-0001").episodes]
    assert lengths == [4, 3, 1] if then == "reset" else lengths == [4, 3]


def test_parts_in_one_file_stay_until_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, env = recorder(tmp_path, Reusing())
    real = env._session.writer._journal.put

    def full(event: Any, sync: bool = False) -> None:
        if event["event"] == "sealed":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(event, sync)

    monkeypatch.setattr(env._session.writer.stream()._parts, "_put", full)
    env.reset()
    done = 0
    with pytest.raises(OSError, match="No space"):
        for _ in range(200):
            _, _, over, _, _ = env.step(0)
            done += 1
            if over:
                env.reset()
    assert done > 30
    with pytest.raises(OSError, match="No space"):
        env.close()
    log = opened(Log(tmp_path / "log"))
    with log.writing():
        writer.recover(log)
    assert verify(log.layout.root).ok
    assert reader.session_facts(log, "s-0001")["n_steps"] == done


class Wrong(Reusing):
    """Gives what its space does not hold from the second step on."""

    given: Any = None

    def step(self, action: int) -> Any:
        observation, *rest = super().step(action)
        return (self.given if observation[0] > 1 else observation), *rest


@pytest.mark.parametrize(
    "given",
    [None, 7.0, np.zeros(1, np.float32), np.zeros((1, 2), np.float32), ["1", "2"], np.array([0.1, 1e300])],
    ids=str,
)
@pytest.mark.parametrize("info", [(), ("key",)])
def test_a_later_observation_that_is_not_of_the_space_is_refused(
    given: Any, info: tuple[str, ...], tmp_path: Path
) -> None:
    made = Wrong()
    made.given = given
    log, env = recorder(tmp_path, made, info=info)
    with env:
        env.reset()
        env.step(1)
        with pytest.raises(UsageError, match="not of its space"):
            env.step(1)
        with pytest.raises(UsageError, match="no episode has begun"):
            env.step(1)
    assert reader.session_facts(log, "s-0001")["n_steps"] == 1


def test_other_dtypes_are_taken_where_nothing_is_lost(tmp_path: Path) -> None:
    made = Wrong()
    made.given = [3, 0.5]
    log, env = recorder(tmp_path, made)
    with env:
        env.reset()
        env.step(1)
        env.step(1)
    (episode,) = reader.session(log, "s-0001").episodes
    assert list(episode.final_observation) == [3.0, 0.5]


def test_a_forked_process_records_nothing(tmp_path: Path) -> None:
    log, env = recorder(tmp_path, Reusing())
    env.reset()
    env.step(0)
    pid = os.fork()
    if not pid:
        refused = 0
        for use in (lambda: env.step(1), lambda: env.rate(1), env.reset):
            try:
                use()
            except RlhfAuditError:
                refused += 1
        env._session.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    env.step(0)
    env.rate(1)
    env.close()
    session = reader.session(log, "s-0001")
    assert [step.action for step in session.episodes[0].steps] == [0, 0]
    assert session.feedback is not None and len(session.feedback) == 1


def test_another_thread_is_refused_before_a_part_is_full(tmp_path: Path) -> None:
    log, env = recorder(tmp_path, Reusing())
    env.reset()
    with ThreadPoolExecutor(1) as other:
        for _ in range(4):
            env.step(0)
        with pytest.raises(UsageError, match="another thread"):
            other.submit(env.step, 0).result()
    env.close()
    assert reader.session_facts(log, "s-0001")["n_steps"] == 4


def test_after_a_withdrawal_no_episode_begins(tmp_path: Path) -> None:
    log, env = recorder(tmp_path, Reusing())
    with env:
        env.reset()
        env.step(0)
        elsewhere = opened(Log(log.layout.root))
        register.withdraw(elsewhere, env._session.writer.grant.rater_id)
        with pytest.raises(ConsentError):
            env.reset()
        with pytest.raises(UsageError, match="no episode has begun"):
            env.step(0)
    assert reader.session_facts(Log(log.layout.root), "s-0001")["n_steps"] == 1


class Drawing(Reusing):
    """Draws its first observation, unless it is told to fail when it has drawn."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        drawn = self.np_random.integers(50)
        if options:
            raise ValueError(options)
        self._buffer[:] = drawn, 0
        return self._buffer, {}


def test_what_comes_after_a_failed_reset_or_step_has_a_seed(tmp_path: Path) -> None:
    log, env = recorder(tmp_path, Drawing())
    with env:
        env.reset(seed=5)
        with pytest.raises(ValueError, match="fail"):
            env.reset(seed=6, options={"fail": 1})
        for _ in range(2):
            env.reset()
            env.step(0)
        with pytest.raises(TypeError):
            env.step()  # type: ignore[call-arg]
        env.step(1)
    seeds = [episode.reset_seed for episode in reader.session(log, "s-0001").episodes]
    assert len(seeds) == 2 and seeds[0] not in (None, 5, 6) and seeds[1] is None


def test_every_stream_of_a_vector_begins_with_a_seed(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    several = gym.vector.SyncVectorEnv([Drawing, Drawing])
    with VectorRecorder(several, log, enrolled(log, scripted="oracle")) as envs:
        with pytest.raises(UsageError, match="can't be a seed"):
            envs.reset(seed=2**63 - 1)
        observations, _ = envs.reset(seed=[1, None])
        envs.step(np.array([0, 1]))
    session = reader.session(log, "s-0001")
    one, two = session.episodes
    assert one.reset_seed == 1 and two.reset_seed is not None
    again, _ = Drawing().reset(seed=two.reset_seed)
    assert list(again) == list(two.columns.observations[0]) == list(observations[1])
