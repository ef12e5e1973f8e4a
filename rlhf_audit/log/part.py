"""A stretch of a session's steps in memory that outlives the process: one mapped file, column after column.

What is stored here survives a kill at once, a power cut once it is synced. Slot *i* holds an observation and
what was done then; an episode of T steps takes T + 1 slots, the last of which holds its final observation.
"""

import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit.errors import LogError
from rlhf_audit.log import durable
from rlhf_audit.log.side_stream import SideStream
from rlhf_audit.spaces.base import Array, Space
from rlhf_audit.spaces.fitting import fitted

TERMINATED, TRUNCATED, KNOWN, END = 1, 2, 4, 8
"""Flags of a slot: how its step ended, whether the probability is known, and that no step was made there."""
_ALIGNED = 64
_BYTES = 16 << 20
_MOST_SLOTS = 1 << 18
_MOST_VARYING = 1 << 14
"""What varies in size is not counted beforehand, and is held in memory when it is sealed."""
_PAGE = mmap.PAGESIZE
_FEW, _FRAMES, _MOST_TOGETHER = 512, 2048, 12
"""Parts of few steps are sealed together, of so many steps and so many parts at most. Frames compress by
those before them, and what begins and ends a file takes as much room as 60 frames of a game."""


@dataclass(frozen=True)
class PartShape:
    """What a part's slots hold.

    Attributes:
        observation: Space of observations.
        action: Space of actions.
        info: Whether chosen keys of ``info`` are kept.
    """

    observation: Space
    action: Space
    info: bool = False

    @property
    def varies(self) -> bool:
        """Whether anything has no fixed size, and so stands in the side stream."""
        return self.info or self.observation.parts is None or self.action.parts is None

    @property
    def side(self) -> pa.Schema:
        """Schema of the side stream: what of a slot varies in size, with the action and info before it."""
        return pa.schema(
            [
                pa.field("slot", pa.int64()),
                pa.field("observation", pa.null() if self.observation.parts else self.observation.arrow),
                pa.field("action", pa.null() if self.action.parts else self.action.arrow),
                pa.field("info", pa.string()),
            ]
        )

    @property
    def columns(self) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]:
        """Dtype and shape of each column's items: observation, action, then those that every slot has."""
        own = [(np.dtype(kind), ()) for kind in (np.float32, np.float64, np.uint8, np.int64, np.int64)]
        return (*(self.observation.parts or ()), *(self.action.parts or ()), *own)

    @property
    def slots(self) -> int:
        """How many slots make a part: about 16 MiB of them."""
        size = sum(dtype.itemsize * prod(shape) for dtype, shape in self.columns)
        return max(16, min(_MOST_VARYING if self.varies else _MOST_SLOTS, _BYTES // size))

    @property
    def together(self) -> int:
        """How many parts of full size make a sealed file: several where a step is large."""
        few = self.slots < _FEW and not self.varies
        return min(_MOST_TOGETHER, -(-_FRAMES // self.slots)) if few else 1


class Part:
    """One part, mapped.

    Args:
        path: Its file; made with room for ``slots`` when it is not there.
        shape: What the slots hold.
        slots: How many; one more observation fits.
        reading: It is there, and is only read.

    Attributes:
        observations: Columns ``(slots + 1, *shape)`` of the observation's parts.
        actions: Columns ``(slots + 1, *shape)`` of the action's parts.
        probabilities: ``(slots + 1,)`` float32.
        env_rewards: ``(slots + 1,)`` float64.
        flags: ``(slots + 1,)`` uint8.
        begins: ``(slots + 1,)`` int64: where an episode begins, its number and one; less than 0 where it has
            no seed; 0 elsewhere.
        seeds: ``(slots + 1,)`` int64, of the reset, where an episode begins.
        count: ``(1,)`` int64, the slots that are filled; the observation of the next one may be there too.
        first_step: ``(1,)`` int64, number of the first slot's step in an episode that began before this part.

    Raises:
        LogError: The file is shorter than its slots.
        OSError: There is no room on the disk: it is taken before anything is stored.
    """

    def __init__(self, path: Path, shape: PartShape, slots: int, *, reading: bool = False) -> None:
        self.path, self.shape, self.slots = path, shape, slots
        self._starts = list(_starts(shape, slots))
        size = self._starts[-1]
        flags = os.O_RDONLY if reading else os.O_RDWR | os.O_CREAT
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self._closed = False
        held = -1
        try:
            held = os.fstat(self._descriptor).st_size
            if held != size and (held or reading):
                raise LogError(
                    f"journal/{path.parent.name}/{path.name} is damaged",
                    seen=f"{held} bytes",
                    needed=f"{size} bytes",
                    fix="put the file back from a copy, or erase its rater",
                )
            if not held:
                # Taken now: a mapped page for which there is no room would end the process.
                os.posix_fallocate(self._descriptor, 0, size)
            access = mmap.ACCESS_READ if reading else mmap.ACCESS_WRITE
            memory = self._memory = mmap.mmap(self._descriptor, size, access=access)
            beside = path.with_suffix(".side")
            self.side = SideStream(beside, shape.side, reading=reading) if shape.varies else None
            if not held:
                durable.sync_folder(path.parent)
        except BaseException:
            os.close(self._descriptor)
            if not held and not reading:
                path.unlink(missing_ok=True)
            raise
        self.count: Array = np.frombuffer(memory, np.int64, 1)
        self.first_step: Array = np.frombuffer(memory, np.int64, 1, self.count.nbytes)
        views = [
            np.frombuffer(memory, dtype, (slots + 1) * prod(items), start).reshape(slots + 1, *items)
            for (dtype, items), start in zip(shape.columns, self._starts, strict=False)
        ]
        self._views = views
        n = len(shape.observation.parts or ())
        self.observations, self.actions = views[:n], views[n:-5]
        self.probabilities, self.env_rewards, self.flags, self.begins, self.seeds = views[-5:]

    def observe(self, slot: int, value: Any) -> None:
        """Store an observation."""
        if self.shape.observation.parts is not None:
            space = self.shape.observation
            for column, piece in zip(self.observations, fitted(space, value), strict=True):
                column[slot] = piece

    def act(self, slot: int, value: Any) -> None:
        """Store an action."""
        if self.shape.action.parts is not None:
            for column, piece in zip(self.actions, self.shape.action.split(value), strict=True):
                column[slot] = piece

    def beside(
        self, slot: int, observation: Any, action: Any = None, info: str | None = None, *, acted: bool
    ) -> None:
        """Store what varies in size of a slot's observation, and of the action and info that led to it."""
        if self.side is None:
            return
        space = self.shape
        shown = None if space.observation.parts else space.observation.plain(observation)
        done = None if space.action.parts or not acted else space.action.plain(action)
        self.side.put({"slot": slot, "observation": shown, "action": done, "info": info})

    def crc32(self, start: int, stop: int, running: int = 0) -> int:
        """Return a checksum over slots ``start`` up to ``stop``; with the first goes ``first_step``."""
        if start == 0:
            running = zlib.crc32(self.first_step.view(np.uint8).data, running)
        for view in self._views:
            running = zlib.crc32(view[start:stop].reshape(-1).view(np.uint8).data, running)
        return running

    def touch(self) -> None:
        """Have every page in memory, so that storing waits for none: the first touch of a page is slow."""
        for view in self._views:
            view[...] = 0

    def sync(self, start: int, stop: int) -> None:
        """Bring slots ``start`` up to ``stop``, and the observation after them, to the disk."""
        if any(view[0].nbytes >= _PAGE for view in self._views):
            # A page that was synced is slow to store to again: those ahead, made ready, are left out.
            for place, end in self._ranges(start, stop + 1):
                durable.sync_range(self._descriptor, self._memory, place, end)
        else:
            os.fdatasync(self._descriptor)
        if self.side is not None:
            self.side.sync()

    def _ranges(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the bytes to sync for some slots, page by page: of columns of small items, all."""
        found: list[tuple[int, int]] = []
        for place, view in zip(self._starts, self._views, strict=False):
            size = view[0].nbytes
            few = size < _PAGE
            first = place if few else place + start * size
            end = place + view.nbytes if few else place + min(stop, self.slots + 1) * size
            first -= first % _PAGE
            if found and first <= found[-1][1]:
                first = found.pop()[0]
            found.append((first, end))
        return found

    def rest(self) -> None:
        """Give the memory back for the time being; what is stored stays in the file."""
        self._memory.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the file back; what is mapped goes when the last array over it does. May be called again."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)
            if self.side is not None:
                self.side.close()


def part_file(folder: Path, stream: int, number: int) -> Path:
    """Return where a part is stored."""
    return folder / f"part-{stream:04d}-{number:05d}"


def staged_files(path: Path) -> tuple[Path, Path]:
    """Return where the sealed steps and episodes of a part wait for their session's end."""
    return path.with_name(f"{path.name}.steps.parquet"), path.with_name(f"{path.name}.episodes.parquet")


def let_go(path: Path, private: bool) -> None:
    """Remove a part that is sealed; overwrite it first where a person's answers could be worked out of it."""
    for file in (path, path.with_suffix(".side")):
        if private:
            durable.destroy(file)
        else:
            file.unlink(missing_ok=True)


def _starts(shape: PartShape, slots: int) -> Iterator[int]:
    position = _ALIGNED
    for dtype, items in shape.columns:
        yield position
        position += -(-dtype.itemsize * prod(items) * (slots + 1) // _ALIGNED) * _ALIGNED
    yield position


def boot() -> str:
    """Return what names this run of the operating system: after another, only what was synced is there."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
