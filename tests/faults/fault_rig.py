"""Does an act again and again on copies of one log, each time with a fault at another call; then looks.

A process without threads forks a child
that does the act, perhaps one that is struck too as it does it again, and one that does it again as a user
would and compares what is there in the end with what an undisturbed act leaves.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import beside  # noqa: F401 - says where the next ones are
import crash_rig
import cut_disk
import fault_acts
import fault_worlds
import pytest
from fault_acts import ACTS, CONTROLS
from interposed import FAULTS, SINGLE, Fault, How, Interposer

from rlhf_audit.log import reopened
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

KNOWN = {**ACTS, **CONTROLS}
PATIENCE_S = 60
_WRITES = ("write", "pwrite", "writev", "sendfile")
_LEFT = (".tmp", ".new", ".old")


@dataclass
class Tally:
    """What became of a series.

    Attributes:
        calls: How many calls an undisturbed act makes.
        runs: Acts that were struck, done again and compared.
        twice: Those of them that were struck a second time, while they were done again.
        codes: With which they ended when struck.
        sites: Calls, with their paths, that were struck.
        failures: What was not as it must be.
    """

    calls: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    sites: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "sites": len(self.sites)}


@dataclass(frozen=True)
class Strike:
    """A fault at a call."""

    name: str
    at: int

    @property
    def fault(self) -> Fault:
        return FAULTS[self.name]


class Rig:
    """One act, and a folder for its copies."""

    def __init__(self, name: str, work: Path, interposer: Interposer) -> None:
        self.name, self.act, self.work, self.interposer = name, KNOWN[name], work, interposer
        self.base, self.home = work / "base", work / "home"
        self.noted, self.said, self.error = work / "noted", work / "said", work / "error"
        self.tally, self._failures = Tally(), itertools.count()
        assert self._forked(self._build) == 0, self.error.read_text()
        self.entered = self._entered(self.base)
        self.trace = self._undisturbed()
        self.reference = self._found("reference")
        assert self.reference is not None, self.tally.failures

    def series(self, name: str, every: int) -> None:
        """Strike each ``every``-th call that a fault can strike."""
        points: Sequence[int] = range(1, len(self.trace) + 1)
        if FAULTS[name].of_writes:
            points = [at for at in points if self.trace[at - 1].split(" ")[0] in _WRITES]
        for at in points[::every]:
            self.once(Strike(name, at))

    def pairs(self, every: int, seed: int) -> None:
        """Strike each ``every``-th call, and a drawn one of those made when it is done again."""
        drawn = random.Random(seed)
        for at in range(1, len(self.trace) + 1, every):
            first, second = (drawn.choice(SINGLE) for _ in range(2))
            self.once(Strike(first, at), second, drawn)

    def cuts(self, count: int, seed: int) -> None:
        """Let the power fail at drawn moments, often when all is just done; open what is left."""
        luck = random.Random(seed)
        for number in range(count):
            last = len(self.trace) + 1
            at = last if luck.random() < 0.15 else luck.randrange(1, last + 1)
            label = f"{self.name}: power cut {number} before call {at}"
            self._lay()
            shadow, left = self.work / "shadow", self.work / "left"
            for folder in (shadow, left):
                shutil.rmtree(folder, ignore_errors=True)
            shadow.mkdir()
            before = cut_disk.seen(self.home)
            code = self._done(FAULTS["SIGKILL"], at, shadow=shadow)
            done = code == 0
            if not done and code != -signal.SIGKILL:
                self._failed(f"{label}: ended with {code}: {self.said.read_text()[-900:]}")
            cut_disk.lay(before, self.home, shadow, luck, left)
            shutil.rmtree(self.home)
            left.rename(self.home)
            self.tally.runs["power cut"] += 1
            found = self._found(label, self._after_a_cut(done))
            if found is not None and found != self.reference:
                self._failed(f"{label}: {_differing(self.reference, found)}")

    def _after_a_cut(self, done: bool) -> Callable[[], int]:
        noted = self.noted.read_text().splitlines(keepends=True)
        if self.act.records:
            # Steps after the last answer are synced in their turn, and may be lost.
            rated = [number for number, line in enumerate(noted) if line.startswith('["rating"')]
            self.noted.write_text("".join(noted[: rated[-1] + 1 if rated else 0]))

        def first() -> int:
            pytest.MonkeyPatch().setattr(reopened, "boot", lambda: "another")
            # What was acknowledged is not done again; a session of which steps may be lost is.
            return fault_acts.opens(self.home) or self._again(done and not self.act.records)

        return first

    def once(self, strike: Strike, second: str | None = None, drawn: random.Random | None = None) -> None:
        """Do the act, struck; do it again, struck or not; compare."""
        label = f"{self.name}: {strike.name} at {strike.at}"
        self._lay()
        code = self._done(strike.fault, strike.at)
        if not self.interposer.struck:
            return
        self.tally.sites.add(self.interposer.what)
        label += f" ({self.interposer.what})"
        self.tally.runs[strike.name] += 1
        self._judge(label, code, strike.fault, self.act.codes)
        self.tally.codes[f"{strike.name}: {code}"] += 1
        if code == fault_acts.DAMAGED and self._entered(self.home) != self.entered:
            self._failed(f"{label}: it said that it failed, and it counts")
        if second is not None and drawn is not None:
            # How many calls it takes to do it again, nobody knows before.
            at = drawn.randrange(1, 2 + min(len(self.trace), 2 * strike.at + 40))
            code = self._done(FAULTS[second], at, code == 0)
            if self.interposer.struck:
                self.tally.twice += 1
                label += f", then {second} at {at} ({self.interposer.what})"
                self._judge(label, code, FAULTS[second], self.act.codes | self.act.again)
        self._ends(label, code == 0)

    def _entered(self, home: Path) -> int:
        return sum(1 for _ in Log(home / "log").ledger.of(self.act.event)) if self.act.event else 0

    def _ends(self, label: str, complete: bool) -> None:
        """Do it again, undisturbed, and compare."""
        self.interposer.clear()
        found = self._found(label, lambda: self._again(complete))
        if found is not None and found != self.reference:
            self._failed(f"{label}: {_differing(self.reference, found)}")

    def _judge(self, label: str, code: int, fault: Fault, codes: frozenset[int]) -> None:
        said = self.said.read_text()
        if fault.how in (How.KILL, How.TEAR):
            wrong = code != -signal.SIGKILL
        else:
            # What can be done later may be left for later.
            wrong = code not in codes | {0} or "Traceback" in said or "Exception ignored" in said
            wrong = wrong or (code == fault_acts.DAMAGED and "error: " not in said)
        if wrong:
            self._failed(f"{label}: ended with {code}: {said[-900:]}")

    def _failed(self, text: str) -> None:
        kept = self.work / f"failed-{next(self._failures)}"
        self.tally.failures.append(f"{text} ({kept.name})")
        shutil.copytree(self.home, kept, symlinks=True)

    def _build(self) -> None:
        self.act.prepare()
        self.act.build(self.base)

    def _undisturbed(self) -> list[str]:
        trace = self.work / "trace"
        self._lay()
        code = self._done(FAULTS["SIGKILL"], 0, trace=trace)
        assert code == 0, self.said.read_text()
        self.tally.calls = self.interposer.calls
        return trace.read_text().splitlines()

    def _lay(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.base, self.home, symlinks=True)
        self.noted.write_text("")

    def _done(self, fault: Fault, at: int, complete: bool | None = None, **kept: Path) -> int:
        """Do the act in a child, or do it again if it was not ``complete``; return how it ended."""
        self.interposer.clear()

        def act() -> int:
            self._prepare()
            note = crash_rig.noting(self.noted)
            self.interposer.arm(self.home, fault, at, **kept)
            return self.act.run(self.home, note) if complete is None else self._again(complete, note)

        return self._forked(act, self.said)

    def _again(self, complete: bool, note: Callable[[Any], None] | None = None) -> int:
        """Do what a user does: the same once more, unless it went well; then something else."""
        code = 0 if complete else self.act.run(self.home, note or crash_rig.noting(self.noted))
        return fault_acts.opens(self.home) or code

    def _found(self, label: str, first: Callable[[], int] = lambda: 0) -> Any:
        """Return what is there once ``first`` is done; None where it is not what must be there."""
        found = self.work / "found"

        def look() -> int:
            self._prepare()
            code = first()
            assert code in self.act.again, f"done again it ends with {code}"
            root = self.home / "log"
            log = Log(root)
            assert erase.heal(log) == []
            verified = verify(root)
            assert verified.ok, verified.problems
            left = [path.name for path in self.home.rglob("*") if path.name.endswith(_LEFT)]
            places = (log.layout.placing, log.layout.compacting, log.layout.pending)
            left += [path.name for path in places if path.exists()]
            assert not [*left, *log.layout.journal.iterdir()], left
            noted = [json.loads(line) for line in self.noted.read_text().split("\n") if line]
            facts = self.act.facts(self.home, [fact for fact in noted if fact != "done"])
            found.write_text(json.dumps(facts))
            return 0

        if self._forked(look, self.said) != 0:
            self._failed(f"{label}: {self.said.read_text()[-1500:]}")
            return None
        return json.loads(found.read_text())

    def _prepare(self) -> None:
        fault_worlds.small_parts()
        self.act.prepare()

    def _forked(self, act: Callable[[], int | None], said: Path | None = None) -> int:
        return crash_rig.waited(forked(act, self.error, said))


def forked(act: Callable[[], int | None], error: Path, said: Path | None = None) -> int:
    """Run ``act`` in a child, which ends with its code, with 70 after an error; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        signal.alarm(PATIENCE_S)
        if said is not None:
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        code = act() or 0
    except BaseException:  # noqa: BLE001 - the parent is told
        sys.stderr.flush()
        with (said or error).open("a") as stream:
            stream.write(traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _differing(reference: Any, found: Any) -> str:
    if isinstance(reference, list) and isinstance(found, list) and len(reference) == len(found):
        pairs = [pair for pair in zip(reference, found, strict=True) if pair[0] != pair[1]]
        return _differing(*pairs[0])
    return f"{str(found)[:300]} instead of {str(reference)[:300]}"
