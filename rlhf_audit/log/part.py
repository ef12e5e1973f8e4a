"""A stretch of a session's steps in memory that outlives the process: one mapped file, column after column.

What is stored here survives a kill at once, a power cut once it is synced. Slot *i* holds an observation and
what was done then; an episode of T steps takes T + 1 slots, the last of which holds its final observation.
"""

import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit.errors import LogError
from rlhf_audit.spaces.base import Array, Space

TERMINATED, TRUNCATED, KNOWN, END = 1, 2, 4, 8
"""Flags of a slot: how its step ended, whether the probability is known, and that no step was made there."""
_ALIGNED = 64
_BYTES = 16 << 20
_MOST_SLOTS = 1 << 18


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
                pa.field("observation", pa.null() if self.observation.parts else self.observation.arrow),
                pa.field("action", pa.null() if self.action.parts else self.action.arrow),
                pa.field("info", pa.string()),
            ]
        )

    @property
    def columns(self) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]:
        """Dtype and shape of each column's items: observation, action, then the four that every step has."""
        own: list[tuple[np.dtype[Any], tuple[int, ...]]] = [
            (np.dtype(np.float32), ()),
            (np.dtype(np.float64), ()),
            (np.dtype(np.uint8), ()),
        ]
        return (*(self.observation.parts or ()), *(self.action.parts or ()), *own)

    @property
    def slots(self) -> int:
        """How many slots make a part: about 16 MiB of them."""
        size = sum(dtype.itemsize * prod(shape) for dtype, shape in self.columns)
        return max(16, min(_MOST_SLOTS, _BYTES // size))


class Part:
    """One part, mapped.

    Args:
        path: Its file; made with room for ``slots`` when it is not there.
        shape: What the slots hold.
        slots: How many; one more observation fits.

    Attributes:
        observations: Columns ``(slots + 1, *shape)`` of the observation's parts.
        actions: Columns ``(slots + 1, *shape)`` of the action's parts.
        probabilities: ``(slots + 1,)`` float32.
        env_rewards: ``(slots + 1,)`` float64.
        flags: ``(slots + 1,)`` uint8.
        count: ``(1,)`` int64, the slots that are filled; the observation of the next one may be there too.

    Raises:
        LogError: The file is shorter than its slots.
        OSError: There is no room on the disk: it is taken before anything is stored.
    """

    def __init__(self, path: Path, shape: PartShape, slots: int) -> None:
        self.path, self.shape, self.slots = path, shape, slots
        self._starts = list(_starts(shape, slots))
        size = self._starts[-1]
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            held = os.fstat(self._descriptor).st_size
            if held not in (0, size):
                raise LogError(
                    f"{path.name} of an open session is damaged",
                    seen=f"{held} bytes",
                    needed=f"{size} bytes",
                    fix="put the file back from a copy, or erase its rater",
                )
            if not held:
                # Taken now: a mapped page for which there is no room would end the process.
                os.posix_fallocate(self._descriptor, 0, size)
            memory = mmap.mmap(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self.count: Array = np.frombuffer(memory, np.int64, 1)
        views = [
            np.frombuffer(memory, dtype, (slots + 1) * prod(items), start).reshape(slots + 1, *items)
            for (dtype, items), start in zip(shape.columns, self._starts, strict=False)
        ]
        self._views = views
        n = len(shape.observation.parts or ())
        self.observations, self.actions = views[:n], views[n:-3]
        self.probabilities, self.env_rewards, self.flags = views[-3:]
        self.side = SideStream(path.with_suffix(".side"), shape.side) if shape.varies else None

    def observe(self, slot: int, value: Any) -> None:
        """Store an observation."""
        if self.shape.observation.parts is not None:
            for column, piece in zip(self.observations, self.shape.observation.split(value), strict=True):
                column[slot] = piece

    def act(self, slot: int, value: Any) -> None:
        """Store an action."""
        if self.shape.action.parts is not None:
            for column, piece in zip(self.actions, self.shape.action.split(value), strict=True):
                column[slot] = piece

    def beside(self, observation: Any, action: Any = None, info: str | None = None, *, acted: bool) -> None:
        """Store what varies in size of a slot's observation, and of the action and info that led to it."""
        if self.side is None:
            return
        space = self.shape
        shown = None if space.observation.parts else space.observation.plain(observation)
        done = None if space.action.parts or not acted else space.action.plain(action)
        self.side.put({"observation": shown, "action": done, "info": info})

    def crc32(self, start: int, stop: int, running: int = 0) -> int:
        """Return a checksum over slots ``start`` up to ``stop``."""
        for view in self._views:
            running = zlib.crc32(view[start:stop].reshape(-1).view(np.uint8).data, running)
        return running

    def touch(self) -> None:
        """Have every page in memory, so that storing waits for none: the first touch of a page is slow."""
        for view in self._views:
            view[...] = 0

    def sync(self) -> None:
        """Bring everything that is stored to the disk."""
        os.fdatasync(self._descriptor)
        if self.side is not None:
            self.side.sync()

    def close(self) -> None:
        """Give the file back; what is mapped goes when the last array over it does."""
        os.close(self._descriptor)
        if self.side is not None:
            self.side.close()


class SideStream:
    """What varies in size, as a stream of Arrow record batches of one row: whole up to a torn end.

    Args:
        path: Its file; appended to, or begun.
        schema: Of the rows.

    Attributes:
        size: Bytes written by this process.
        crc32: Their checksum.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._stream = path.open("ab", buffering=0)
        self._path = path
        self.size = self.crc32 = 0
        self._last: Mapping[str, Any] = {}
        if not self._stream.tell():
            self._write(schema.serialize())

    def put(self, row: Mapping[str, Any]) -> None:
        """Append one row, in one write."""
        self._last = row
        batch = pa.RecordBatch.from_pylist([row], self._schema)
        self._write(batch.serialize())

    def _write(self, data: pa.Buffer) -> None:
        self._stream.write(data)
        self.size += data.size
        self.crc32 = zlib.crc32(data, self.crc32)

    def go_on_from(self, before: "SideStream") -> None:
        """Begin with the observation at which another stream ends."""
        self.put({**before._last, "action": None, "info": None})

    def rows(self) -> pa.Table:
        """Return all whole rows."""
        data = self._path.read_bytes()
        reader = pa.ipc.MessageReader.open_stream(data)
        batches = []
        try:
            reader.read_next_message()
            while True:
                batches.append(pa.ipc.read_record_batch(reader.read_next_message(), self._schema))
        except (StopIteration, pa.ArrowInvalid, OSError):
            return pa.Table.from_batches(batches, self._schema)

    def sync(self) -> None:
        """Bring the rows to the disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


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
