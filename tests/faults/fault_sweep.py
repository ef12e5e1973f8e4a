"""A fault at every write-side call of every act, a second one behind it, a thousand power cuts; a table.

``make sweep-faults`` runs it. It ends with 1 if a log did not come to what an undisturbed act leaves, or a
verb ended as it may not; the folder of such a series is kept. An argument N strikes every N-th call only.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fault_acts import ACTS
from interposed import SINGLE, environment

AT_ONCE = 2
MEMORY = Path("/dev/shm")
"""Where nobody waits for a disk."""
_RIG = Path(__file__).with_name("fault_main.py")
HOW_OFTEN = {
    **dict.fromkeys(SINGLE, 1),
    "pairs": 1,
    "SIGKILL torn": 1,
    "ENOSPC short": 1,
    "EIO twice": 4,
    "ENOSPC lasting": 4,
    "EROFS lasting": 4,
}
"""Every how manieth call meets it."""
CUTS = {
    "library": 250,
    "record": 150,
    "varying": 100,
    "ticking": 100,
    "erase": 100,
    "compact": 100,
    "consent": 50,
    "withdraw": 50,
    "enroll": 50,
    "retrain": 50,
}
"""How many power cuts: a thousand."""


def series(name: str, every: int) -> list[str]:
    """Return what is done to an act."""
    told = [f"{name}:{what}:{often * every}" for what, often in HOW_OFTEN.items()]
    return told + [f"{name}:cut:{max(1, n // every)}" for act, n in CUTS.items() if act == name]


def run(name: str, every: int, built: Path) -> list[dict[str, Any]]:
    """Do all of it to one act, in one process."""
    work = Path(
        tempfile.mkdtemp(prefix=f"rlhf_audit_faults_{name}_", dir=MEMORY if MEMORY.is_dir() else None)
    )
    wanted, tallies = series(name, every), []
    command = [sys.executable, str(_RIG), str(work), *wanted]
    surroundings = {**os.environ, "LD_PRELOAD": str(built)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings) as process:
        assert process.stdout is not None
        for one, line in zip(wanted, process.stdout, strict=False):
            tallies.append({"series": one, **json.loads(line)})
            print(_line(tallies[-1]), file=sys.stderr, flush=True)
    if len(tallies) < len(wanted):
        tallies.append({"series": wanted[len(tallies)], "runs": {}, "failures": ["came to no end"]})
    if any(tally["failures"] for tally in tallies):
        print(f"{name}: what is left is in {work}", file=sys.stderr)
    else:
        shutil.rmtree(work)
    return tallies


def _line(tally: dict[str, Any]) -> str:
    runs = sum(tally["runs"].values())
    told = f"{tally['series']}: {runs} of {tally['calls']} calls, {tally['seconds']} s; {tally['codes']}"
    return "\n  ".join([told, *tally["failures"][:3]])


def table(names: Sequence[str], tallies: Sequence[dict[str, Any]]) -> str:
    """Return what happened to each act, a line each."""
    columns = [*SINGLE, "torn, short, in a row, lasting", "twice", "power cuts", "failures"]
    lines = [f"{'act':<13}{'calls':>7}" + "".join(f"{one:>{max(9, len(one) + 2)}}" for one in columns)]
    totals: Counter[str] = Counter()
    for name in names:
        own = [tally for tally in tallies if tally["series"].startswith(f"{name}:")]
        counts: Counter[str] = Counter()
        for tally in own:
            what = tally["series"].split(":")[1]
            counts["failures"] += len(tally["failures"])
            if what == "pairs":
                counts["twice"] += tally.get("twice", 0)
            else:
                column = "power cuts" if what == "cut" else what if what in SINGLE else columns[4]
                counts[column] += sum(tally["runs"].values())
        totals.update(counts)
        calls = max((tally.get("calls", 0) for tally in own), default=0)
        totals["calls"] += calls
        lines.append(_row(name, calls, counts, columns))
    return "\n".join([*lines, _row("all", totals["calls"], totals, columns)])


def _row(name: str, calls: int, counts: Counter[str], columns: Sequence[str]) -> str:
    return f"{name:<13}{calls:>7}" + "".join(f"{counts[one]:>{max(9, len(one) + 2)}}" for one in columns)


def main(every: str = "1") -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as built:
        library = Path(environment(Path(built))["LD_PRELOAD"])
        # What takes longest first.
        names = sorted(ACTS, key=lambda name: name not in ("erase", "seal", "compact", "varying"))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(lambda name: run(name, int(every), library), names)
            tallies = [tally for own in found for tally in own]
    print(table(list(ACTS), tallies))
    failures = sum(len(tally["failures"]) for tally in tallies)
    codes = sum((Counter(tally.get("codes", {})) for tally in tallies), Counter())
    print("ended with: " + ", ".join(f"{what} ({n})" for what, n in sorted(codes.items())))
    minutes = (time.monotonic() - began) / 60
    runs = sum(sum(tally["runs"].values()) for tally in tallies)
    print(f"{runs} logs struck, {failures} not recovered; {minutes:.0f} minutes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
