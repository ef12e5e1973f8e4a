"""Kill recorders, sealings and recoveries a thousand times, and at every change of the disk: prints a table.

``make sweep-kill`` runs it. It ends with 1 if an acknowledged row was lost, doubled or altered, or a log did
not verify; the folder of such a series is kept.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

AT_ONCE = 2
MEMORY = Path("/dev/shm")
"""Where nobody waits for a disk: a kill, unlike a power cut, is the same in any file system."""
SERIES = (
    ("library", "kill", 400),
    ("learn", "kill", 50),
    ("vector", "kill", 100),
    ("record", "kill", 100),
    ("varying", "kill", 50),
    ("hashed", "kill", 50),
    ("seal", "kill", 50),
    ("seal-varying", "kill", 50),
    ("seal-vector", "kill", 50),
    ("compact", "kill", 50),
    ("compact-varying", "kill", 50),
    ("library", "change", 1),
    ("vector", "change", 1),
    ("varying", "change", 1),
    ("hashed", "change", 1),
    ("record", "change", 1),
    ("learn-cheaply", "change", 1),
    ("seal", "change", 1),
    ("seal-varying", "change", 1),
    ("seal-vector", "change", 1),
    ("compact", "change", 1),
    ("compact-varying", "change", 1),
    ("record", "tear", 1),
    ("library", "line", 37),
    ("varying", "line", 67),
    ("hashed", "line", 67),
)
"""What, how, and how many kills or every how manieth point."""
COLUMNS = ("acknowledged", "lost", "duplicated", "wrong", "healed", "verified")


def run(series: tuple[str, str, int]) -> dict[str, Any]:
    work = tempfile.mkdtemp(prefix="rlhf_audit_kills_", dir=MEMORY if MEMORY.is_dir() else None)
    name = ":".join(map(str, series))
    command = [sys.executable, str(Path(__file__).with_name("kill_driver.py")), work, name]
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    tally: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"failures": ["no end"]}
    if tally["failures"]:
        print(f"{name}: {tally['failures'][0]}\n  all of it: {work}", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(work)
        seconds = time.monotonic() - began
        print(f"{name}: {tally['counts']}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return {"runs": 0, "crashed": 0, "points": 0, "counts": {}} | tally


def row(cells: list[Any]) -> str:
    return f"{cells[0]:<16} {cells[1]:<7}" + "".join(f"{cell:>13}" for cell in cells[2:])


def main() -> int:
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tallies = list(pool.map(run, SERIES))
    print(row(["what", "how", "points", "cut short", *COLUMNS]))
    for (name, how, _), tally in sorted(zip(SERIES, tallies, strict=True), key=lambda pair: pair[0][1]):
        counts = [tally["counts"].get(column, 0) for column in COLUMNS]
        print(row([name, how, tally["points"] or "-", tally["crashed"], *counts]))
    totals = [sum(tally["counts"].get(column, 0) for tally in tallies) for column in COLUMNS]
    print(row(["all", "", "", sum(tally["crashed"] for tally in tallies), *totals]))
    kills = sum(tally["crashed"] for (_, how, _), tally in zip(SERIES, tallies, strict=True) if how == "kill")
    runs = sum(tally["runs"] for tally in tallies)
    failures = sum(len(tally["failures"]) for tally in tallies)
    minutes = (time.monotonic() - began) / 60
    print(f"{kills} kills at random moments; {runs} logs checked, {failures} failures; {minutes:.0f} minutes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
