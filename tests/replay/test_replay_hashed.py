"""Thin recordings: digests instead of observations, compared at replay, and turned back into a full one."""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces as gs
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder_world import act, in_a_fresh_process, log_and_rater
from session_world import Presses, enrolled, rate, script

from rlhf_audit.errors import UsageError
from rlhf_audit.log import part, reader, trajectory, views
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.replay import retrain, rollout
from rlhf_audit.replay.materialise import materialise
from rlhf_audit.replay.resimulate import AstrayError
from rlhf_audit.spaces.describing import describe
from rlhf_audit.spaces.hashed import HashedSpace
from rlhf_audit.spaces.reading import from_json
from rlhf_audit.verification import verify


def thin(root: Path, env_id: str, n_steps: int, observations: str = "hashed") -> Log:
    log, rater = log_and_rater(root)
    with Recorder(gym.make(env_id), log, rater, info=["x"], observations=observations) as env:
        act(env, n_steps)
    return log


def files_of(log: Log, session_id: str = "s-0001") -> dict[str, str]:
    files = reader.session_facts(log, session_id)["files"]
    return {file["path"]: file["sha256"] for file in files if "sha256" in file}


def test_the_digest_is_what_the_format_says() -> None:
    value = np.array([1.5, -0.0], np.float32)
    wanted = hashlib.blake2b(b"<f4\x002\x00" + value.tobytes(), digest_size=16).digest()
    assert HashedSpace(from_json(describe(gs.Box(-9, 9, (2,))))).digest(value) == wanted
    both = HashedSpace(from_json(describe(gs.Tuple([gs.Discrete(3), gs.Box(-9, 9, (2,))]))))
    wanted = hashlib.blake2b(
        b"<i8\x00\x00" + bytes([2, *[0] * 7]) + b"<f4\x002\x00" + value.tobytes(), digest_size=16
    )
    assert both.digest((2, value)) == wanted.digest()


varying = st.sampled_from(
    [
        gs.Text(5),
        gs.Sequence(gs.Discrete(4)),
        gs.Sequence(gs.Box(-1, 1, (2,)), stack=True),
        gs.OneOf([gs.Discrete(3), gs.Box(-1, 1, (2,))]),
        gs.Graph(gs.Box(-1, 1, (2,)), gs.Discrete(3)),
        gs.Dict(a=gs.Tuple([gs.Text(3), gs.MultiBinary(2)]), b=gs.Box(0, 255, (40, 40), np.uint8)),
    ]
)


@settings(max_examples=60, deadline=None)
@given(space=varying, seed=st.integers(0, 2**31))
def test_values_have_one_digest_if_and_only_if_they_are_the_same(space: gs.Space[Any], seed: int) -> None:
    space.seed(seed)
    known = from_json(json.loads(json.dumps(describe(space))))
    hashed = HashedSpace(known)
    left, right = space.sample(), space.sample()
    columns = [pa.array([known.plain(value)], known.arrow) for value in (left, right)]
    assert hashed.digest(left) == hashed.digest(known.value(columns[0][0].as_py()))
    assert (hashed.digest(left) == hashed.digest(right)) == columns[0].equals(columns[1])


def test_a_text_is_no_list_and_no_member_runs_into_the_next() -> None:
    texts = HashedSpace(from_json(describe(gs.Tuple([gs.Text(9), gs.Text(9)]))))
    assert len({texts.digest(pair) for pair in (("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""))}) == 4


def test_sixteen_bytes_are_kept_of_each_observation(tmp_path: Path) -> None:
    log = thin(tmp_path, "CartPole-v1", 30)
    path = log.layout.steps_file("CartPole-v1", "s-0001")
    table = pq.read_table(path)
    assert table.schema.field("observation").type == pa.binary(16)
    full = reader.session_facts(log, "s-0001")
    assert (full["observations"], full["env"]["observation_space"]["type"]) == ("hashed", "Box")
    first = gym.make("CartPole-v1").reset(seed=7)[0]
    digest = hashlib.blake2b(b"<f4\x004\x00" + first.tobytes(), digest_size=16).digest()
    assert duckdb.connect().execute(
        f"SELECT observation FROM '{path}' WHERE step = 0 LIMIT 1"
    ).fetchall() == [(digest,)]
    assert table.column("observation")[0].as_py() == digest
    assert verify(log.layout.root).ok


def test_the_views_show_digests_apart(tmp_path: Path) -> None:
    log, rater = log_and_rater(tmp_path)
    for kept in ("full", "hashed", "full"):
        with Recorder(gym.make("CartPole-v1"), log, rater, observations=kept) as env:
            act(env, 10)
    # The same id with another shape of observations.
    with Recorder(gym.wrappers.FrameStackObservation(gym.make("CartPole-v1"), 2), log, rater) as env:
        act(env, 10)
    connection = views.connect(log, log.clock.now())
    counts = [
        connection.execute(f"SELECT count(*), typeof(any_value(observation)) FROM {name}").fetchall()[0]
        for name in ("steps_of_CartPole_v1", "hashed_steps_of_CartPole_v1", "steps_of_CartPole_v1_2")
    ]
    assert [count for count, _ in counts] == [20, 10, 10] and counts[1][1] == "BLOB"
    known = connection.execute("SELECT count(*), count(observation) FROM steps").fetchall()
    assert known == [(40, 30)]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1", "LunarLanderContinuous-v3"])
def test_replay_compares_digests_and_materialise_gives_the_full_recording(
    env_id: str, tmp_path: Path
) -> None:
    full, log = thin(tmp_path / "full", env_id, 150, "full"), thin(tmp_path / "thin", env_id, 150)
    assert in_a_fresh_process(log) == [["s-0001", 150, None]]
    made = materialise(log, "s-0001", tmp_path / "back")
    assert (made.steps, dict(made.files)) == (150, files_of(full))
    for name in made.files:
        assert (tmp_path / "back" / name).read_bytes() == (full.layout.root / name).read_bytes()
    left = {path.name for path in (tmp_path / "back").iterdir()}
    assert left == {"steps", "episodes"}
    with pytest.raises(UsageError, match="can't be the folder"):
        materialise(log, "s-0001", tmp_path / "back")


def test_several_parts_and_streams_come_back_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_audit.recording.vector import VectorRecorder

    monkeypatch.setattr(part, "_MOST_SLOTS", 700)
    monkeypatch.setattr(trajectory, "_FIRST_SLOTS", 300)
    found = []
    for kept in ("full", "hashed"):
        log, rater = log_and_rater(tmp_path / kept)
        vector = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
        with VectorRecorder(vector, log, rater, observations=kept) as env:
            env.reset(seed=2)
            actions = np.random.default_rng(5).integers(0, 2, (1500, 2))
            for row in actions:
                env.step(row)
        found.append(log)
    made = materialise(found[1], "s-0001", tmp_path / "back")
    assert len(made.files) == 8
    assert dict(made.files) == files_of(found[0])


def test_an_altered_digest_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    log = thin(tmp_path, "CartPole-v1", 20)
    path = log.layout.steps_file("CartPole-v1", "s-0001")
    table = pq.read_table(path)
    values = table.column("observation").to_pylist()
    values[3] = bytes(16)
    place = table.column_names.index("observation")
    column = pa.array(values, pa.binary(16))
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)
    found = rollout.replay(log, "s-0001")
    assert found.difference is not None and found.steps == 3
    assert (found.difference.step, found.difference.field) == (3, "observation")
    with pytest.raises(AstrayError) as astray:
        materialise(log, "s-0001", tmp_path / "new" / "back")
    assert astray.value.difference == found.difference
    assert not (tmp_path / "new").exists()


def test_a_session_of_a_policy_that_learns_is_compared_whole(tmp_path: Path) -> None:
    log, _ = log_and_rater(tmp_path)
    person = enrolled(log)
    rate(log, person, Presses("10s1u011"), learn="article", observations="hashed")
    found = rollout.replay(log, "s-0001")
    assert (found.difference, found.scope) == (None, "everything")
    assert found.steps == reader.session_facts(log, "s-0001")["n_steps"]


def test_what_needs_observations_says_what_is_missing(tmp_path: Path) -> None:
    log, _ = log_and_rater(tmp_path)
    robot = enrolled(log, "oracle")
    script(log, robot, max_feedback=5, observations="hashed")
    with pytest.raises(UsageError, match=r"from s-0001: its observations are not in the log") as one:
        retrain.retrain(log, tmp_path / "policy")
    with pytest.raises(
        UsageError, match="s-0001 can't be rated: their observations are not in the log"
    ) as two:
        script(log, robot, rates="s-0001")
    for refused in (one, two):
        assert "rlhf-audit replay LOG s-0001 --materialise DIR" in refused.value.fix
    assert not (tmp_path / "policy").exists()


def test_a_session_without_steps_of_its_own_is_refused(tmp_path: Path) -> None:
    log, _ = log_and_rater(tmp_path)
    robot = enrolled(log, "oracle")
    script(log, robot, max_feedback=5)
    script(log, robot, rates="s-0001")
    with pytest.raises(UsageError, match="no steps of its own") as refused:
        materialise(log, "s-0002", tmp_path / "back")
    assert "replay LOG s-0001" in refused.value.fix
    with pytest.raises(UsageError, match="can't be the folder"):
        materialise(log, "s-0001", log.layout.root / "back")
