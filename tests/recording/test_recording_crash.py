"""Interrupts, damage and forgotten recorders: what was stored stays, and nothing is made up."""

import gc
import linecache
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_world import act, left_open, recorder, recovered, right, small_parts  # noqa: F401 - a fixture for every test here
from session_world import opened

from rlhf_audit.errors import LogError
from rlhf_audit.log import journal, part, reader, reopened, side_stream, trajectory, unsealed, writer
from rlhf_audit.log.part import part_file, staged_files
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

WATCHED = tuple(module.__file__ for module in (trajectory, unsealed, part, side_stream, journal, writer))


class Interrupter:
    """Raises KeyboardInterrupt once, before the n-th line of the storage core."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        # At a `with` the tracer also comes between body and exit, where Python looks for no signal.
        # Nor does it look in the middle of an assignment.
        inside = line.strip().startswith(("with ", ") = ")) or line.rstrip().endswith(",")
        if event == "line" and not inside:
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def test_ctrl_c_before_any_line_leaves_whole_rows(tmp_path: Path) -> None:
    n, fired = 1, 0
    while True:
        folder = tmp_path / str(n)
        folder.mkdir()
        env = recorder(folder)
        interrupter, done, again = Interrupter(n), 0, True
        while done < 40:
            sys.settrace(interrupter)
            try:
                if again:
                    env.reset()
                    again = False
                *_, again, _, _ = env.step(done % 2)
                done += 1
                if done % 5 == 0:
                    env.rate(1)
            except KeyboardInterrupt:
                # Whoever goes on does so with a new episode.
                again = True
            finally:
                sys.settrace(None)
        env.close()
        struck = interrupter.left <= 0
        session = reader.session(Log(folder / "log"), "s-0001")
        assert 40 <= right(session) <= 41, n
        assert session.feedback is not None
        assert {(row.episode_id, row.step) for row in session.feedback} <= {
            (step.episode_id, step.step) for episode in session.episodes for step in episode.steps
        }
        shutil.rmtree(folder)
        fired += struck
        if not struck:
            break
        n += 31
    assert fired > 20


def test_ctrl_c_while_sealing_loses_nothing(tmp_path: Path) -> None:
    for n in range(1, 60, 9):
        folder = tmp_path / str(n)
        folder.mkdir()
        env = recorder(folder)
        act(env, 30)
        interrupter = Interrupter(n)
        sys.settrace(interrupter)
        try:
            env.close()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        log = opened(Log(folder / "log"))
        with log.writing():
            writer.recover(log)
        assert right(reader.session(log, "s-0001")) == 30


def test_where_no_boot_is_known_a_kill_takes_no_rated_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (trajectory, reopened):
        monkeypatch.setattr(module, "boot", lambda: "")
    env = recorder(tmp_path)
    act(env, 29)
    session = recovered(left_open(tmp_path, env))
    assert right(session) >= 26
    assert len(session.feedback or ()) == 6


def test_a_session_without_a_step_leaves_nothing(tmp_path: Path) -> None:
    env = recorder(tmp_path)
    env.reset()
    env.reset()
    env.close()
    env.close()
    log = Log(tmp_path / "log")
    assert reader.session_ids(log) == []
    assert not any(log.layout.journal.iterdir())
    assert verify(tmp_path / "log").ok


def test_a_closed_recorder_gives_memory_files_and_threads_back(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    env = recorder(tmp_path)
    act(env, 60)
    env.close()
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before[0]
    assert threading.active_count() == before[1]
    with pytest.raises(Exception, match=r"closed|no episode"):
        env.step(0)
    assert right(reader.session(Log(tmp_path / "log"), "s-0001")) == 60


def test_no_step_is_taken_after_the_end(tmp_path: Path) -> None:
    env = recorder(tmp_path)
    act(env, 3)
    stored = env._session.writer.stream()
    env._session.writer.seal()
    assert env._session.writer.seal()
    with pytest.raises(LogError, match="closed"):
        stored.append(0, np.zeros(2, np.float32), 0.0, False, False)
    env.close()


def test_damage_to_an_open_session_is_named(tmp_path: Path) -> None:
    env = recorder(tmp_path, info=["k"])
    act(env, 31)
    env.rate(1)
    root = left_open(tmp_path, env).layout.root
    assert verify(root).ok
    events = list(journal.read(Log(root).layout, "s-0001"))
    last = max(event["part"] for event in events if event["event"] == "part")
    folder = root / "journal" / "s-0001"
    current = part_file(folder, 0, last)
    sealed = [event["part"] for event in events if event["event"] == "sealed"]
    assert sealed
    files = [
        (current, 64),
        (current.with_suffix(".side"), 700),
        *((one, 40) for one in staged_files(part_file(folder, 0, sealed[0]))),
    ]
    for file, where in files:
        kept = file.read_bytes()
        file.write_bytes(kept[:where] + bytes([kept[where] ^ 1]) + kept[where + 1 :])
        found = verify(root)
        assert [problem.file for problem in found.problems] == [file.relative_to(root).as_posix()], file
        log = opened(Log(root))
        with log.writing():
            assert writer.recover(log) == [], "damaged, and sealed all the same"
        file.write_bytes(kept)
    for file in (current, current.with_suffix(".side")):
        file.rename(tmp_path / "away")
        assert not verify(root).ok
        (tmp_path / "away").rename(file)
    assert verify(root).ok
    assert right(recovered(opened(Log(root)))) == 31


def test_verify_gives_no_false_alarm_while_a_recorder_runs(tmp_path: Path) -> None:
    env = recorder(tmp_path)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            act(env, 21)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(12):
            found = verify(tmp_path / "log")
            assert found.ok, found.problems
    finally:
        stop.set()
        thread.join()
    env.close()
    assert verify(tmp_path / "log").ok


def test_erasing_destroys_an_open_session_of_many_parts(tmp_path: Path) -> None:
    env = recorder(tmp_path, info=["k"])
    act(env, 45)
    log = left_open(tmp_path, env)
    rater_id = next(log.ledger.of("enrolled")).body["rater_id"]
    assert len(list((log.layout.journal / "s-0001").iterdir())) > 6
    # What can't be sealed stays open until its rater goes.
    log.layout.key_file(rater_id).write_text("{}")
    erase.apply(log, rater_id)
    assert not any(log.layout.journal.iterdir())
    assert not list(log.layout.root.rglob("s-0001*"))


def test_a_torn_side_stream_is_whole_up_to_its_end(tmp_path: Path) -> None:
    env = recorder(tmp_path, info=["k"])
    act(env, 4)
    stored = env._session.writer.stream()
    side = stored._current.part.side
    assert side is not None
    path = tmp_path / "side"
    data = Path(side._path).read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        rows = side_stream.SideStream(path, side._schema, reading=True).rows()
        assert rows.column("slot").to_pylist() == list(range(rows.num_rows))
        assert rows.num_rows <= 4
        path.write_bytes(data[:cut] + bytes(200))
        padded = side_stream.SideStream(path, side._schema, reading=True).rows()
        assert rows.num_rows <= 1 or padded.slice(0, rows.num_rows).equals(rows)
    env.close()
