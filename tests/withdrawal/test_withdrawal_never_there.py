"""After an erasure every policy is, bit for bit, the one of a log where that rater never was.

Only a sweep; ``test_withdrawal_erase.py`` tries three of a panel of five, in this process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("never_there.py")
THREADS = (1, 2, 8)
SEEDS = (11, 12, 13)


def policies(what: str, home: Path, seed: int, threads: int, n: int) -> dict[int, dict[str, str]]:
    """Run the driver in a process whose environment asks for so many threads."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    done = subprocess.run(
        [sys.executable, str(DRIVER), what, str(home), str(seed), str(n)],
        env=os.environ | dict.fromkeys(names, str(threads)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {number: digests for number, digests in map(json.loads, done.stdout.splitlines())}


@pytest.mark.sweep
@pytest.mark.parametrize("seed", SEEDS)
def test_fifty_raters_under_three_seeds_and_three_thread_counts(seed: int, tmp_path: Path) -> None:
    n = 50
    never = policies("never", tmp_path / "never", seed, 1, n)
    same = 0
    for threads in THREADS:
        erased = policies("erased", tmp_path / f"erased-{threads}", seed, threads, n)
        wrong = [
            (number, name)
            for number in range(n)
            for name, digest in never[number].items()
            if erased[number][name] != digest
        ]
        assert not wrong, (seed, threads, wrong)
        assert all(erased[number] != erased[-1] for number in range(n))
        same += sum(map(len, never.values()))
    print(f"seed {seed}: {same} policies of {n} raters under {len(THREADS)} thread counts, all equal")
