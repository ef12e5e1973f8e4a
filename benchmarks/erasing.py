"""What erasing one rater of 200 costs: this project's deletion at several sizes, and others' at one.

Run from a checkout: ``make bench-erase``, which installs Delta Lake first; or ``python -m benchmarks.erasing
[--rows N …] [--raters N] [--peers N]`` with what is installed: who is missing is named and left out.
Progress goes to standard error, the table to standard output; nothing stays behind.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.erasers import generated
from benchmarks.erasers.base import Eraser, names, rewritten, still_found
from benchmarks.erasers.peers import Delta, Rewrite
from rlhf_audit.clock import from_text
from rlhf_audit.log.store import Log
from rlhf_audit.withdrawal import erase

ROWS = (1_000_000, 10_000_000, 100_000_000)
RATERS = 100
PEER_RATERS = 3
SEARCHED = 10_000_000
PEERS: tuple[Eraser, ...] = (Delta(False), Delta(True), Rewrite())
DEFINITIONS = """
deletion   from the time of the ledger's intent to that of its entry that all is gone; all of it is on
           the disk when it ends (fsync). No policy was trained from these logs: retraining is apart
whole      the plan, the withdrawal, the intent, the deletion, and the last entry's own way to the disk
cpu        of the whole, of this process
not here   the residue search of the whole log and the receipt, which `erase --apply` adds: timed once, below
rewritten  bytes of files that are not the rater's, by inode, time of change and SHA-256 of every file before
           the first erasure and after the last; the ledger grows by its entries, told apart
found      files that still hold the pseudonym, in any structure; ours are the ledger (by design)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--raters", type=int, default=RATERS, help="how many of the 200 are erased")
    parser.add_argument("--search", type=int, default=SEARCHED, help="most rows of which all is searched")
    parser.add_argument("--peers", type=int, default=10_000_000, help="rows for the others; 0 for none")
    asked = parser.parse_args(arguments)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; load {load}")
    print(
        f"\n{'ours, rows':>14}{'MB':>8}{'erased':>8}{'deletion ms: p50':>18}{'p99':>8}"
        f"{'whole p50':>11}{'p99':>8}"
        f"{'cpu p50':>9}{'p99':>8}{'rewritten B':>13}{'ledger B':>10}{'search s':>10}"
    )
    for n_rows in asked.rows:
        with _folder() as folder:
            print(_ours(Path(folder), n_rows, asked.raters, n_rows <= asked.search), flush=True)
    if asked.peers:
        print(f"\n{'others, rows':<34}{'':>12}{'MB':>8}{'erase s':>10}{'rewritten MB':>14}{'found in':>10}")
        for peer in PEERS:
            with _folder() as folder:
                print(_peer(peer, Path(folder), asked.peers), flush=True)
    print(DEFINITIONS)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="rlhf_audit_erasing_")


def _ours(folder: Path, n_rows: int, n_raters: int, searched: bool) -> str:
    _say(f"writing {n_rows:,} rows")
    log, raters = generated.log(folder / "log", n_rows)
    root = log.layout.root
    size = sum(path.stat().st_size for path in log.layout.files()) / 1e6
    before, ledger = names(root), log.layout.entries.stat().st_size
    log = Log(root, signing_key=generated.KEY)
    chosen = raters[1 : n_raters + 1]
    whole, cpu, deletion = [], [], []
    for number, rater_id in enumerate(chosen):
        _say(f"erasing {number + 1} of {len(chosen)}")
        start, used = time.perf_counter(), time.process_time()
        done = erase.delete(log, rater_id)
        whole.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
        deletion.append((from_text(done.done.at) - from_text(done.intent.at)).total_seconds())
    gone = {f"feedback/rater_id={rater_id}/" for rater_id in chosen}
    after = names(root)
    assert not any(name.startswith(tuple(gone)) for name in after)
    others = rewritten(root, before, after, ("ledger/", ".lock"))
    grown = log.layout.entries.stat().st_size - ledger
    search = f"{_searched(log, chosen[-1]):10.1f}" if searched else f"{'-':>10}"
    figures = "".join(
        f"{1e3 * p50:{width}.0f}{1e3 * p99:8.0f}"
        for (p50, p99), width in zip(map(_percentiles, (deletion, whole, cpu)), (18, 11, 9), strict=True)
    )
    return f"{n_rows:>14,}{size:8.0f}{len(chosen):8}{figures}{others:13,}{grown:10,}{search}"


def _searched(log: Log, rater_id: str) -> float:
    """Return how long the search of all that is left takes, and the receipt, seconds."""
    _say("searching the whole log once")
    start = time.perf_counter()
    assert erase.apply(log, rater_id).clean
    return time.perf_counter() - start


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    # Nearest rank: of 100 the 99th.
    return statistics.median(ordered), ordered[max(0, -(-99 * len(ordered) // 100) - 1)]


def _peer(peer: Eraser, folder: Path, n_rows: int) -> str:
    missing = peer.absent()
    if missing is not None:
        return f"{peer.name:<34}{n_rows:>12,}  {missing}"
    _say(f"{peer.name}: writing {n_rows:,} rows")
    place = folder / "store"
    place.mkdir()
    store = peer.fill(place, generated.parts(n_rows))
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e6
    times, others = [], []
    chosen = [f"r-{number:08x}" for number in range(1, PEER_RATERS + 1)]
    for rater_id in chosen:
        before = names(place)
        start = time.perf_counter()
        store.erase(rater_id)
        times.append(time.perf_counter() - start)
        others.append(rewritten(place, before, names(place), ("_delta_log/",)))
    _say(f"{peer.name}: looking for the erased")
    found = still_found(place, chosen[-1])
    shutil.rmtree(place)
    return (
        f"{peer.name:<34}{n_rows:>12,}{size:8.0f}{statistics.median(times):10.2f}"
        f"{statistics.median(others) / 1e6:14.1f}{len(found):10}"
    )


def _say(sentence: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{sentence}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
