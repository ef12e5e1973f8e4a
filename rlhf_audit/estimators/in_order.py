"""Ratings in the order of their items, sorted in little memory and looked at some items at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]

_AT_ONCE = 200_000
"""Ratings that are looked at together."""


def arranged(items: Ints, raters: Ints, labels: Ints, shape: tuple[int, int, int]) -> tuple[Ints, Ints, Ints]:
    """Return the rows in the order of items, raters and labels: each is sorted as one number, in place.

    Args:
        items: ``(n,)`` whole numbers below ``shape[0]``.
        raters: ``(n,)``, below ``shape[1]``.
        labels: ``(n,)``, below ``shape[2]``.
        shape: Its product is below 2^63.
    """
    keys = items.astype(np.int64)
    for size, part in ((shape[1], raters), (shape[2], labels)):
        keys *= size
        keys += part
    keys.sort()
    parts = []
    for size in (shape[2], shape[1]):
        part = np.empty(len(keys), np.int32)
        np.remainder(keys, size, out=part, casting="unsafe")
        keys //= size
        parts.append(part)
    return keys.astype(np.int32), parts[1], parts[0]


def some(items: Ints, n_items: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows, and the items, of some items at a time, for what is added up over them.

    Args:
        items: ``(n,)`` ascending.
        n_items: One more than the last of them at least.
    """
    ends = np.cumsum(np.bincount(items, minlength=n_items))
    start = first = 0
    while first < n_items:
        last = max(first + 1, int(np.searchsorted(ends, start + _AT_ONCE, side="right")))
        yield slice(start, int(ends[last - 1])), slice(first, last)
        start, first = int(ends[last - 1]), last
