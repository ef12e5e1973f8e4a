"""Merging small files: everything that is read stays the same, and what must stay apart stays apart."""

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import compact_world as world
import duckdb
import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest
import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical
from rlhf_audit.clock import SystemClock
from rlhf_audit.errors import LogError
from rlhf_audit.exchange import export
from rlhf_audit.log import compaction, keys, layout, reader, recorded, sealed, views
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import MERGED, Slice
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.replay import retrain
from rlhf_audit.reports import publish
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return world.many(tmp_path / "log")[0]


def test_what_is_read_stays_the_same_and_the_files_get_few(log: Log) -> None:
    before, n_bytes = world.everything(log), sum(map(len, world.sealed(log).values()))
    done = compaction.compact(log)
    again = Log(log.layout.root)
    assert world.everything(again) == before
    # Answers of three raters; steps and episodes of everybody, and of two teachers, of whom one has one.
    assert (done.files_before, done.files_after) == (9 + 9 + 11, 3 + 3 + 3)
    assert sum(map(len, world.sealed(again).values())) == done.bytes_after < done.bytes_before == n_bytes
    assert set(world.sealed(again)) == world.named(again)
    assert verify(log.layout.root).ok
    assert not log.layout.compacting.exists()


def test_what_is_made_of_a_log_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.many(tmp_path / "plain" / "log")
    shutil.copytree(tmp_path / "plain", tmp_path / "merged")
    compaction.compact(Log(tmp_path / "merged" / "log"))
    small_log.cheap_training(monkeypatch)
    made: dict[str, dict[str, bytes]] = {}
    now = Stopped(SystemClock().now())
    for name in ("plain", "merged"):
        home = tmp_path / name
        log = Log(home / "log", clock=now, entropy=SeededEntropy(9))
        publish.publish(log, home / "report")
        retrain.retrain(log, home / "policies" / "one", seed=3)
        export.export(log, export.Format.CSV, home / "shared", Purpose.TRAINING, "somebody")
        paths = [path for folder in ("policies", "report", "shared") for path in (home / folder).rglob("*")]
        made[name] = {str(path.relative_to(home)): path.read_bytes() for path in paths if path.is_file()}
    assert len(made["plain"]) >= 6 and made["plain"].keys() == made["merged"].keys()
    other = {path for path, data in made["plain"].items() if data != made["merged"][path]}
    assert not other, other


class Stopped:
    """A clock that stands still."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def test_the_same_log_compacts_to_the_same_bytes_and_only_once(log: Log, tmp_path: Path) -> None:
    shutil.copytree(log.layout.root, tmp_path / "twin")
    twin = Log(tmp_path / "twin")
    first, second = compaction.compact(log), compaction.compact(twin)
    assert first == second and world.sealed(log) == world.sealed(twin)
    head, files = log.ledger.head, world.sealed(log)
    assert compaction.compact(log).files == () and (log.ledger.head, world.sealed(log)) == (head, files)


def test_more_sessions_are_merged_into_the_next_file(log: Log) -> None:
    (rater_id, *_), _ = sorted({facts["rater_id"] for facts in log.whereabouts.sessions.values()}), 0
    compaction.compact(log)
    small_log.acts(log, rater_id, n=3, seed=77)
    before = world.everything(log)
    done = compaction.compact(log)
    names = sorted(Path(file["path"]).name for file in done.files)
    # The first names are not used again: somebody may be looking for them.
    assert names == ["c-0002.parquet", "c-0002.parquet", "c-0003.parquet"] or set(names) <= {
        "c-0002.parquet",
        "c-0003.parquet",
        "c-0004.parquet",
    }
    assert len(set(world.sealed(log))) == done.files_after and world.everything(log) == before
    assert verify(log.layout.root).ok


def test_what_a_rater_taught_stays_apart(log: Log) -> None:
    compaction.compact(log)
    where = log.whereabouts
    for file in where.files.values():
        facts = [where.sessions[one.session_id] for one in file.slices]
        if file.holds_answers or any(one["learn"] for one in facts):
            assert len({one["rater_id"] for one in facts}) == 1
            assert file.holds_answers or all(one["learn"] for one in facts)
        assert file.holds_answers or not any(one["rater_id"] in file.path for one in facts)
        order = list(where.sessions)
        assert [one.session_id for one in file.slices] == sorted(
            (one.session_id for one in file.slices), key=order.index
        )


def test_a_damaged_source_is_named_and_nothing_is_changed(log: Log) -> None:
    for name in ("steps/env=CartPole-v1/s-0002.parquet", "episodes/s-0003.parquet"):
        path = log.layout.root / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
        _refused(log, name)
        path.unlink()
        _refused(log, name)
        path.mkdir()
        _refused(log, name)
        path.rmdir()
        os.mkfifo(path)
        _refused(log, name)
        path.unlink()
        path.write_bytes(whole)
    answers = next(path for path in world.sealed(log) if path.startswith("feedback/"))
    data = (log.layout.root / answers).read_bytes()
    (log.layout.root / answers).write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    _refused(log, answers)


@pytest.mark.parametrize("name", ["episodes/c-0001.parquet", "episodes/c-0001.parquet.tmp"])
def test_a_folder_in_the_way_is_refused_before_anything_begins(log: Log, name: str) -> None:
    (log.layout.root / name).mkdir()
    _refused(log, name)
    (log.layout.root / name).rmdir()
    compaction.compact(log)
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("name", ["compacting.json", "placing.json", "ledger/pending.json"])
def test_a_folder_that_stops_every_writer_is_named(log: Log, name: str) -> None:
    (log.layout.root / name).mkdir()
    assert name in [problem.file for problem in verify(log.layout.root).problems]


def _refused(log: Log, name: str) -> None:
    before, head = world.sealed(log), log.ledger.head
    with pytest.raises(LogError) as caught:
        compaction.compact(log)
    assert name in caught.value.what
    assert (world.sealed(log), log.ledger.head) == (before, head) and not log.layout.compacting.exists()


def test_links_big_files_and_what_is_in_the_way_stay(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = log.layout.steps / "env=CartPole-v1"
    moved = tmp_path / "elsewhere.parquet"
    (steps / "s-0003.parquet").rename(moved)
    (steps / "s-0003.parquet").symlink_to(moved)
    (tmp_path / "other name").hardlink_to(steps / "s-0005.parquet")
    before = {name: world.session(log, name) for name in reader.session_ids(log)}
    in_the_way = steps / "c-0001.parquet"
    in_the_way.write_bytes(b"mine")
    with pytest.raises(LogError, match=r"c-0001\.parquet is there"):
        compaction.compact(log)
    assert in_the_way.read_bytes() == b"mine"
    in_the_way.unlink()
    compaction.compact(log)
    assert {name: world.session(log, name) for name in before} == before
    assert (steps / "s-0003.parquet").is_symlink() and moved.exists() and (steps / "s-0005.parquet").exists()
    # Rows keep their order: what stays ends a merged file.
    files = [file for file in log.whereabouts.files.values() if file.folder == layout.STEPS]
    assert [[one.session_id for one in file.slices] for file in files][:4] == [
        ["s-0001", "s-0002"],
        ["s-0003"],
        ["s-0005"],
        ["s-0006", "s-0007"],
    ]


def test_files_and_batches_are_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.everything(log)
    sizes = [file.rows for file in log.whereabouts.files.values() if file.folder == layout.STEPS]
    monkeypatch.setattr(compaction, "_MOST_ROWS", 3 * max(sizes))
    monkeypatch.setattr(compaction, "_BATCH_FILES", 3)
    compaction.compact(log)
    assert len(list(log.ledger.of(MERGED))) > 3
    steps = [file for file in log.whereabouts.files.values() if file.folder == layout.STEPS]
    assert 3 < len(steps) < len(sizes) and all(file.rows <= 3 * max(sizes) for file in steps)
    assert world.everything(Log(log.layout.root)) == before and verify(log.layout.root).ok


class Odd(gym.Env[Any, Any]):
    """A picture and a reading, together."""

    observation_space = gym.spaces.Dict(
        picture=gym.spaces.Box(0, 255, (48, 40), np.uint8), reading=gym.spaces.Box(-1, 1, (3,))
    )
    action_space = gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.MultiBinary(2)])

    def _seen(self) -> Any:
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed or 0)
        self.n = 0
        return self._seen(), {"n": 0}

    def step(self, action: Any) -> Any:
        self.n += 1
        return self._seen(), 0.25 * self.n, self.n == 23, False, {"n": self.n}


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Sessions of many parts, with pictures, in two kinds of environment."""
    monkeypatch.setattr("rlhf_audit.log.part._BYTES", 1)
    log = small_log.empty(tmp_path / "odd")
    rater_id = small_log.join(log)
    for number in range(3):
        for env in (Odd(), gym.make("CartPole-v1")):
            with Recorder(env, log, rater_id, info=["n"]) as recorder:
                recorder.action_space.seed(number)
                recorder.reset(seed=number)
                for _ in range(70):
                    *_, terminated, truncated, _ = recorder.step(recorder.action_space.sample())
                    if terminated or truncated:
                        recorder.reset()
                recorder.step(recorder.action_space.sample())
                recorder.rate(number % 2, latency_s=0.5)
    yield log


def test_sessions_of_many_parts_and_nested_spaces_read_back(
    odd: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [file for file in odd.whereabouts.files.values() if file.folder == layout.STEPS]
    assert len(parts) >= 6 * 4, "several parts a session"
    before = {name: world.session(odd, name) for name in reader.session_ids(odd)}
    # Row groups that hold several sessions, and sessions that lie in several.
    monkeypatch.setattr(compaction, "_GROUP_ROWS", 40)
    compaction.compact(odd)
    files = [file for file in odd.whereabouts.files.values() if file.folder == layout.STEPS]
    assert [len(file.slices) for file in files] == [3, 3], "consecutive parts became one slice"
    merged = pq.ParquetFile(odd.layout.root / files[0].path)
    assert merged.metadata.num_row_groups > 3
    again = Log(odd.layout.root)
    assert {name: world.session(again, name) for name in reader.session_ids(again)} == before
    assert verify(odd.layout.root).ok
    reads = []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, n, **how: (reads.append(n), plain(self, n, **how))[1]
    )
    list(sealed.rows(again, "s-0001", layout.STEPS, reader._steps_shape))
    assert len(reads) < merged.metadata.num_row_groups, "only the groups that hold any of it"


def test_a_reader_from_before_sees_every_row_once(log: Log, tmp_path: Path) -> None:
    before = world.everything(log)
    old = Log(log.layout.root)
    connection = views.connect(old, old.clock.now())
    waiting = reader.session(old, "s-0004")
    compaction.compact(log)
    with pytest.raises(duckdb.Error) as caught:
        connection.sql("SELECT count(*) FROM steps").fetchall()
    told = views.unreadable(connection, caught.value)
    assert "changed while it was read" in told.what and told.fix == "run this again"
    with pytest.raises(duckdb.Error):
        connection.sql("SELECT count(*) FROM feedback").fetchall()
    connection.close()
    assert waiting.session_id == "s-0004"
    assert world.everything(Log(log.layout.root)) == before
    assert world.everything(old) == before, "the old handle has read the ledger again"


def test_a_file_that_goes_while_episodes_are_read(odd: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    session = "s-0001"
    before = [repr(world._plain(episode.columns)) for episode in reader.session(odd, session).episodes]
    old = Log(odd.layout.root)
    episodes = recorded.episodes(old, reader.session_facts(old, session))
    found = [next(episodes)]
    compaction.compact(odd)
    found += episodes
    assert [repr(world._plain(episode.columns)) for episode in found] == before


def test_verify_names_what_a_compaction_may_not_do(log: Log, tmp_path: Path) -> None:
    old = {path: data for path, data in world.sealed(log).items() if "s-0001" in path}
    compaction.compact(log)
    root = log.layout.root
    for path, data in old.items():
        (root / path).write_bytes(data)
    problems = {problem.file: problem.problem for problem in verify(root).problems}
    assert set(problems) == set(old) and all("still there" in text for text in problems.values())
    for path in old:
        (root / path).unlink()
    assert verify(root).ok
    for file in log.whereabouts.files.values():
        whole = (root / file.path).read_bytes()
        (root / file.path).write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
        assert {problem.file for problem in verify(root).problems} == {file.path}
        (root / file.path).write_bytes(whole)


def test_no_merging_alters_an_answer_or_loses_a_row(log: Log) -> None:
    """Who holds the signing key and the log can't slip another answer in either."""
    compaction.compact(log)
    root, where = log.layout.root, log.whereabouts
    file = next(one for one in where.files.values() if one.holds_answers)
    table = pq.ParquetFile(root / file.path).read()
    place = table.column_names.index("value")
    other = table.set_column(
        place, table.schema.field(place), [[1 - (value or 0) for value in table.column("value").to_pylist()]]
    )
    made = root / file.path.replace("c-0001", "c-0009")
    pq.write_table(other, made, compression="zstd", use_dictionary=False, store_schema=False)
    mac = keys.read(log.layout, where.rater_of(file)).file_mac(made)
    slices = [one.to_json() for one in file.slices]
    body = {"path": log.layout.relative(made), "rows": file.rows, "file_mac": mac, "sessions": slices}
    with log.writing():
        log.append(MERGED, {"replaces": [file.path], "files": [body]})
    (root / file.path).unlink()
    (found,) = verify(root).problems
    assert found.file == body["path"] and "does not hold the rows" in found.problem
    with log.writing():
        log.append(MERGED, {"replaces": [body["path"]], "files": [body | {"sessions": slices[1:]}]})
    assert any("rows of feedback" in problem.problem for problem in verify(root).problems)


def test_a_session_slice_must_hold_that_session(log: Log) -> None:
    compaction.compact(log)
    file = next(one for one in log.whereabouts.files.values() if one.folder == layout.STEPS)
    first, second, *rest = file.slices
    swapped = [
        Slice(second.session_id, 0, 0, second.rows),
        Slice(first.session_id, 0, second.rows, first.rows),
    ]
    body = file.to_json() | {"sessions": [one.to_json() for one in (*swapped, *rest)]}
    with log.writing():
        log.append(MERGED, {"replaces": [], "files": [body]})
    with pytest.raises(LogError, match="does not hold the rows of s-0001"):
        reader.session(log, "s-0001").episodes  # noqa: B018 - read here or when looked at
        list(world.session(log, "s-0001"))


def test_a_forged_intent_removes_nothing(log: Log) -> None:
    before = world.sealed(log)
    victim = next(iter(before))
    body = {
        "schema": "rlhf_audit.compacting/1",
        "log_id": log.log_id,
        "made": ["ledger/checkpoint", "log.json"],
        "replaced": [victim],
        "telling": [],
        "signature": "00" * 64,
    }
    log.layout.compacting.write_bytes(canonical.json_bytes(body) + b"\n")
    with pytest.raises(LogError, match=r"compacting\.json is not as this log wrote it"), log.writing():
        pass
    assert world.sealed(log) == before and log.layout.header.exists()
    assert "compacting.json" in {problem.file for problem in verify(log.layout.root).problems}
    log.layout.compacting.unlink()
    assert erase.heal(log) == [] and verify(log.layout.root).ok


def test_memory_is_bounded_by_row_groups(odd: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_GROUP_BYTES", 50_000)
    held: list[int] = []
    plain = pq.ParquetWriter.write_table
    monkeypatch.setattr(
        pq.ParquetWriter,
        "write_table",
        lambda self, table, **options: (held.append(table.nbytes), plain(self, table, **options))[1],
    )
    compaction.compact(odd)
    assert max(held) <= 50_000 and len(held) > 4
