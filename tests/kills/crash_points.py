"""Where a writer is cut short: each arranges for this process to end at the n-th point of its kind.

``change``: before the n-th write, fsync, rename, removal, truncation, allocation or opening for writing in a
folder; a write has a second point, when half of it is done. ``tear``: at the n-th fsync, half of what was not
yet synced being lost. ``line``: before the n-th line of what stores steps, which is how stores into mapped
memory are reached. All of them in every thread.
"""

import io
import itertools
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_audit.log import durable, part, trajectory, unsealed

CRASHED = 77
_OPENS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_AUDITED = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_SEEN_BY_NO_AUDIT = ("fsync", "fdatasync", "posix_fallocate", "ftruncate", "write", "pwrite")
_STORING = (trajectory.__file__, unsealed.__file__, part.__file__)

Point = Callable[[int, Path], None]


def changes_disk(event: str, args: tuple[Any, ...], inside: str) -> bool:
    """Say whether an audit event is a change below a folder."""
    if event == "open":
        path, mode, flags = args
        writes = any(letter in mode for letter in "wax+") if mode else bool(flags & _OPENS)
    else:
        path, writes = (args[0], True) if event in _AUDITED else (None, False)
    return writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(inside)


def change(n: int, home: Path) -> None:
    inside, points = str(home.resolve()), itertools.count(1)

    def due() -> bool:
        return next(points) == n

    def strike() -> None:
        if due():
            os._exit(CRASHED)

    def struck(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            strike()
            return plain(*args)

        return call

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            strike()
            if due():
                super().write(bytes(data)[: len(bytes(data)) // 2])
                os._exit(CRASHED)
            return super().write(data)

    plain_open = io.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        binary = "b" in mode and any(letter in mode for letter in "wax+") and not named.get("opener")
        if not binary or not (isinstance(file, int) or os.fspath(file).startswith(inside)):
            return plain_open(file, mode, buffering, *rest, **named)
        if "+" in mode and str(file).endswith(durable.TEMPORARY_SUFFIX) and due():
            # Arrow wrote it, beyond reach: as if only half of it had been.
            os.truncate(file, Path(file).stat().st_size // 2)
            os._exit(CRASHED)
        raw = File(file, mode.replace("b", ""))
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if changes_disk(event, args, inside):
            strike()

    for name in _SEEN_BY_NO_AUDIT:
        setattr(os, name, struck(getattr(os, name)))
    io.open = opened  # type: ignore[assignment]
    sys.addaudithook(hook)


def torn(home: Path) -> Path:
    """Return what says that steps after the last answer may be lost: nobody had synced them."""
    return home.parent / "torn"


def tear(n: int, home: Path) -> None:
    points, plain_fsync = itertools.count(1), os.fsync
    synced = {path.stat().st_ino: path.stat().st_size for path in home.rglob("*") if path.is_file()}

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if next(points) == n:
            old = synced.get(status.st_ino, 0)
            if stat.S_ISREG(status.st_mode):
                os.truncate(f"/proc/self/fd/{descriptor}", old + max(0, status.st_size - old) // 2)
            torn(home).touch()
            os._exit(CRASHED)
        plain_fsync(descriptor)
        synced[status.st_ino] = os.fstat(descriptor).st_size

    os.fsync = fsync  # type: ignore[assignment]


def line(n: int, home: Path) -> None:
    del home
    points = itertools.count(1)

    def inside(frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and next(points) == n:
            os._exit(CRASHED)
        return inside

    def called(frame: Any, event: str, argument: Any) -> Any:
        return inside if frame.f_code.co_filename in _STORING else None

    threading.settrace(called)
    sys.settrace(called)


POINTS: dict[str, Point] = {"change": change, "tear": tear, "line": line}
