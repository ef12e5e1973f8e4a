"""How long recording takes: each recorder beside the bare environment, in turns."""

import gc
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recorders.base import Bare, Opened, Recorder, play
from benchmarks.recorders.environments import SEED, Case, make

SHORTER = 4
"""Where stretches take turns, a recording is so many times shorter."""


@dataclass(frozen=True)
class Pair:
    """Microseconds a step: of the bare environment, and recorded."""

    bare: float
    recorded: float


@dataclass(frozen=True)
class Times:
    """One pair a round of each: as the table's definitions say."""

    hot: list[Pair]
    whole: list[Pair]
    all_in: list[Pair]


def hot_path(case: Case, recorder: Recorder, own: Sequence[Any], folder: Path) -> Pair:
    """Let stretches of the bare environment and of the recorded one alternate; return the medians.

    What else the machine does falls on neighbours alike. What is written beside the loop slows both.
    """
    bare, opened = Bare().open(make(case.env_id), folder), recorder.open(make(case.env_id), folder)
    own = own[: max(len(own) // SHORTER, 2 * case.stretch)]
    bare.env.reset(seed=SEED)
    opened.env.reset(seed=SEED)
    taken = []
    for start in range(0, len(own), case.stretch):
        stretch = own[start : start + case.stretch]
        taken.append([play(one, stretch) / len(stretch) * 1e6 for one in (bare, opened)])
    bare.env.close()
    opened.env.close()
    base = statistics.median(before for before, _ in taken)
    return Pair(base, base + statistics.median(after - before for before, after in taken))


def whole(case: Case, recorder: Recorder, own: Sequence[Any], folder: Path) -> tuple[Pair, Pair]:
    """Play it all bare, then recorded; return the loop, and the loop with the recording closed."""
    base, _ = _alone(Bare().open(make(case.env_id), folder), own)
    loop, closed = _alone(recorder.open(make(case.env_id), folder), own)
    return Pair(base, loop), Pair(base, closed)


def _alone(opened: Opened, own: Sequence[Any]) -> tuple[float, float]:
    opened.env.reset(seed=SEED)
    gc.collect()
    # What was left to be written before must not fall on this one.
    os.sync()
    begun = time.perf_counter()
    taken = play(opened, own)
    opened.env.close()
    return taken / len(own) * 1e6, (time.perf_counter() - begun) / len(own) * 1e6
