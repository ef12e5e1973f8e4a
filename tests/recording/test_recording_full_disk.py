"""Disks that are full or refuse: what was stored stays, and what was refused is not there."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from crash_world import act, recorder, right, small_parts  # noqa: F401 - a fixture for every test here

from rlhf_audit.log import reader, sealing
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify


@pytest.mark.parametrize("where", ["part", "sealed", "line"])
def test_a_disk_that_is_full_for_a_while_costs_no_stored_step(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = recorder(tmp_path)
    act(env, 12)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*arguments: Any, **options: Any) -> None:
        raise full

    kept = 12
    with monkeypatch.context() as patched:
        if where == "part":
            patched.setattr(os, "posix_fallocate", refuse)
        elif where == "sealed":
            patched.setattr(sealing, "write", refuse)
        else:
            patched.setattr(env._session.writer.stream(), "_put", refuse)
        with pytest.raises(OSError, match="No space left"):
            for step in range(200):
                if step % 7 == 0:
                    env.reset()
                env.step(0)
                kept += 1
    env.reset()
    for _ in range(5):
        env.step(1)
    env.close()
    session = reader.session(Log(tmp_path / "log"), "s-0001")
    assert right(session) == kept + 5
    assert verify(tmp_path / "log").ok


def test_half_a_line_and_half_a_row_on_a_full_disk_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file that takes half of what is written, once."""

        def __init__(self, stream: Any) -> None:
            self.stream, self.struck = stream, False

        def write(self, data: Any) -> int:
            if self.struck:
                return int(self.stream.write(data))
            self.struck = True
            return int(self.stream.write(bytes(data)[: len(bytes(data)) // 2]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    env = recorder(tmp_path, info=["k"])
    act(env, 3)
    side = env._session.writer.stream()._current.part.side
    side._stream = Full(side._stream)
    with pytest.raises(OSError, match="No space left"):
        env.step(0)
    env.reset()
    env.step(0)
    log = env._session.writer._journal
    log._stream = Full(log._stream)
    with pytest.raises(OSError, match="No space left"):
        env.rate(0)
    env.rate(1)
    env.close()
    session = reader.session(Log(tmp_path / "log"), "s-0001")
    assert right(session) == 4
    assert [row.value for row in session.feedback or ()] == [1, 1]


def test_what_was_refused_by_fsync_is_not_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = recorder(tmp_path)
    env.reset()
    env.step(1)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output"):
            env.rate(0)
    env.rate(1)
    env.close()
    session = reader.session(Log(tmp_path / "log"), "s-0001")
    assert [row.value for row in session.feedback or ()] == [1]
