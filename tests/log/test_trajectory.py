"""Steps go into mapped parts and come out of sealed files to the bit, whatever ends the session."""

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces as gs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_audit.errors import LogError
from rlhf_audit.log import reopened
from rlhf_audit.log.part import PartShape, part_file, staged_files
from rlhf_audit.log.reopened import KnownPart, LeftOpen, finish
from rlhf_audit.log.trajectory import Trajectory
from rlhf_audit.log.unsealed import TrajectoryKind
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.describing import describe

ENV = {"env_id": "Any-v0"}
SPACES = {
    "vector": (gs.Box(-1, 1, (3,)), gs.Discrete(4)),
    "image": (gs.Box(0, 255, (40, 30, 3), np.uint8), gs.MultiDiscrete([2, 3])),
    "nested": (
        gs.Dict(a=gs.Box(-1, 1, (2,)), b=gs.Tuple([gs.Discrete(3), gs.MultiBinary(4)])),
        gs.Box(-1, 1, (2,)),
    ),
    "varying": (
        gs.Dict(text=gs.Text(6), many=gs.Sequence(gs.Discrete(5))),
        gs.OneOf([gs.Discrete(2), gs.Box(0, 1, (1,))]),
    ),
}


class Session:
    """One trajectory in a folder of its own, with what was stored in it."""

    def __init__(self, folder: Path, name: str, slots: int = 8, info: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.observation, self.action = SPACES[name]
        self.observation.seed(1)
        self.action.seed(2)
        shape = PartShape(
            reading.from_json(describe(self.observation)), reading.from_json(describe(self.action)), info
        )
        object.__setattr__(shape, "_slots", slots)
        self.kind = TrajectoryKind(shape, "s-0001", ENV, private=False)
        self.events: list[Mapping[str, Any]] = []
        self.expected: list[tuple[Any, ...]] = []
        self.finals: list[tuple[str, int, Any]] = []
        self.pool = ThreadPoolExecutor(1)
        self.trajectory = Trajectory(folder, self._put, self.pool, self.kind)
        self.n_episodes = 0
        self.current: Any = None

    def _put(self, event: Mapping[str, Any], sync: bool = False) -> None:
        del sync
        self.events.append(json.loads(json.dumps(event)))

    def mark(self) -> list[Mapping[str, Any]]:
        marks = self.trajectory.marks()
        self._put({"event": "mark", "marks": marks}, sync=True)
        self.trajectory.noted(marks)
        return list(marks)

    def known(self) -> list[KnownPart]:
        """What a journal with these events would say."""
        left = LeftOpen("s-0001", {"learn": None})
        for event in self.events:
            left.take(event)
        return left.parts[0]

    def episode(self, n_steps: int, *, ends: bool = True) -> None:
        episode_id = f"s-0001-e{self.n_episodes:04d}"
        observation = self.observation.sample()
        self.trajectory.begin(self.n_episodes, 3, observation)
        self.n_episodes += 1
        for step in range(n_steps):
            action, after = self.action.sample(), self.observation.sample()
            over = ends and step == n_steps - 1
            chance = None if step % 2 else 0.25
            info = json.dumps({"k": step}) if self.kind.shape.info else None
            self.trajectory.append(action, after, step / 7, over, False, chance, info)
            self.expected.append((episode_id, step, observation, action, chance, step / 7, over, False, info))
            observation = after
        if n_steps:
            self.finals.append((episode_id, n_steps, observation))

    def sealed(self) -> tuple[list[tuple[Any, ...]], list[tuple[str, int, Any]]]:
        steps, finals = [], []
        parts = sum(event["event"] == "part" for event in self.events)
        for number in range(parts):
            steps_file, episodes_file = staged_files(part_file(self.folder, 0, number))
            left = part_file(self.folder, 0, number)
            if left.exists():
                # Announced, but nothing was stored in it: it goes with the journal.
                assert number == parts - 1 and not steps_file.exists()
                assert left.read_bytes()[:16] == bytes(16)
                continue
            if number % self.kind.shape.together and not steps_file.exists():
                # It stands in the file of a part before it.
                continue
            steps.append(pq.read_table(steps_file))
            finals.append(pq.read_table(episodes_file))
        table, heads = pa.concat_tables(steps), pa.concat_tables(finals)
        shape = self.kind.shape
        names = ("episode_id", "step", "action_probability", "env_reward", "terminated", "truncated", "info")
        ids, numbers, chances, *rest = (table.column(name).to_pylist() for name in names)
        seen = shape.observation.read(table.column("observation"))
        done = shape.action.read(table.column("action"))
        ends = shape.observation.read(heads.column("final_observation"))
        rows = list(zip(ids, numbers, seen, done, chances, *rest, strict=True))
        lengths = heads.column("n_steps").to_pylist()
        return rows, list(zip(heads.column("episode_id").to_pylist(), lengths, ends, strict=True))

    def check(self) -> None:
        steps, finals = self.sealed()
        assert same(steps, self.expected)
        # One without a step may be kept: a later one may go on with its generators.
        assert same([final for final in finals if final[1]], self.finals)


def same(left: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return all(same(left[key], right[key]) for key in right)
    if isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(right, np.ndarray | np.generic):
        return np.asarray(left).tobytes() == right.tobytes() and np.asarray(left).dtype == right.dtype
    return bool(left == right)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(PartShape, "slots", property(lambda self: getattr(self, "_slots", 8)))
    # What a power cut leaves is tested in tests/recording/test_recording_crash_power.py.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    yield


@pytest.mark.parametrize("name", SPACES)
def test_every_space_across_many_parts(name: str, tmp_path: Path) -> None:
    session = Session(tmp_path, name, info=name == "vector")
    for length in (1, 7, 8, 0, 9, 30, 2):
        session.episode(length)
    session.trajectory.close()
    session.check()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 20), max_size=6),
    slots=st.integers(2, 9),
    closed=st.booleans(),
    name=st.sampled_from(["vector", "varying"]),
)
def test_a_session_left_open_is_sealed_as_one_that_was_closed(
    lengths: list[int], slots: int, closed: bool, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    session = Session(tmp_path_factory.mktemp("t"), name, slots)
    for length in lengths:
        session.episode(length, ends=False)
    if closed:
        session.trajectory.close()
    else:
        # As after a kill: what the thread beside had begun may be done or not.
        session.pool.shutdown(wait=True, cancel_futures=True)
        del session.trajectory
        finish(session.folder, session.known(), session.kind)
        finish(session.folder, session.known(), session.kind)
    session.check()


def test_after_a_power_cut_what_was_synced_is_there_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tmp_path, "vector", slots=64)
    session.episode(5)
    session.episode(6, ends=False)
    assert session.mark()
    assert not session.mark()
    session.episode(9)
    monkeypatch.setattr(reopened, "boot", lambda: "another")
    finish(session.folder, session.known(), session.kind)
    steps, finals = session.sealed()
    assert same(steps, session.expected[:11])
    assert [(name, n) for name, n, _ in finals] == [("s-0001-e0000", 5), ("s-0001-e0001", 6)]


def test_a_byte_that_changed_since_it_was_synced_is_found(tmp_path: Path) -> None:
    session = Session(tmp_path, "vector", slots=64)
    session.episode(20)
    session.mark()
    session.trajectory._current.part.env_rewards[3] += 1
    with pytest.raises(LogError, match=r"journal/.*/part-0000-00000 is damaged"):
        finish(session.folder, session.known(), session.kind)


@pytest.mark.parametrize("change", ["gone", "short", "count"])
def test_a_damaged_part_is_named(change: str, tmp_path: Path) -> None:
    session = Session(tmp_path, "vector", slots=64)
    session.episode(20)
    path = part_file(tmp_path, 0, 0)
    if change == "gone":
        path.unlink()
    elif change == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        session.trajectory._current.part.count[0] = 99
    with pytest.raises(LogError, match="part-0000-00000"):
        finish(session.folder, session.known(), session.kind)


def test_an_observation_buffer_that_is_used_again_is_copied(tmp_path: Path) -> None:
    session = Session(tmp_path, "vector", slots=64)
    buffer = np.zeros(3, np.float32)
    session.trajectory.begin(0, 3, buffer)
    for step in range(10):
        buffer += 1
        session.trajectory.append(0, buffer, 0.0, step == 9, False)
    session.trajectory.close()
    steps, finals = session.sealed()
    assert [row[2][0] for row in steps] == list(range(10))
    assert finals[0][2][0] == 10
