"""The sealed files: exactly the documented columns, readable by anybody."""

from pathlib import Path
from typing import Any

import duckdb
import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from session_world import CART_POLE, ENVIRONMENTS, Presses, enrolled, new_log, rate, script

from rlhf_audit import schema
from rlhf_audit.log import reader, recorded
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder

_OBSERVATION = {
    CART_POLE: pa.list_(pa.float32(), 4),
    "MountainCar-v0": pa.list_(pa.float32(), 2),
    "Acrobot-v1": pa.list_(pa.float32(), 6),
    "LunarLander-v3": pa.list_(pa.float32(), 8),
}
_STEPS = {
    "session_id": "VARCHAR",
    "episode_id": "VARCHAR",
    "step": "BIGINT",
    "observation": "FLOAT[]",
    "action": "BIGINT",
    "action_probability": "FLOAT",
    "env_reward": "DOUBLE",
    "terminated": "BOOLEAN",
    "truncated": "BOOLEAN",
}
_FEEDBACK = {
    "session_id": "VARCHAR",
    "row": "BIGINT",
    "episode_id": "VARCHAR",
    "step": "BIGINT",
    "kind": "VARCHAR",
    "value": "DOUBLE",
    "objective": "VARCHAR",
    "other_episode_id": "VARCHAR",
    "other_step": "BIGINT",
    "n_steps": "BIGINT",
    "action": "BIGINT",
    "consent": "BOOLEAN",
    "grant_id": "VARCHAR",
    "shown_at": "TIMESTAMP WITH TIME ZONE",
    "answered_at": "TIMESTAMP WITH TIME ZONE",
    "latency_s": "DOUBLE",
    "position": "BIGINT",
    "supersedes": "BIGINT",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    log = new_log(tmp_path_factory.mktemp("sealed") / "log")
    robot = enrolled(log, "oracle")
    for env_id in ENVIRONMENTS:
        script(log, robot, env_id=env_id, max_feedback=5, ask_every=2)
    rate(log, enrolled(log), Presses("10us1q"))
    return log


def _same_as_documented(path: Path, documented: pa.Schema) -> None:
    found = pq.ParquetFile(path).schema_arrow
    assert found.names == documented.names
    for field in documented:
        kind = found.field(field.name).type
        assert kind == field.type, field.name
        assert found.field(field.name).nullable == field.nullable, field.name


@pytest.mark.parametrize("number", range(4))
def test_a_sealed_session_has_the_columns_of_the_schema(log: Log, number: int) -> None:
    env_id, session_id = ENVIRONMENTS[number], f"s-{number + 1:04d}"
    kind = _OBSERVATION[env_id]
    _same_as_documented(log.layout.steps_file(env_id, session_id), schema.steps(kind, pa.int64()))
    _same_as_documented(log.layout.episodes_file(session_id), schema.episodes(kind))
    observations = pq.ParquetFile(log.layout.steps_file(env_id, session_id)).read().column("observation")
    assert {len(row) for row in observations.to_pylist()} == {kind.list_size}


def test_every_feedback_file_has_the_columns_of_the_schema(log: Log) -> None:
    files = list(log.layout.feedback.rglob("*.parquet"))
    assert len(files) == 5
    for path in files:
        _same_as_documented(path, schema.FEEDBACK)


def test_duckdb_reads_them_without_help(log: Log) -> None:
    for folder, wanted in (
        (log.layout.steps, _STEPS | {"info": "VARCHAR"}),
        (log.layout.feedback, _FEEDBACK),
    ):
        for path in folder.rglob("*.parquet"):
            described = duckdb.sql(
                f"DESCRIBE SELECT * FROM read_parquet('{path}', hive_partitioning = false)"
            )
            assert {row[0]: row[1] for row in described.fetchall()} == wanted
    spread = duckdb.sql(
        f"SELECT env, count(*) FROM '{log.layout.steps}/*/*.parquet' GROUP BY env ORDER BY env"
    )
    assert [row[0] for row in spread.fetchall()] == sorted(ENVIRONMENTS)


def test_nothing_is_nested_padded_or_shared_between_raters(log: Log) -> None:
    for path in log.layout.feedback.rglob("*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                # A dictionary page would outlive the rows it was made of.
                assert not metadata.row_group(group).column(column).has_dictionary_page
    heads = pq.ParquetFile(log.layout.episodes_file("s-0001")).read().to_pylist()
    steps = pq.ParquetFile(log.layout.steps_file(CART_POLE, "s-0001")).read().num_rows
    assert sum(head["n_steps"] for head in heads) == steps


@pytest.mark.parametrize("number", range(4))
def test_the_columns_of_a_session_are_those_of_its_episodes(log: Log, number: int) -> None:
    facts = reader.session_facts(log, f"s-{number + 1:04d}")
    whole = recorded.Columns.joined(list(recorded.columns(log, facts)))
    by_episode = recorded.Columns.joined([one.columns for one in recorded.episodes(log, facts)])
    assert len(whole) == facts["n_steps"] > 0
    for name, column in vars(by_episode).items():
        np.testing.assert_array_equal(np.asarray(getattr(whole, name)), np.asarray(column))


class Pictures(gym.Env[Any, Any]):
    """Pictures, by themselves or beside something else."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize("nested", [False, True])
def test_raw_bytes_say_what_they_are(nested: bool, tmp_path: Path) -> None:
    picture = gym.spaces.Box(0, 255, (40, 30, 3), np.uint8)
    log = new_log(tmp_path / "log")
    space = gym.spaces.Dict(eye=picture, speed=gym.spaces.Box(-1, 1, (2,))) if nested else picture
    with Recorder(Pictures(space), log, enrolled(log)) as env:
        before, _ = env.reset()
        env.step(1)
    for path, name in (("steps/env=Pictures", "observation"), ("episodes", "final_observation")):
        field = pq.read_schema(log.layout.root / path / "s-0001.parquet").field(name)
        field = field.type.field("eye") if nested else field
        assert field.metadata == {b"shape": b"40,30,3", b"dtype": b"|u1"}
    table = pq.ParquetFile(log.layout.steps_file("Pictures", "s-0001")).read()
    value = table.column("observation")[0].as_py()
    raw = value["eye"] if nested else value
    shape = tuple(map(int, b"40,30,3".split(b",")))
    np.testing.assert_array_equal(
        np.frombuffer(raw, "|u1").reshape(shape), before["eye"] if nested else before
    )
