"""What is on a disk after a power cut: a model that takes nothing for granted which was not synced.

Every file has what its last fsync brought there, or what it holds now; every folder likewise its names. Which
of the two is drawn for each by itself, as the pages of a real disk reach it in any order.
"""

import mmap
import os
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlhf_audit.log import durable

Content = bytes | dict[str, int]


@dataclass(frozen=True)
class Moment:
    """When the power may fail: what was synced, what there is, how many answers were acknowledged."""

    synced: dict[int, Content]
    now: dict[int, Content]
    told: int


class Disk:
    """Watches a folder: after each sync the power may fail."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.told = 0
        self.moments: list[Moment] = []
        self._top = root.stat().st_ino
        # Held open, so that no number is given to another file.
        self._held: dict[int, int] = {}
        self._synced = self._now()
        self._one_at_a_time = threading.Lock()
        monkeypatch.setattr(os, "fsync", self._sync)
        monkeypatch.setattr(os, "fdatasync", self._sync)
        monkeypatch.setattr(durable, "sync_range", self._sync_range)

    def _now(self) -> dict[int, Content]:
        found: dict[int, Content] = {}
        for path in [self.root, *self.root.rglob("*")]:
            try:
                number = path.stat().st_ino
                if number not in self._held:
                    self._held[number] = os.open(path, os.O_RDONLY)
                if path.is_dir():
                    found[number] = {one.name: one.stat().st_ino for one in path.iterdir()}
                else:
                    found[number] = path.read_bytes()
            except FileNotFoundError:
                # The thread beside has just moved it.
                continue
        return found

    def _sync(self, descriptor: int) -> None:
        # Two threads sync; what was told after this was looked at is not of this moment.
        with self._one_at_a_time:
            told, now = self.told, self._now()
            number = os.fstat(descriptor).st_ino
            if number in now:
                self._synced = self._synced | {number: now[number]}
            self.moments.append(Moment(self._synced, now, told))

    def _sync_range(self, descriptor: int, memory: mmap.mmap, start: int, stop: int) -> None:
        del memory
        with self._one_at_a_time:
            told, now = self.told, self._now()
            number = os.fstat(descriptor).st_ino
            content = now.get(number)
            if isinstance(content, bytes):
                assert start % mmap.PAGESIZE == 0 <= start < stop <= len(content)
                before = self._synced.get(number)
                # The length of the file comes with any of it.
                old = before if isinstance(before, bytes) and before else bytes(len(content))
                stop += -stop % mmap.PAGESIZE
                self._synced = self._synced | {number: old[:start] + content[start:stop] + old[stop:]}
            self.moments.append(Moment(self._synced, now, told))

    def release(self) -> None:
        """Stop watching."""
        for descriptor in self._held.values():
            os.close(descriptor)

    def fail(self, moment: Moment, to: Path, luck: random.Random | None) -> Path:
        """Lay down what is left: only what was synced, or, with ``luck``, more of some."""

        def left(number: int) -> Any:
            if luck is not None and luck.random() < 0.5 and number in moment.now:
                return moment.now[number]
            return moment.synced.get(number)

        def lay(number: int, path: Path) -> None:
            content = left(number)
            if isinstance(content, dict):
                path.mkdir()
                for name, inner in content.items():
                    lay(inner, path / name)
            elif isinstance(moment.now.get(number), dict):
                path.mkdir()
            else:
                path.write_bytes(content or b"")

        lay(self._top, to)
        return to
