"""A compaction that is killed, refused or interrupted: the old files or the new, and every row once."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import compact_world as world
import pyarrow.parquet as pq
import pytest
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.errors import LockedError
from rlhf_audit.log import compaction, reader
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import MERGED
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

DRIVER = Path(__file__).with_name("fault_driver.py")


def driven(work: Path, how: str, every: int) -> dict[str, int]:
    command = [sys.executable, str(DRIVER), "compact", how, str(work), str(every)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2500:]
    tally: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return tally


def test_crashed_it_is_the_old_files_or_the_new(tmp_path: Path) -> None:
    assert driven(tmp_path, "crash", 37)["struck"] >= 2


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["crash", "refuse", "full"])
def test_compaction_killed_or_refused_at_every_change_of_the_disk(how: str, tmp_path: Path) -> None:
    tally = driven(tmp_path, how, 1)
    print(
        f"compact: {tally['struck']} of {tally['changes']} changes struck ({how}): the old files or the new"
    )


class Trouble:
    """Makes the n-th change of the disk fail, and if so wished all after it."""

    def __init__(self, n: int, error: BaseException, ever_after: bool) -> None:
        self.n, self.error, self.ever_after = n, error, ever_after
        self.seen = 0

    def __call__(self, plain: Any) -> Any:
        def act(*args: Any, **options: Any) -> Any:
            self.seen += 1
            if self.seen == self.n or (self.ever_after and self.seen > self.n):
                raise self.error
            return plain(*args, **options)

        return act

    def patch(self, patched: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (os, "fsync"),
            (Path, "rename"),
            (Path, "unlink"),
            (pq.ParquetWriter, "write_table"),
        ):
            patched.setattr(owner, name, self(getattr(owner, name)))


@pytest.mark.parametrize(
    ("error", "ever_after", "every"),
    [
        (OSError(errno.EIO, "Input/output error"), False, 29),
        (OSError(errno.EIO, "Input/output error"), True, 43),
        (KeyboardInterrupt(), False, 23),
    ],
)
def test_a_refusal_at_any_change_is_mended_by_the_next_opening(
    tmp_path: Path, error: BaseException, ever_after: bool, every: int
) -> None:
    base = world.few(tmp_path / "base")[0]
    before = {name: world.session(base, name) for name in reader.session_ids(base)}
    n, struck, states = 1, True, set()
    while struck:
        root = tmp_path / f"log-{n}"
        shutil.copytree(tmp_path / "base", root)
        trouble = Trouble(n, error, ever_after)
        with pytest.MonkeyPatch.context() as patched:
            log = Log(root)
            trouble.patch(patched)
            try:
                compaction.compact(log)
            except (OSError, KeyboardInterrupt) as met:
                assert met is error
        struck = trouble.seen >= n
        left = [problem.file for problem in verify(root).problems]
        # Where not even its own half-written file could be unlinked, that is named until the next opening.
        assert left in ([], ["compacting.json.tmp"]), left
        erase.heal(Log(root))
        again = Log(root)
        assert verify(root).ok and set(world.sealed(again)) == world.named(again)
        assert {name: world.session(again, name) for name in before} == before
        states.add(sum(1 for _ in again.ledger.of(MERGED)))
        shutil.rmtree(root)
        n += every
    assert states == {0, 1}


def test_killed_after_the_entry_an_erasure_takes_all_of_a_rater(tmp_path: Path) -> None:
    log, raters = world.few(tmp_path / "log")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rlhf_audit.log.swapping.resolve", _killed)
        log._held = True  # killed in the middle: nothing is tidied up
        with pytest.raises(_Killed):
            compaction.compact(log)
    log = Log(tmp_path / "log")
    assert log.layout.compacting.exists() and verify(log.layout.root).ok
    both = [path for path in log.layout.rater_folder(raters[1]).iterdir()]
    assert len(both) > 1, "old files and new"
    done = erase.apply(log, raters[1])
    assert done.clean and verify(log.layout.root).ok
    assert not log.layout.rater_folder(raters[1]).exists() and not log.layout.compacting.exists()


class _Killed(BaseException):
    """The process ends here."""


def _killed(layout: Layout, *_: Any) -> None:
    # Nothing is pending before the entry is made.
    if layout.compacting.exists():
        raise _Killed


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    log, _ = world.few(tmp_path / "log")
    with Log(tmp_path / "log").writing(), pytest.raises(LockedError):
        compaction.compact(log)
