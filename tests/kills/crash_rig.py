"""Run a writer, cut it short, open the log again, check: on copies of one log, again and again.

A process without threads forks one child that writes and dies, and another that reopens and checks. The
writer ends at one of ``crash_points``, or by SIGKILL at a random moment; what comes to its end undisturbed is
checked too, and ends a series of points.
"""

import functools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_points import CRASHED, POINTS

from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

BEGUN = "begun"
NEVER = ("lost", "duplicated", "wrong")
"""What a check may count, and what may never be."""


@dataclass(frozen=True)
class Scenario:
    """Something that writes.

    Attributes:
        build: Makes the log beforehand.
        act: Writes; may note lines in the file of acknowledgements.
        check: Asserts, on a healed and verified log; told what was acknowledged and whether all was done. May
            return counts.
        prepare: Run in each child first.
        warm: Run once, before any child is forked off: imports what takes long, and starts no thread.
        announces: It notes ``BEGUN`` itself, when what comes before has nothing to lose.
        linked: The log has links before, which `verify` names until an erasure has taken them away.
        rounds: How many times one after another it is cut short, before anything is checked.
    """

    build: Callable[[Path], None]
    act: Callable[[Path, Callable[[Any], None]], None]
    check: Callable[[Path, list[Any], bool], Mapping[str, int] | None]
    prepare: Callable[[], None] = lambda: None
    warm: Callable[[], Any] = lambda: None
    announces: bool = False
    linked: bool = False
    rounds: int = 1


@dataclass
class Tally:
    """What became of a series.

    Attributes:
        runs: Logs that were opened again and checked.
        crashed: Those whose writer had been cut short.
        points: How many points of its kind an undisturbed writer passes.
        counts: Sums of what the checks counted.
    """

    runs: int = 0
    crashed: int = 0
    points: int = 0
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


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


def noting(acknowledged: Path) -> Callable[[Any], None]:
    """Return what notes a fact where a kill can't reach it."""
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # Before anything is put in its place: an acknowledgement is no change of the log.
    write = os.write
    return lambda fact: (write(descriptor, json.dumps(fact).encode() + b"\n"), None)[1]


def noted(acknowledged: Path) -> list[Any]:
    return [json.loads(line) for line in acknowledged.read_text().split("\n") if line]


def reopened(scenario: Scenario, home: Path, acknowledged: Path, complete: bool) -> None:
    """What the next program does, and what must be true then."""
    scenario.prepare()
    root = home / "log"
    told = [fact for fact in noted(acknowledged) if fact != BEGUN]
    intents = len(list(Log(root).ledger.of("erasure-intent")))
    healed = erase.heal(Log(root))
    found = verify(root)
    assert found.ok or (scenario.linked and not intents), found.problems
    assert erase.heal(Log(root)) == []
    counts = Counter({"erasing": bool(intents), "healed": bool(healed), "verified": found.ok})
    counts.update(scenario.check(home, told, complete) or {})
    (home.parent / "counts").write_text(json.dumps(counts))


class Rig:
    """Runs a scenario again and again on copies of one log.

    Args:
        scenario: Which.
        work: An empty folder.
        say: Told each time a hundred runs are done.
    """

    def __init__(
        self, scenario: Scenario, work: Path, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.scenario, self.work, self.say = scenario, work, say
        self.base, self.home = work / "base", work / "home"
        self.told, self.errors = work / "acknowledged", work / "error"
        self.tally = Tally()
        self.base.mkdir()
        scenario.warm()

        def build() -> None:
            self.scenario.prepare()
            self.scenario.build(self.base)

        code = waited(forked(build, self.errors))
        assert code == 0, self.errors.read_text()

    def faults(self, kind: str, every: int, seed: int = 11) -> Tally:
        """Cut short at each n-th point of a kind, n = 1, 1 + every, …, until the writer comes to its end."""
        n, code = 1, CRASHED
        later = random.Random(seed)
        while code == CRASHED:
            self._lay()
            code = self._ends(self._began(functools.partial(POINTS[kind], n, self.home)))
            for _ in range(self.scenario.rounds - 1):
                again = functools.partial(POINTS[kind], later.randrange(1, n + 1), self.home)
                self._ends(self._began(again))
            self._check(code, f"{kind} {n}")
            n += every
        self.tally.points = n - every
        return self.tally

    def kills(self, count: int, seed: int = 7) -> Tally:
        """SIGKILL at random moments between start and end, measured on one run that is left alone."""
        times = random.Random(seed)
        self._lay()
        pid, began = self._began(), time.monotonic()
        code = self._ends(pid)
        lasts = time.monotonic() - began
        self._check(code, "undisturbed")
        self.tally = Tally(failures=self.tally.failures)
        number = 0
        while self.tally.crashed < count and number < 3 * count:
            self._lay()
            for _ in range(self.scenario.rounds):
                pid = self._began()
                time.sleep(times.uniform(0, lasts))
                os.kill(pid, signal.SIGKILL)
                code = self._ends(pid)
            self._check(code, f"kill {number}")
            number += 1
        return self.tally

    def _lay(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.base, self.home, symlinks=True)
        self.told.write_text("")

    def _began(self, arrange: Callable[[], None] = lambda: None) -> int:
        """Start the writer; return its pid once it is prepared."""
        before = self.told.stat().st_size

        def act() -> None:
            note = noting(self.told)
            self.scenario.prepare()
            if not self.scenario.announces:
                note(BEGUN)
            arrange()
            self.scenario.act(self.home, note)

        pid = forked(act, self.errors)
        while self.told.stat().st_size == before and not os.waitid(
            os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG
        ):
            time.sleep(0.0002)
        return pid

    def _ends(self, pid: int) -> int:
        code = waited(pid)
        if code == 1:
            self.tally.failures.append(f"the writer failed: {self.errors.read_text()[-900:]}")
        return code

    def _check(self, code: int, label: str) -> None:
        """Open the log that was left and check it; a log that fails is kept, as it was left."""
        left, counts = self.work / "left", self.work / "counts"
        shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self.home, left, symlinks=True)
        self.tally.runs += 1
        self.tally.crashed += code != 0
        check = functools.partial(reopened, self.scenario, self.home, self.told, code == 0)
        if waited(forked(check, self.errors)):
            self._failed(left, label, self.errors.read_text()[-1500:])
        else:
            found = json.loads(counts.read_text())
            self.tally.counts.update(found)
            if any(found.get(name) for name in NEVER):
                self._failed(left, label, str(found))
        if self.tally.runs % 100 == 0:
            self.say(f"{self.tally.runs} runs, {len(self.tally.failures)} failures")

    def _failed(self, left: Path, label: str, why: str) -> None:
        kept = self.work / f"failed-{len(self.tally.failures)}"
        left.rename(kept)
        shutil.copy(self.told, kept / "acknowledged")
        self.tally.failures.append(f"{label}: {why} ({kept.name})")


def told(tally: Tally) -> None:
    """Print a tally as one JSON line."""
    sys.stdout.write(json.dumps(tally.__dict__) + "\n")
