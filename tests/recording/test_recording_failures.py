"""What was acknowledged is kept: after an interruption, a broken source or environment, a full disk."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from session_world import Presses, Reusing, enrolled, feedback_rows, new_log, opened, rate, step_rows

from rlhf_audit.log import durable, journal, reader, writer
from rlhf_audit.log.store import Log
from rlhf_audit.replay import rollout
from rlhf_audit.types import Answer, AnswerKind


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log")


def _raises(error: BaseException) -> Callable[[Any], Answer]:
    def press(question: Any) -> Answer:
        raise error

    return press


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(3), RuntimeError("the rater's browser is gone"), OSError(5, "tty")],
)
def test_an_interruption_keeps_every_answer(log: Log, error: BaseException) -> None:
    rater_id = enrolled(log)
    source = Presses(["1", "0", "s", "u", "1", _raises(error), "1"])
    with pytest.raises(type(error)):
        rate(log, rater_id, source)
    assert [row["value"] for row in feedback_rows(log, rater_id)] == [1.0, 0.0, None, None, 1.0]
    assert len(step_rows(log)) == 4
    assert source.closed
    assert not any(log.layout.journal.iterdir())
    assert rollout.replay(log, "s-0001").difference is None
    # The next session begins as if nothing had been.
    assert rate(log, rater_id, Presses("1")).session_id == "s-0002"


def test_an_interrupted_learner_replays_to_where_it_came(log: Log) -> None:
    rater_id = enrolled(log)
    with pytest.raises(KeyboardInterrupt):
        rate(log, rater_id, Presses(["1", "0", "u", "1", _raises(KeyboardInterrupt())]), learn="likelihood")
    assert reader.session_facts(log, "s-0001")["weights_mac"]
    assert rollout.replay(log, "s-0001").difference is None


def test_an_environment_that_breaks_keeps_every_answer(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    rater_id = enrolled(log)

    def step(self: Reusing, action: int) -> Any:
        if self._buffer[0] == 4:
            raise RuntimeError("the simulator crashed")
        self._buffer[0] += 1.0
        return self._buffer, 0.5, False, False, {}

    monkeypatch.setattr(Reusing, "step", step)
    with pytest.raises(RuntimeError, match="simulator"):
        rate(log, rater_id, Presses("11111111"), env_id="Reusing-v0")
    assert len(step_rows(log, env_id="Reusing-v0")) == len(feedback_rows(log, rater_id)) == 4


class _Full:
    """A disk with room for ``n_lines`` more lines of a journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n_lines: int, torn: bool) -> None:
        self.left = n_lines
        real = journal.Journal.put
        room = self

        def put(self: journal.Journal, event: Any, sync: bool = False) -> None:
            if room.left == 0:
                if torn:
                    # As `put` meets it: the system takes half a line and says so.
                    stream = self._stream

                    class Half:
                        def write(self, data: bytes) -> int:
                            return stream.write(data[: len(data) // 2])

                        def __getattr__(self, name: str) -> Any:
                            return getattr(stream, name)

                    self._stream = Half()  # type: ignore[assignment]
                    try:
                        real(self, event, sync)
                    finally:
                        self._stream = stream
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room.left -= 1
            real(self, event, sync)

        monkeypatch.setattr(journal.Journal, "put", put)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("n_lines", [1, 2, 7, 8, 9])
def test_a_full_disk_leaves_what_was_acknowledged(
    log: Log, monkeypatch: pytest.MonkeyPatch, n_lines: int, torn: bool
) -> None:
    rater_id = enrolled(log)
    acknowledged = 0

    def yes(question: Any) -> Answer:
        nonlocal acknowledged
        acknowledged = question.position
        return Answer(AnswerKind.ANSWER, 1.0)

    _Full(monkeypatch, n_lines, torn)
    with pytest.raises(OSError, match="No space left"):
        rate(log, rater_id, Presses([yes] * 20))
    path = log.layout.feedback_file(rater_id, "s-0001")
    rows = feedback_rows(log, rater_id) if path.exists() else []
    # The last answer may be on the disk although nobody was told.
    assert len(rows) in (acknowledged, acknowledged + 1)
    assert [row["step"] for row in rows] == list(range(len(rows)))
    monkeypatch.undo()
    assert rate(log, rater_id, Presses("1")).feedback == 1


def test_a_disk_that_is_full_when_sealing_loses_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    rater_id = enrolled(log)

    def full(path: Path) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def quit_on_a_full_disk(question: Any) -> Answer:
        monkeypatch.setattr(durable, "replacing", full)
        return Answer(AnswerKind.QUIT)

    with pytest.raises(OSError, match="No space left"):
        rate(log, rater_id, Presses(["1", "0", quit_on_a_full_disk]))
    assert reader.session_ids(log) == []
    assert journal.open_sessions(log.layout) == ["s-0001"]
    monkeypatch.undo()
    again = opened(log)
    with again.writing():
        assert writer.recover(again) == ["s-0001"]
    assert [row["value"] for row in feedback_rows(again, rater_id)] == [1.0, 0.0]
    assert rollout.replay(again, "s-0001").difference is None
