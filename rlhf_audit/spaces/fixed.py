"""Spaces whose values all have one size, and records of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit.errors import DamagedError
from rlhf_audit.spaces.base import LIST_ITEMS, Array, Part, Space


@dataclass(frozen=True)
class PlainSpace(Space):
    """A Box, Discrete, MultiDiscrete or MultiBinary: one array, or one number, of one dtype."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    one_array = True

    @cached_property
    def parts(self) -> tuple[Part, ...]:  # type: ignore[override]
        return (Part(self.dtype, self.shape),)

    @property
    def n_items(self) -> int:
        return prod(self.shape)

    @cached_property
    def arrow(self) -> pa.DataType:
        if not self.shape:
            return pa.from_numpy_dtype(self.dtype)
        if self.raw:
            return pa.large_binary()
        return pa.list_(pa.from_numpy_dtype(self.dtype), self.n_items)

    @property
    def raw(self) -> bool:
        """Whether values are kept as bytes: images, and what is empty (Parquet has no lists of that)."""
        return bool(self.shape) and not 0 < self.n_items <= LIST_ITEMS

    @cached_property
    def told(self) -> Mapping[str, str] | None:  # type: ignore[override]
        return {"shape": ",".join(map(str, self.shape)), "dtype": self.dtype.str} if self.raw else None

    def split(self, value: Any) -> Iterator[Any]:
        yield value

    def join(self, pieces: Iterator[Any]) -> Any:
        return next(pieces)

    def column(self, pieces: Iterator[Array]) -> pa.Array:
        values = np.ascontiguousarray(next(pieces))
        n = len(values)
        if not self.shape:
            return pa.array(values)
        if self.raw:
            size = self.n_items * self.dtype.itemsize
            offsets = pa.py_buffer(np.arange(n + 1, dtype=np.int64) * size)
            return pa.LargeBinaryArray.from_buffers(
                pa.large_binary(), n, [None, offsets, pa.py_buffer(values)]
            )
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=self.arrow)

    def arrays(self, column: pa.Array) -> Iterator[Array]:
        if self.raw:
            flat = self._bytes(column)
        elif not self.shape:
            flat = column.to_numpy(zero_copy_only=False)
        else:
            if column.flatten().null_count or len(column.flatten()) != len(column) * self.n_items:
                raise _misshapen(self)
            flat = column.flatten().to_numpy(zero_copy_only=False)
        yield flat.reshape(len(column), *self.shape)

    def _bytes(self, column: pa.Array) -> Array:
        _, offsets, data = column.cast(pa.large_binary()).buffers()
        ends = np.frombuffer(offsets, np.int64, len(column) + 1, column.offset * 8)
        size = self.n_items * self.dtype.itemsize
        if (np.diff(ends) != size).any():
            raise _misshapen(self)
        if not size:
            return np.empty(0, self.dtype)
        items = np.frombuffer(data, np.uint8, int(ends[-1] - ends[0]), int(ends[0]))
        return items.view(self.dtype)

    def plain(self, value: Any) -> Any:
        array = np.asarray(value, self.dtype)
        if not self.shape:
            return array[()]
        return array.tobytes() if self.raw else array.reshape(-1)

    def value(self, plain: Any) -> Any:
        if not self.shape:
            return self.dtype.type(plain)
        if self.raw:
            return np.frombuffer(plain, self.dtype).reshape(self.shape).copy()
        return np.array(plain, self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class RecordSpace(Space):
    """A Dict or a Tuple: named members, each a space."""

    names: tuple[str, ...]
    members: tuple[Space, ...]
    keyed: bool

    @cached_property
    def parts(self) -> tuple[Part, ...] | None:  # type: ignore[override]
        found: list[Part] = []
        for member in self.members:
            if member.parts is None:
                return None
            found += member.parts
        return tuple(found)

    @cached_property
    def arrow(self) -> pa.DataType:
        return pa.struct(
            [pa.field(name, member.arrow, metadata=member.told) for name, member in self.named()]
        )

    def split(self, value: Any) -> Iterator[Any]:
        for name, member in self.named():
            yield from member.split(value[self.key(name)])

    def join(self, pieces: Iterator[Any]) -> Any:
        values = [member.join(pieces) for member in self.members]
        return dict(zip(self.names, values, strict=True)) if self.keyed else tuple(values)

    def column(self, pieces: Iterator[Array]) -> pa.Array:
        columns = [member.column(pieces) for member in self.members]
        return pa.StructArray.from_arrays(columns, fields=list(self.arrow))

    def arrays(self, column: pa.Array) -> Iterator[Array]:
        for position, member in enumerate(self.members):
            yield from member.arrays(column.field(position))

    def plain(self, value: Any) -> Any:
        return {name: member.plain(value[self.key(name)]) for name, member in self.named()}

    def value(self, plain: Any) -> Any:
        values = [member.value(plain[name]) for name, member in self.named()]
        return dict(zip(self.names, values, strict=True)) if self.keyed else tuple(values)

    def named(self) -> Iterator[tuple[str, Space]]:
        return zip(self.names, self.members, strict=True)

    def key(self, name: str) -> str | int:
        return name if self.keyed else int(name)


def _misshapen(space: PlainSpace) -> DamagedError:
    return DamagedError(
        "a value in a sealed file is not of its space",
        seen="another number of bytes or items",
        needed=f"{space.dtype} of shape {space.shape}",
        fix="rlhf-audit verify LOG",
    )
