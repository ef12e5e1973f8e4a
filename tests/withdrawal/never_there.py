"""One seed under one number of threads: erase each of a panel in turn, or never let them in; print digests.

Run as ``python never_there.py erased|never HOME SEED N_RATERS [WHICH …]``, with the number of threads in the
environment; ``test_withdrawal_never_there.py`` does. Prints a line of JSON a rater: their number in the
panel, and each policy's digest as it is on the disk afterwards.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log

from rlhf_audit.log.store import Log
from rlhf_audit.policy import store as policies
from rlhf_audit.replay import retrain
from rlhf_audit.replay.trainer import ALGORITHMS
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

NAMES = ("oracle", "flip-20", "inverted", "oracle", "favours-1", "always-yes", "tires")


def begun(home: Path, seed: int) -> Log:
    """A log with the session that all of the panel rate."""
    log = small_log.empty(home / "log", seed=seed)
    small_log.acts(log, small_log.join(log, alias="Somebody Else"), n=20, seed=seed)
    return log


def let_in(log: Log, number: int, seed: int) -> str:
    """Let one of the panel rate; return the pseudonym."""
    name = NAMES[number % len(NAMES)]
    rater_id = small_log.join(log, name, f"Person Number {number:02d}")
    small_log.rates(log, rater_id, "s-0001", name, seed=1000 * seed + number)
    return rater_id


def taught(home: Path, seed: int) -> dict[str, str]:
    """Train a policy by each algorithm; return what is on the disk then."""
    for algorithm in ALGORITHMS:
        retrain.retrain(Log(home / "log"), home / "policies" / algorithm, algorithm, seed=seed)
    return digests(home)


def digests(home: Path) -> dict[str, str]:
    return {name: policies.load(home / "policies" / name).weights_sha256 for name in ALGORITHMS}


def erased(home: Path, seed: int, n: int, which: list[int]) -> Iterator[tuple[int, dict[str, str]]]:
    """Everybody rates, all policies are trained; then, from there, each is erased."""
    log = begun(home / "all", seed)
    raters = [let_in(log, number, seed) for number in range(n)]
    yield -1, taught(home / "all", seed)
    for number in which:
        shutil.copytree(home / "all", home / "one")
        done = erase.apply(Log(home / "one" / "log"), raters[number])
        assert done.clean, done.to_json()
        assert verify(home / "one" / "log").ok
        yield number, digests(home / "one")
        shutil.rmtree(home / "one")


def never(home: Path, seed: int, n: int, which: list[int]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each in turn is never there, and all others are."""
    begun(home / "before", seed)
    for number in range(n):
        if number in which:
            shutil.copytree(home / "before", home / "one")
            log = Log(home / "one" / "log")
            for later in range(number + 1, n):
                let_in(log, later, seed)
            yield number, taught(home / "one", seed)
            shutil.rmtree(home / "one")
        # All who come before one who is left out are the same: they are let in once.
        let_in(Log(home / "before" / "log"), number, seed)


if __name__ == "__main__":
    what, home, seed, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    which = [int(number) for number in sys.argv[5:]] or list(range(n))
    home.mkdir(parents=True)
    os.environ["RLHF_AUDIT_SIGNING_KEY"] = str(small_log.write_key(home))
    for number, found in {"erased": erased, "never": never}[what](home, seed, n, which):
        print(json.dumps([number, found]), flush=True)
