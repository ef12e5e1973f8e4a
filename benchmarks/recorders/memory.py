"""Peak memory of one long recording: each recorder in a process of its own, watched from outside.

``python -m benchmarks.recorders.memory NAME FOLDER STEPS`` is such a process.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recorders.base import play
from benchmarks.recorders.environments import SEED, STACKED, actions, make
from benchmarks.recorders.known import RECORDERS

STEPS = 12_000
_LOOK_EVERY_S = 0.005


class FailedError(Exception):
    """A recorder could not record the frames."""


@dataclass(frozen=True)
class Memory:
    """Megabytes (10^6 bytes) of a process.

    Attributes:
        peak: The most that it had at any time, as the kernel counts (VmHWM).
        begun: What it had before the first step, libraries loaded.
        anonymous: Its own, when it was seen to have most.
        mapped: Pages of files and shared memory, then: libraries, and what is recorded in mapped files.
    """

    peak: float
    begun: float
    anonymous: float
    mapped: float


def measured(name: str, steps: int = STEPS) -> Memory:
    """Record one episode of the stacked frames and return what it took.

    Raises:
        FailedError: The recorder failed; the last that it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __spec__.name, name, folder, str(steps)]
        errors = Path(folder, "errors.txt")
        with (
            errors.open("w") as stream,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True) as process,
        ):
            most = {"VmRSS": 0.0, "RssAnon": 0.0}
            while process.poll() is None:
                seen = _status(process.pid)
                most = seen if seen.get("VmRSS", 0) > most["VmRSS"] else most
                time.sleep(_LOOK_EVERY_S)
            said = process.stdout.read() if process.stdout else ""
        if process.returncode:
            raise FailedError((errors.read_text().strip() or "without a word").splitlines()[-1])
    begun, peak = (float(word) for word in said.split()[-2:])
    return Memory(peak, begun, most["RssAnon"], most["VmRSS"] - most["RssAnon"])


def _status(process: int | str) -> dict[str, float]:
    """Return a process's memory by the kernel's names, in megabytes; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {name.rstrip(":"): int(kib) * 1024 / 1e6 for name, kib, _ in words}


def main(name: str, folder: str, steps: str) -> None:
    (recorder,) = (one for one in RECORDERS if one.name == name)
    env = make(STACKED)
    planned = actions(env, int(steps))
    opened = recorder.open(env, Path(folder))
    begun = _status("self")["VmRSS"]
    opened.env.reset(seed=SEED)
    play(opened, planned)
    opened.env.close()
    print(begun, _status("self")["VmHWM"])


if __name__ == "__main__":
    main(*sys.argv[1:])
