"""The rig of ``crash_driver``: run, crash or kill a writer, reopen, check.

A process without threads forks one child that writes and dies, and another that reopens and checks. A crash
comes before the n-th call of the writer that changes the disk (``sys.addaudithook`` sees every open for
writing, rename, removal and mkdir; fsync is wrapped), or, with ``tear``, at the n-th fsync, half of what was
not yet synced being lost. A kill is SIGKILL at a random moment.
"""

import functools
import json
import os
import random
import shutil
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

CRASHED, BEGUN = 77, "begun"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Scenario:
    """Something that writes.

    Attributes:
        build: Makes the log beforehand.
        act: Writes; may note lines in the file of acknowledgements.
        check: Asserts, on a healed and verified log; told what was acknowledged and whether all was done.
        prepare: Run in each child first.
        linked: The log has links before, which `verify` names until an erasure has taken them away.
    """

    build: Callable[[Path], None]
    act: Callable[[Path, Callable[[Any], None]], None]
    check: Callable[[Path, list[Any], bool], None]
    prepare: Callable[[], None] = lambda: None
    linked: bool = False


@dataclass
class Tally:
    runs: int = 0
    crashed: int = 0
    failures: list[str] = field(default_factory=list)
    extra: dict[str, int] = field(default_factory=dict)


def forked(act: Callable[[], None], errors: Path) -> int:
    """Run ``act`` in a child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 - the parent is told
        errors.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash_at(n: int, home: Path, tear: bool) -> None:
    """Arrange for this process to end at the n-th change to the disk below ``home``."""
    seen = 0
    synced: dict[int, int] = {}
    plain_fsync, inside = os.fsync, str(home.resolve())

    def count() -> bool:
        nonlocal seen
        seen += 1
        return seen == n

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if tear or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        path, mode, flags = args if event == "open" else (args[0], "w", 0)
        writes = any(letter in mode for letter in "wax+") if mode else bool(flags & _WRITES)
        named = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(inside)
        if writes and named and count():
            os._exit(CRASHED)

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if count():
            old = synced.get(status.st_ino, 0)
            if tear and stat.S_ISREG(status.st_mode):
                os.truncate(f"/proc/self/fd/{descriptor}", old + max(0, status.st_size - old) // 2)
            os._exit(CRASHED)
        plain_fsync(descriptor)
        synced[status.st_ino] = os.fstat(descriptor).st_size

    for path in home.rglob("*"):
        if path.is_file():
            synced[path.stat().st_ino] = path.stat().st_size
    sys.addaudithook(hook)
    os.fsync = fsync  # type: ignore[assignment]


def noting(acknowledged: Path) -> Callable[[Any], None]:
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda fact: (os.write(descriptor, json.dumps(fact).encode() + b"\n"), None)[1]


def reopened(scenario: Scenario, home: Path, acknowledged: Path, complete: bool) -> None:
    """What the next program does, and what must be true then."""
    scenario.prepare()
    root = home / "log"
    told = [json.loads(line) for line in acknowledged.read_text().split("\n") if line]
    told = [fact for fact in told if fact != BEGUN]
    intents = len(list(Log(root).ledger.of("erasure-intent")))
    healed = erase.heal(Log(root))
    with (home.parent / "healed").open("a") as stream:
        when = "after the intent" if intents else "no intent"
        stream.write(f"{when}, {'healed' if healed else 'nothing to heal'}\n")
    found = verify(root)
    assert found.ok or (scenario.linked and not intents), found.problems
    assert erase.heal(Log(root)) == []
    scenario.check(home, told, complete)


class Rig:
    """Runs a scenario again and again on copies of one log."""

    def __init__(self, scenario: Scenario, work: Path) -> None:
        self.scenario = scenario
        self.base, self.home = work / "base", work / "home"
        self.told, self.errors = work / "acknowledged", work / "error"
        self.tally = Tally()
        self.base.mkdir()

        def build() -> None:
            self.scenario.prepare()
            self.scenario.build(self.base)

        code = waited(forked(build, self.errors))
        assert code == 0, self.errors.read_text()

    def begin(self, prepare: Callable[[], None]) -> int:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.base, self.home, symlinks=True)
        self.told.write_text("")

        def act() -> None:
            note = noting(self.told)
            self.scenario.prepare()
            note(BEGUN)
            prepare()
            self.scenario.act(self.home, note)

        return forked(act, self.errors)

    def end(self, pid: int, label: str) -> int:
        code = waited(pid)
        self.tally.runs += 1
        if code == 1:
            self.tally.failures.append(f"{label}: the writer failed: {self.errors.read_text()[-900:]}")
            return code
        self.tally.crashed += code != 0
        check = functools.partial(reopened, self.scenario, self.home, self.told, code == 0)
        if waited(forked(check, self.errors)):
            self.tally.failures.append(f"{label}: {self.errors.read_text()[-1500:]}")
        return code

    def faults(self, every: int, tear: bool) -> None:
        """Crash at each n-th change, n = 1, 1 + every, …, until the writer comes to its end."""
        n, code = 1, CRASHED
        while code == CRASHED:
            pid = self.begin(functools.partial(crash_at, n, self.home, tear))
            code = self.end(pid, f"{'tear' if tear else 'crash'} {n}")
            n += every
        self.tally.extra["changes"] = n - every

    def kills(self, count: int, seed: int) -> None:
        """SIGKILL at random moments between start and end, measured on one run that is left alone."""
        times = random.Random(seed)
        pid = self.begin(lambda: None)
        began = self.begun()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        lasts = time.monotonic() - began
        assert self.end(pid, "undisturbed") == 0, self.tally.failures
        self.tally.runs = 0
        for number in range(count):
            pid = self.begin(lambda: None)
            self.begun()
            time.sleep(times.uniform(0, lasts))
            os.kill(pid, signal.SIGKILL)
            self.end(pid, f"kill {number}")

    def begun(self) -> float:
        """Wait until the writer is prepared; return when that was."""
        while BEGUN not in self.told.read_text():
            time.sleep(0.001)
        return time.monotonic()
