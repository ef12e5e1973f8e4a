"""A sample of ``make sweep-faults``: see ``fault_rig`` for what is struck, and what must be true then."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from interposed import environment

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")
"""Where nobody waits for a disk."""
SERIES = (
    "withdraw:EIO:8",
    "withdraw:pairs:7",
    "library:SIGKILL:97",
    "library:ENOSPC short:19",
    "library:cut:3",
    "erase:EIO:113",
    "erase:cut:3",
)


def driven(work: Path, series: Sequence[str]) -> dict[str, dict[str, Any]]:
    command = [sys.executable, str(HERE / "fault_main.py"), str(work), *series]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(work))
    assert done.returncode == 0, done.stderr[-2500:]
    return dict(zip(series, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What became of every series: one process for all, since a start takes longer than many faults."""
    memory = MEMORY if MEMORY.is_dir() else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=memory, prefix="rlhf_audit_faults_") as work:
        yield driven(Path(work), (*SERIES, "forgets:SIGKILL torn:20", "boasts:cut:4"))


@pytest.mark.parametrize("series", SERIES)
def test_a_fault_at_any_call_is_recovered_from(series: str, tallies: dict[str, dict[str, Any]]) -> None:
    tally = tallies[series]
    assert tally["failures"] == [], "\n".join(tally["failures"][:3])
    assert sum(tally["runs"].values()) >= 3
    assert series != "withdraw:pairs:7" or tally["twice"] >= 1


def test_a_writer_that_does_not_recover_is_found_out(tallies: dict[str, dict[str, Any]]) -> None:
    assert tallies["forgets:SIGKILL torn:20"]["failures"]


def test_a_writer_that_tells_before_it_syncs_is_found_out(tallies: dict[str, dict[str, Any]]) -> None:
    assert tallies["boasts:cut:4"]["failures"]


def test_a_crowd_at_one_log(tmp_path: Path) -> None:
    crowd(tmp_path, 3)


@pytest.mark.sweep
def test_faults_a_crowd_at_one_log_for_5_minutes(tmp_path: Path) -> None:
    told = crowd(tmp_path, 300)
    assert told["erased"] >= 3 and told["answers"] >= 100
    print(json.dumps(told))


def crowd(work: Path, seconds: float) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "crowd.py"), str(work), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout or '{"failures": ["nothing was told"]}')
    assert not told["failures"], "\n".join([*told["failures"], done.stderr[-1500:]])
    assert told["answers"]
    return told


@pytest.mark.sweep
@pytest.mark.parametrize(
    "name", ["library", "varying", "record", "seal", "compact", "retrain", "report", "erase"]
)
def test_faults_are_put_into_every_call_that_strace_sees(name: str, tmp_path: Path) -> None:
    """What libc does by itself, or a library without libc, would be missed."""
    assert shutil.which("strace"), "this needs strace: apt-get install strace"
    seen, work = tmp_path / "seen", tmp_path.resolve()
    strace = [
        "strace",
        "-f",
        "-y",
        "-s",
        "0",
        "-qq",
        "-o",
        str(seen),
        "-e",
        f"trace={','.join(SYSTEM_CALLS)}",
    ]
    preload = environment(work)["LD_PRELOAD"]
    rig = [
        "-E",
        f"LD_PRELOAD={preload}",
        sys.executable,
        str(HERE / "fault_main.py"),
        str(work),
        f"{name}:trace:1",
    ]
    done = subprocess.run([*strace, *rig], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2500:]
    told = Counter(json.loads(done.stdout))
    del told["msync"]
    assert told.total() > 20 and told == Counter(filter(None, map(_changes, seen.read_text().splitlines())))


SYSTEM_CALLS = {
    **{name: "open" for name in ("open", "openat", "openat2", "creat")},
    **{name: "rename" for name in ("rename", "renameat", "renameat2")},
    **{name: "mkdir" for name in ("mkdir", "mkdirat")},
    **{name: "link" for name in ("link", "linkat")},
    **{name: "symlink" for name in ("symlink", "symlinkat")},
    **{name: "chmod" for name in ("chmod", "fchmod", "fchmodat")},
    **{name: "writev" for name in ("writev", "pwritev", "pwritev2")},
    **{name: name for name in ("write", "fsync", "fdatasync", "rmdir", "truncate", "ftruncate", "fallocate")},
    **{name: name for name in ("sendfile", "copy_file_range")},
    "unlink": "unlink",
    "unlinkat": "unlink",
    "pwrite64": "pwrite",
}
"""As ``interpose.c`` calls them. Of a mapped file strace tells no path: ``msync`` is left out."""
_CALL = re.compile(r"^\d+ +(\w+)\((.*)")


def _changes(line: str) -> str | None:
    """Return what a line of strace changes below the home."""
    match = _CALL.match(line)
    # The rig itself renames the home; a folder that is made in it is synced by it.
    if match is None or not ("/home/" in match[2] or (match[1] == "fsync" and "/home>" in match[2])):
        return None
    call = SYSTEM_CALLS[match[1]]
    if call == "open" and not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", line):
        return None
    return "rmdir" if "AT_REMOVEDIR" in line else call
