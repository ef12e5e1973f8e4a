"""A space of which only a digest of each value is kept."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit.spaces import reading
from rlhf_audit.spaces.base import Array, Part, Space
from rlhf_audit.spaces.fitting import fitted

DIGEST_BYTES = 16
FULL, HASHED = "full", "hashed"


@dataclass(frozen=True)
class HashedSpace(Space):
    """BLAKE2b-128 of each value of another space.

    The digest is over the value's flat parts in order, each as its dtype (numpy's name, such as ``<f4``), its
    shape (``84,84,4``) and its bytes in C order, the first two ended by 0x00. A value that varies in size
    has its members one after another, each kind with a letter and a count before it: see ``_pieces``.
    """

    of: Space

    @property
    def parts(self) -> tuple[Part, ...]:  # type: ignore[override]
        return (Part(np.dtype(np.uint8), (DIGEST_BYTES,)),)

    @property
    def arrow(self) -> pa.DataType:
        return pa.binary(DIGEST_BYTES)

    def digest(self, value: Any) -> bytes:
        """Return the digest of a value, or of what an environment gave for one."""
        hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
        if self.of.parts is None:
            for piece in _pieces(self.of.plain(value)):
                hashed.update(piece)
        else:
            for array in fitted(self.of, value):
                _flat(hashed.update, array)
        return hashed.digest()

    def split(self, value: Any) -> Iterator[Any]:
        yield np.frombuffer(self.digest(value), np.uint8)

    def join(self, pieces: Iterator[Any]) -> Any:
        return next(pieces).tobytes()

    def column(self, pieces: Iterator[Array]) -> pa.Array:
        values = np.ascontiguousarray(next(pieces))
        return pa.FixedSizeBinaryArray.from_buffers(self.arrow, len(values), [None, pa.py_buffer(values)])

    def arrays(self, column: pa.Array) -> Iterator[Array]:
        data = column.cast(self.arrow).buffers()[1]
        start = column.offset * DIGEST_BYTES
        flat = np.frombuffer(data, np.uint8, len(column) * DIGEST_BYTES, start)
        yield flat.reshape(len(column), DIGEST_BYTES)

    def plain(self, value: Any) -> Any:
        return self.digest(value)

    def value(self, plain: Any) -> Any:
        return bytes(plain)


def observation_space(facts: Mapping[str, Any]) -> Space:
    """Return the space of a session's observations as they are stored.

    Args:
        facts: The ledger's of the session: ``env`` and ``observations``.

    Raises:
        DamagedError: The description can't be read.
    """
    space = reading.from_json(facts["env"]["observation_space"])
    return HashedSpace(space) if facts["observations"] == HASHED else space


def _flat(update: Any, array: Array) -> None:
    update(f"{array.dtype.str}\0{','.join(map(str, array.shape))}\0".encode())
    update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _pieces(plain: Any) -> Iterator[bytes]:
    """Yield what is hashed of a value in Arrow's plain form, so that no two values give the same."""
    if plain is None:
        yield b"n"
    elif isinstance(plain, dict):
        yield b"d%d\0" % len(plain)
        for name, inner in plain.items():
            yield from _pieces(name)
            yield from _pieces(inner)
    elif isinstance(plain, list | tuple):
        yield b"l%d\0" % len(plain)
        for inner in plain:
            yield from _pieces(inner)
    elif isinstance(plain, str | bytes):
        data = plain.encode() if isinstance(plain, str) else plain
        yield b"%c%d\0" % (b"s" if isinstance(plain, str) else b"b", len(data))
        yield data
    else:
        array = np.asarray(plain)
        yield f"a{array.dtype.str}\0{','.join(map(str, array.shape))}\0".encode()
        yield np.ascontiguousarray(array).tobytes()
