"""What the whole catalogue and the report cost, on logs of a million and of ten million ratings.

Run from a checkout: ``make bench-audit``, or ``python -m benchmarks.auditing [--rows N …] [--log DIR]``. The
log is written first, which takes longer than auditing it. Each measurement is a process with one thread.
Progress goes to standard error, tables to standard output; nothing stays behind.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.auditors import generated

ROWS = (1_000_000, 10_000_000)
DEFINITIONS = """
part       opening the log, the views, what audits share (answers … ratings), then each audit: wall seconds,
           and the peak of resident memory until then, the interpreter and its libraries in it
whole      `rlhf-audit report` without its start: all of that again, the page, and its entry in the ledger
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--log", type=Path, help="a log that `generated` wrote before; none is written then")
    asked = parser.parse_args(arguments)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; load {load}")
    if asked.log:
        _measured(asked.log, "given")
    else:
        for n_rows in asked.rows:
            with tempfile.TemporaryDirectory(prefix="rlhf_audit_auditing_") as folder:
                print(f"writing {n_rows:,} ratings", file=sys.stderr, flush=True)
                generated.log(Path(folder) / "log", n_rows)
                _measured(Path(folder) / "log", f"{n_rows:,} ratings")
    print(DEFINITIONS)


def _measured(log: Path, name: str) -> None:
    for what in ("parts", "whole"):
        print(f"\n{name:<30}{'s':>8}{'MiB':>8}", flush=True)
        for part, seconds, peak in _apart(log, what):
            print(f"{part:<30}{seconds:>8.2f}{peak:>8.0f}", flush=True)


def _apart(log: Path, what: str) -> list[tuple[str, float, float]]:
    """Return what a process of its own says of each part."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.auditors.measured", str(log), what],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return [tuple(one) for one in json.loads(done.stdout)]


if __name__ == "__main__":
    main()
