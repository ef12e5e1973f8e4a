"""What the estimators of the panel family read: the ratings of one kind of feedback under one objective.

Raters are numbered by what they rated and how, never by their names, so that every sum is added up in the
same order whatever they are called. Two who answered all alike are interchangeable.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

_PIECE = np.uint64(2**26 - 1)
"""So many bits of a hash are added up exactly as floats, for up to 2^27 ratings."""

_AT_ONCE = 100_000


@dataclass(frozen=True)
class Panel:
    """One panel's ratings, in no order.

    Attributes:
        number: Of the panel, from 1.
        suffix: What its subjects' names end in.
        raters: ``(n,)`` from 0, by content.
        items: ``(n,)`` the item's number in the view ``items``, less that of the first.
        labels: ``(n,)`` index into ``scale``.
        scale: ``(k,)`` the different values, ascending.
        names: Pseudonym of each rater.
        first_item: Number of item 0.
    """

    number: int
    suffix: str
    raters: Indices
    items: Indices
    labels: Indices
    scale: Array
    names: tuple[str, ...]
    first_item: int

    @property
    def n_items(self) -> int:
        """One more than the highest item's number; not all of them need have ratings."""
        return int(self.items.max()) + 1

    @property
    def n_rated(self) -> int:
        """Items with ratings."""
        return int(np.count_nonzero(np.bincount(self.items)))


def panels(table: pa.Table) -> Iterator[Panel]:
    """Yield each panel of ``panel, rater, item, value, rater_id, suffix``, its texts in one row a rater.

    Without ``suffix`` it is empty. Where there is one panel the table is let go before what is made of it is
    looked at, if the caller lets go of it too: it is as large.
    """
    numbers = table["panel"].to_numpy()
    found = np.flatnonzero(np.bincount(numbers)).tolist()
    if len(found) == 1:
        panel = _panel(found[0], table)
        del table, numbers
        yield panel
        return
    for number in found:
        yield _panel(number, table.filter(pa.array(numbers == number)))


def _panel(number: int, table: pa.Table) -> Panel:
    scale, labels = _labels(table["value"])
    items = table["item"].to_numpy()
    first = int(items.min())
    items = items - first
    rater = table["rater"].to_numpy()
    lowest = int(rater.min())
    rater = rater - lowest
    rank = _by_content(rater, items, labels, len(scale))
    named = table.filter(pc.is_valid(table["rater_id"]))
    texts = dict(
        zip(rank[named["rater"].to_numpy() - lowest].tolist(), named["rater_id"].to_pylist(), strict=True)
    )
    return Panel(
        number=number,
        suffix=named["suffix"][0].as_py() if "suffix" in named.column_names else "",
        raters=rank[rater],
        items=items,
        labels=labels,
        scale=scale,
        names=tuple(texts[index] for index in range(len(texts))),
        first_item=first,
    )


def _labels(values: pa.ChunkedArray) -> tuple[Array, Indices]:
    """Return the different values, ascending, and which of them each is."""
    coded = values.combine_chunks().dictionary_encode()
    # -0 is 0.
    different, place = np.unique(coded.dictionary.to_numpy(zero_copy_only=False), return_inverse=True)
    return different, place.astype(np.int32)[coded.indices.to_numpy(zero_copy_only=False)]


def _by_content(rater: Indices, items: Indices, labels: Indices, n_labels: int) -> Indices:
    """Return each rater's number by the sum of a hash of each rating."""
    high = np.zeros(int(rater.max()) + 1)
    low = np.zeros(len(high))
    for start in range(0, len(rater), _AT_ONCE):
        own = slice(start, start + _AT_ONCE)
        bits = items[own].astype(np.uint64) * np.uint64(n_labels) + labels[own].astype(np.uint64)
        bits *= np.uint64(0x9E3779B97F4A7C15)
        bits ^= bits >> np.uint64(29)
        bits *= np.uint64(0xBF58476D1CE4E5B9)
        bits ^= bits >> np.uint64(32)
        high += np.bincount(rater[own], (bits >> np.uint64(38)).astype(np.float64), len(high))
        low += np.bincount(rater[own], (bits & _PIECE).astype(np.float64), len(high))
    rank = np.empty(len(high), np.int32)
    rank[np.lexsort((low, high))] = np.arange(len(high))
    return rank
