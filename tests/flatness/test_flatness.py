"""Memory does not grow with a session's length, nor does the cost of a step.

What is watched is the private memory of a process that does one thing (``RssAnon`` in /proc/PID/status), less
what it had when it began. Pages of mapped files are left out: they are the disk's, and go when room is
needed.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import long_world
import pytest

HERE = Path(__file__).parent
STEPS = (100_000, 1_000_000, 10_000_000)
KILLED = ("killed", "verify", "recover")
SEALED = ("record", "verify", "replay", "retrain")
SHORT, LONG, SLOTS = 20_000, 400_000, "4096"
"""For every day: parts are small, so that both sessions have several."""
PART_MB = 64
"""What sealing one more part at a time may take."""
MOST_MB = 12
"""How much more a session of any length may take: less than a handful of bytes a step."""


@dataclass(frozen=True)
class Cost:
    """What one thing took.

    Attributes:
        megabytes: The most private memory beyond what there was when it began.
        microseconds: Of the processor, a step.
    """

    megabytes: float
    microseconds: float


def watched(root: Path, operation: str, n_steps: int, slots: str = "") -> Cost:
    """Do one thing in a process of its own."""
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, long_world.__file__, str(root), operation, str(n_steps), slots]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as child:
        assert child.stdout is not None
        begun = json.loads(child.stdout.readline())
        before, peaks, over = _private(child.pid), [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(child.pid, peaks, over))
        watcher.start()
        told = [json.loads(line) for line in child.stdout]
        over.set()
        watcher.join()
        usage = os.wait4(child.pid, 0)[2]
    child.returncode = 0
    assert operation == "killed" or (told and told[-1]["phase"] == "end"), operation
    spent = usage.ru_utime + usage.ru_stime - begun["cpu_s"]
    return Cost((peaks[0] - before) / 1024, spent * 1e6 / n_steps)


def _watch(pid: int, peaks: list[int], over: threading.Event) -> None:
    while not over.wait(0.002):
        peaks[0] = max(peaks[0], _private(pid))


def _private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def costs(folder: Path, n_steps: int) -> Iterator[tuple[str, Cost]]:
    """Do everything with a session of ``n_steps``, and with one that a kill has left open."""
    for kind, operations in (("sealed", SEALED), ("open", KILLED)):
        root = folder / f"{kind}-{n_steps}" / "log"
        long_world.new(root)
        for number, operation in enumerate(operations):
            yield f"{kind} {number}: {operation}", watched(root, operation, n_steps)


def table(sizes: Sequence[int], found: dict[str, list[Cost]]) -> str:
    """Return what was found, a line for each operation."""
    lines = [f"{'':22}" + "".join(f"{n:>11,} steps       " for n in sizes)]
    for name, row in found.items():
        cells = "".join(f"{one.megabytes:8.1f} MB {one.microseconds:7.2f} µs  " for one in row)
        lines.append(f"{name:22} {cells}")
    return "\n".join(lines)


@pytest.mark.parametrize("operations", [("everything",), ("killed", "verify", "recover")])
def test_memory_is_flat_in_the_length_of_a_session(tmp_path: Path, operations: Sequence[str]) -> None:
    peaks = []
    for n_steps in (SHORT, LONG):
        root = tmp_path / str(n_steps) / "log"
        long_world.new(root)
        peaks.append([watched(root, operation, n_steps, SLOTS).megabytes for operation in operations])
    for short, long in zip(*peaks, strict=True):
        assert long - short < MOST_MB, peaks


@pytest.mark.sweep
def test_a_session_of_ten_million_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, list[Cost]] = {}
    for n_steps in STEPS:
        for name, cost in costs(tmp_path, n_steps):
            found.setdefault(name, []).append(cost)
    with capsys.disabled():
        print("\n" + table(STEPS, found))
    for name, (_, middle, last) in found.items():
        # From 1e6 on every part is of full size. How many of them a kill leaves to be sealed is luck.
        assert last.megabytes < middle.megabytes * 1.25 + (PART_MB if "open" in name else MOST_MB), name
        assert last.microseconds < middle.microseconds * 1.5 + 0.5, name


@pytest.mark.sweep
def test_a_million_ratings_in_one_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, list[Cost]] = {}
    for n_ratings in (100_000, 1_000_000):
        root = tmp_path / str(n_ratings) / "log"
        long_world.new(root)
        for name in ("rate", "verify", "load"):
            found.setdefault(name, []).append(watched(root, name, n_ratings))
    with capsys.disabled():
        print("\n" + table((100_000, 1_000_000), found))
