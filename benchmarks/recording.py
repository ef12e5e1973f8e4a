"""What recording costs: nothing recorded, this project's recorder, Minari's and EnvLogger, in turns.

Run from a checkout: ``make bench-record``, which installs the others first; or ``python -m
benchmarks.recording [ENV …] [--rounds N]`` with what is installed: who is missing is named and left out.
Progress goes to standard error, the table to standard output; nothing stays behind.
"""

import argparse
import contextlib
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from benchmarks.recorders import memory
from benchmarks.recorders.base import Recorder, difference
from benchmarks.recorders.environments import CASES, STACKED, Case, actions, make
from benchmarks.recorders.known import RECORDERS
from benchmarks.recorders.timing import Times, hot_path, whole

ROUNDS = 5
DEFINITIONS = """
hot path   stretches of consecutive steps, resets included, bare and recorded in turns: median difference
whole      the loop by itself, with any waiting for what is written beside it; less the bare loop just before
all-in     the same with closing: all is sealed, and readable by others
x          recorded over bare; bare is shown as the hot path has it. Each figure is the median of the rounds
B/step     of the files: steps and episodes, or the peer's folder. Actions are random, drawn from a seed
lossless   read back and compared with a second run of the environment: every value and dtype
loaded by  all steps, into memory or through a query that looks at them: the median of three, warm
"""


@dataclass(frozen=True)
class Kept:
    """What a recording is worth: bytes a step, what is lost, and rows a second by each way of loading."""

    size: float
    lost: str | None
    loads: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("env", nargs="*", help=f"of {', '.join(case.env_id for case in CASES)}, {STACKED}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args(arguments)
    unknown = set(asked.env) - {STACKED, *(case.env_id for case in CASES)}
    if unknown:
        parser.error(f"no such environment here: {', '.join(sorted(unknown))}")
    cases = [case for case in CASES if not asked.env or case.env_id in asked.env]
    bare, *recorders = _present()
    _head(recorders)
    loads: list[str] = []
    for case in filter(lambda case: _installed(case.env_id), cases):
        times, kept = _measured(case, recorders, asked.rounds)
        print(*_lines(case, times, kept), sep="\n", flush=True)
        loads += [
            f"{case.env_id:<15}{name:<17}{way:<34}{rate:>12,.0f}"
            for name, one in kept.items()
            for way, rate in one.loads.items()
        ]
    print(f"\n{'environment':<15}{'recorder':<17}{'loaded by':<34}{'rows/s':>12}", *loads, sep="\n")
    if (not asked.env or STACKED in asked.env) and _installed(STACKED):
        _print_memory([bare, *recorders])
    print(DEFINITIONS)
    for case in cases:
        print(f"{case.env_id:<15}{case.what}; {case.steps:,} steps a recording, {case.stretch:,} a stretch")
    for share in sorted({one.share for one in recorders} - {1}):
        slow = ", ".join(one.name for one in recorders if one.share == share)
        own = "; ".join(f"{case.steps // min(share, case.shorter):,}" for case in cases)
        print(f"recordings of {own} steps: {slow}")


def _present() -> Iterator[Recorder]:
    for recorder in RECORDERS:
        reason = recorder.absent()
        if reason is None:
            yield recorder
        else:
            _tell(f"{recorder.name} is left out: {reason}")


def _installed(env_id: str) -> bool:
    try:
        make(env_id).close()
    except (gym.error.Error, ImportError) as error:
        _tell(f"{env_id} is left out: {type(error).__name__}")
        return False
    return True


def _head(recorders: Sequence[Recorder]) -> None:
    packages = ["gymnasium", "numpy", "pyarrow", "duckdb", *dict.fromkeys(one.package for one in recorders)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    print(f"{os.cpu_count()} processors, load {load} when it began\n")
    print("µs a step: the bare environment, what recording adds, and how many times bare the sum is")
    cells = "".join(f"{'+' + name:>10}{'x':>7}" for name in ("hot path", "whole", "all-in"))
    print(f"{'environment':<15}{'recorder':<17}{'bare':>8}{cells}{'B/step':>11}  lossless", flush=True)


def _measured(
    case: Case, recorders: Sequence[Recorder], rounds: int
) -> tuple[Mapping[str, Times], Mapping[str, Kept]]:
    with contextlib.closing(make(case.env_id)) as env:
        image = len(env.observation_space.shape or ()) == 3
        planned = actions(env, case.steps)
    taking_part = [one for one in recorders if image or not one.images]
    times: dict[str, Times] = {one.name: Times([], [], []) for one in taking_part}
    kept = {}
    for number in range(rounds):
        # So that nobody always comes after the same one.
        turn = number % len(taking_part)
        for recorder in taking_part[turn:] + taking_part[:turn]:
            _tell(f"{case.env_id}, round {number + 1} of {rounds}: {recorder.name}")
            own = planned[: case.steps // min(recorder.share, case.shorter)]
            with tempfile.TemporaryDirectory() as folder:
                times[recorder.name].hot.append(hot_path(case, recorder, own, Path(folder)))
            with tempfile.TemporaryDirectory() as folder:
                loop, closed = whole(case, recorder, own, Path(folder))
                times[recorder.name].whole.append(loop)
                times[recorder.name].all_in.append(closed)
                if number == rounds - 1:
                    kept[recorder.name] = _kept(case, recorder, own, Path(folder))
    return times, kept


def _kept(case: Case, recorder: Recorder, own: Sequence[Any], folder: Path) -> Kept:
    size = recorder.size(folder) / len(own)
    loads = {}
    for way, load in recorder.loads(folder, case.env_id).items():
        _tell(f"{case.env_id}: {recorder.name}, {way}")
        loads[way] = _rate(load, len(own))
    with contextlib.closing(make(case.env_id)) as env:
        lost = difference(recorder.episodes(folder), env, own)
    return Kept(size, lost, loads)


def _rate(load: Callable[[], int], n_rows: int) -> float:
    """Return rows a second: the median of three, after one that is not counted."""
    taken = []
    for _ in range(4):
        begun = time.perf_counter()
        rows = load()
        taken.append(time.perf_counter() - begun)
        if rows != n_rows:
            raise AssertionError(f"{rows} rows were loaded, {n_rows} recorded")
    return n_rows / statistics.median(taken[1:])


def _lines(case: Case, times: Mapping[str, Times], kept: Mapping[str, Kept]) -> Iterator[str]:
    for name, own in times.items():
        cells = ""
        for pairs in (own.hot, own.whole, own.all_in):
            added = statistics.median(pair.recorded - pair.bare for pair in pairs)
            factor = statistics.median(pair.recorded / pair.bare for pair in pairs)
            cells += f"{added:>+10.2f}{factor:>7.{2 if factor < 100 else 0}f}"
        bare = statistics.median(pair.bare for pair in own.hot)
        one = kept[name]
        said = "yes" if one.lost is None else f"no: {one.lost}"
        yield f"{case.env_id:<15}{name:<17}{bare:>8.2f}{cells}{one.size:>11,.2f}  {said}"


def _print_memory(recorders: Sequence[Recorder]) -> None:
    print(f"\npeak memory above bare, MB: one episode of {memory.STEPS:,} steps of 84x84x4, grey Pong frames")
    print(f"{'recorder':<17}{'peak':>9}{'before the first step':>24}{'then: anonymous':>18}{'mapped':>9}")
    base = None
    for recorder in recorders:
        _tell(f"{STACKED}: {recorder.name}")
        try:
            one = memory.measured(recorder.name)
        except memory.FailedError as error:
            print(f"{recorder.name:<17}fails: {error}"[:120])
            continue
        base = base or one
        name = recorder.name if base is not one else "bare takes"
        less = base if base is not one else memory.Memory(0, 0, 0, 0)
        print(
            f"{name:<17}{one.peak - less.peak:>9.0f}{one.begun - less.begun:>24.0f}"
            f"{one.anonymous - less.anonymous:>18.0f}{one.mapped - less.mapped:>9.0f}",
            flush=True,
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
