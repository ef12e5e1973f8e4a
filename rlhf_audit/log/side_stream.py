"""What varies in size of an open session's steps: a stream of rows beside a part, whole up to a torn end."""

import errno
import os
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

_CHUNK = 1 << 20


class SideStream:
    """What varies in size, as a stream of Arrow record batches of one row: whole up to a torn end.

    A slot whose storing was interrupted may have a second row; the last one counts.

    Args:
        path: Its file; appended to, or begun.
        schema: Of the rows.
        reading: It is there, and is only read.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, reading: bool = False) -> None:
        self._schema = schema
        self._stream = path.open("rb" if reading else "a+b", buffering=0)
        self._path = path
        self._writing = threading.Lock()
        self._summed = (0, 0)
        self._last: Mapping[str, Any] = {}
        if not reading and not self._stream.tell():
            self._write(schema.serialize())

    def put(self, row: Mapping[str, Any]) -> None:
        """Append one row, in one write."""
        self._write(pa.RecordBatch.from_pylist([row], self._schema).serialize())
        self._last = row

    def _write(self, data: pa.Buffer) -> None:
        with self._writing:
            written = self._stream.write(data)
            if written != data.size:
                # What follows a torn row would be lost.
                os.ftruncate(self._stream.fileno(), self._size() - (written or 0))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def go_on_from(self, before: "SideStream") -> None:
        """Begin with the observation at which another stream ends."""
        self.put({**before._last, "slot": 0, "action": None, "info": None})

    def summed(self) -> list[int]:
        """Return how many bytes there are, and their CRC-32."""
        with self._writing:
            size = self._size()
        start, running = self._summed
        running = crc32_of(self._stream.fileno(), start, size, running)
        self._summed = size, running
        return [size, running]

    def rows(self) -> pa.Table:
        """Return the rows of slots 0, 1, …, as far as there are any."""
        data = self._path.read_bytes()
        reader = pa.ipc.MessageReader.open_stream(data)
        batches = []
        try:
            reader.read_next_message()
            while True:
                batches.append(pa.ipc.read_record_batch(reader.read_next_message(), self._schema))
        except (StopIteration, EOFError, pa.ArrowException, OSError):
            table = pa.Table.from_batches(batches, self._schema)
        return _last_of_each(table)

    def sync(self) -> None:
        """Bring the rows to the disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def crc32(self, size: int) -> int | None:
        """Return the checksum of the first ``size`` bytes; None where there are fewer."""
        return None if self._size() < size else crc32_of(self._stream.fileno(), 0, size)

    def _size(self) -> int:
        return os.fstat(self._stream.fileno()).st_size


def crc32_of(descriptor: int, start: int, stop: int, running: int = 0) -> int:
    """Return the CRC-32 of bytes ``start`` up to ``stop`` of a file, or of those of them that are there."""
    while start < stop and (data := os.pread(descriptor, min(_CHUNK, stop - start), start)):
        running = zlib.crc32(data, running)
        start += len(data)
    return running


def _last_of_each(table: pa.Table) -> pa.Table:
    """Return the last row of each slot; what does not follow the row before it was never whole."""
    slots = table.column("slot").to_numpy()
    astray = np.flatnonzero(~np.isin(np.diff(slots, prepend=-1), (0, 1)))
    slots = slots[: astray[0] if len(astray) else len(slots)]
    return table.take(pa.array(np.flatnonzero(np.diff(slots, append=-1))))
