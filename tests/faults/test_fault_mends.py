"""What faults at system calls have brought to light, each by itself."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key as signing_key

from rlhf_audit.log import durable
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

REFUSED = OSError(errno.EIO, os.strerror(errno.EIO))


def policy(folder: Path, name: str) -> tuple[Path, dict[str, bytes], str, dict[str, Any]]:
    facts = {"name": name, "weights_sha256": "0" * 64, "rater_ids": []}
    return folder, {f"{name}.bin": name.encode()}, "training", facts


def test_what_could_not_be_put_in_place_is_so_before_the_next_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One intent at a time: a second one took the first one's place, whose files then waited for ever."""
    log = small_log.empty(tmp_path / "log")
    rename = Path.rename

    def refuses(self: Path, target: Any) -> Path:
        if self.name == "first.bin.new":
            raise REFUSED
        return rename(self, target)

    with log.writing():
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", refuses)
            with pytest.raises(OSError, match="Input/output"):
                log.place(*policy(tmp_path / "policies" / "first", "first"))
            with pytest.raises(OSError, match="Input/output"):
                log.place(*policy(tmp_path / "policies" / "second", "second"))
        log.place(*policy(tmp_path / "policies" / "third", "third"))
    there = sorted(path.name for path in (tmp_path / "policies").rglob("*.*"))
    assert there == ["first.bin", "third.bin"]
    assert not Log(tmp_path / "log").layout.placing.exists()


@pytest.mark.parametrize("nth", [1, 2])
def test_a_refused_sync_is_no_copy_of_the_key_elsewhere(
    nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was gone, the folder not synced: an erasure said then that somebody took the key."""
    log, raters = small_log.plain(tmp_path / "log", 2)
    sync = durable.sync_folder
    synced: list[Path] = []

    def refuses(folder: Path) -> None:
        if folder == log.layout.keys:
            synced.append(folder)
            if len(synced) == nth:
                raise REFUSED
        sync(folder)

    monkeypatch.setattr(durable, "sync_folder", refuses)
    with pytest.raises(erase.UnfinishedError):
        erase.apply(log, raters[0])
    done = erase.apply(log, raters[0])
    assert done.clean, done.left
    assert len(synced) > nth, "what was refused is done again"
    assert verify(log.layout.root).ok
