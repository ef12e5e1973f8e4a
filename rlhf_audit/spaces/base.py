"""Gymnasium's spaces as columns: what a value of each looks like in Arrow, and back, to the bit.

A space whose values all have one size is *fixed*: they split into flat parts, each a column of one dtype,
which the recorder writes straight into memory and Arrow takes over without a copy.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

LIST_ITEMS = 1024
"""A Box with more numbers than this is stored as raw bytes."""

Array = npt.NDArray[Any]


class Part(NamedTuple):
    """One flat piece of a fixed space: its values are ``(*shape)`` of ``dtype``."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Space(ABC):
    """One space.

    Attributes:
        arrow: Type of its column.
        parts: Pieces of a fixed space, in order; None for one whose values vary in size.
        one_array: Whether ``n`` values are one array, ``(n, *shape)``.
        told: What its column's metadata says, where the type alone does not: ``shape`` and numpy's ``dtype``
            of raw bytes.
    """

    arrow: pa.DataType
    parts: tuple[Part, ...] | None = None
    one_array = False
    told: Mapping[str, str] | None = None

    def split(self, value: Any) -> Iterator[Any]:
        """Yield the pieces of a value, one for each of ``parts``."""
        del value
        raise TypeError(f"values of {self} vary in size")

    def join(self, pieces: Iterator[Any]) -> Any:
        """Return the value of which these are the pieces: the reverse of ``split``."""
        del pieces
        raise TypeError(f"values of {self} vary in size")

    def column(self, pieces: Iterator[Array]) -> pa.Array:
        """Return a column made of ``(n, *shape)`` arrays, one for each of ``parts``."""
        del pieces
        raise TypeError(f"values of {self} vary in size")

    def arrays(self, column: pa.Array) -> Iterator[Array]:
        """Yield the ``(n, *shape)`` arrays in a column: the reverse of ``column``."""
        del column
        raise TypeError(f"values of {self} vary in size")

    @abstractmethod
    def plain(self, value: Any) -> Any:
        """Return what ``pa.array`` takes for a value; also for spaces that are not fixed."""

    @abstractmethod
    def value(self, plain: Any) -> Any:
        """Return the value of an Arrow scalar's ``as_py``: the reverse of ``plain``."""

    def read(self, column: pa.ChunkedArray | pa.Array) -> Sequence[Any]:
        """Return all values of a column, in order.

        Returns:
            An array ``(n, *shape)`` where the space is one part, otherwise a list of ``n`` values.
        """
        chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if self.parts is None:
            return [self.value(scalar.as_py()) for scalar in chunk]
        arrays = list(self.arrays(chunk))
        if self.one_array:
            return arrays[0]  # type: ignore[return-value]
        return [self.join(iter([array[row] for array in arrays])) for row in range(len(chunk))]
