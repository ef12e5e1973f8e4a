"""Reading a table of ratings that were collected elsewhere: one row a rating.

Only numbers are kept of each row, so that a large file fits into memory; a rater, an item and a label that is
a word become their numbers in the order in which they first appear.

Personal data:
    The raters' names and groups are in what this returns. No message of an error repeats a value of the file.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as arrow_csv

from rlhf_audit import canonical
from rlhf_audit.errors import UsageError
from rlhf_audit.exchange.base import damaged

Array = npt.NDArray[Any]

MOST_WORDS = 50
"""Labels that are words: more of them are free text, which may name somebody."""
_GROUP = "group."
_NEEDED = ("item", "rater", "label")
_NUMBERS = ("latency_s", "order")
_PLACE = re.compile(r"(?:In )?CSV column #(\d+): (?:Row #(\d+))?")


@dataclass(frozen=True)
class Ratings:
    """What a file holds; row ``i`` of the arrays is its ``i``-th rating.

    Attributes:
        raters: Names, in the order of their first rating.
        groups: Of each rater: group name to value.
        items: Names, in the order of their first rating.
        gold: Of each item its known right label; NaN where the file has none.
        words: Labels that are words, in the order of their codes; empty where labels are numbers.
        rater: ``(n,)`` int32, index into ``raters``.
        item: ``(n,)`` int32, index into ``items``.
        label: ``(n,)`` float64.
        latency_s: ``(n,)`` float64; NaN where the file has none.
        order: ``(n,)`` float64, when within the rater's own; the file's order where it has none.
        sha256: Of the file.
    """

    raters: tuple[str, ...] = field(repr=False)
    groups: tuple[dict[str, str], ...] = field(repr=False)
    items: tuple[str, ...]
    gold: Array
    words: tuple[str, ...]
    rater: Array
    item: Array
    label: Array
    latency_s: Array
    order: Array
    sha256: str

    def __len__(self) -> int:
        return len(self.rater)

    def by_rater(self) -> Iterator[tuple[int, Array]]:
        """Yield each rater's index and the places of their ratings, in the order in which they gave them."""
        in_order = np.lexsort((np.arange(len(self)), self.order, self.rater))
        ends = np.cumsum(np.bincount(self.rater, minlength=len(self.raters)))
        yield from enumerate(np.split(in_order, ends[:-1]))


class _Names:
    """Texts and their numbers, in the order of their first appearance."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def take(self, column: pa.Array) -> Array:
        """Return the numbers of a column's texts."""
        encoded = column.dictionary_encode()
        known = [self.numbers.setdefault(text, len(self.numbers)) for text in encoded.dictionary.to_pylist()]
        numbers: Array = np.asarray(known, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        return numbers


@dataclass
class _Told:
    """What rows say of a rater or an item beside the rating: the same in each of them, or nothing."""

    column: str
    of: str
    known: dict[int, str] = field(default_factory=dict)

    def take(self, owners: Array, column: pa.Array) -> None:
        texts = column.dictionary_encode()
        codes = texts.indices.to_numpy(zero_copy_only=False)
        pairs = np.unique(np.stack([owners, codes]), axis=1).T
        names = texts.dictionary.to_pylist()
        for owner, code in pairs.tolist():
            text = names[code]
            if text and self.known.setdefault(owner, text) != text:
                raise damaged(
                    f"the file says two things of one {self.of}",
                    f"two values in the column {self.column!r}",
                    f"one, in every row of that {self.of}",
                )


def read(path: Path) -> Ratings:
    """Read a CSV file of the columns item, rater, label and, if wanted, gold, latency_s, order, group.<name>.

    Raises:
        UsageError: It is not such a file.
        OSError: It can't be read.
    """
    sha256 = canonical.file_sha256(path)
    raters, items, labels = _Names(), _Names(), _Names()
    columns: dict[str, list[Array]] = {name: [] for name in ("rater", "item", "label", *_NUMBERS)}
    with path.open("rb") as stream:
        reader = _opened(stream)
        gold = _Told("gold", "item")
        groups = {name: _Told(name, "rater") for name in reader.schema.names if name.startswith(_GROUP)}
        for batch in _batches(reader):
            owner = raters.take(_named(batch, "rater"))
            item = items.take(_named(batch, "item"))
            columns["rater"].append(owner)
            columns["item"].append(item)
            columns["label"].append(labels.take(_named(batch, "label")))
            for name in _NUMBERS:
                if name in batch.schema.names:
                    columns[name].append(_finite(batch.column(name), name))
            if "gold" in batch.schema.names:
                gold.take(item, batch.column("gold"))
            for name, told in groups.items():
                told.take(owner, batch.column(name))
    whole = {name: np.concatenate(parts) if parts else None for name, parts in columns.items()}
    rater, item_of = whole["rater"], whole["item"]
    if rater is None or item_of is None or not len(rater):
        raise damaged("the file holds no rating", "no row", "at least one")
    words, values = _values([*labels.numbers], set(gold.known.values()))
    return Ratings(
        raters=tuple(raters.numbers),
        groups=tuple(_groups(groups, number) for number in range(len(raters.numbers))),
        items=tuple(items.numbers),
        gold=np.array([values.get(gold.known.get(n, ""), math.nan) for n in range(len(items.numbers))]),
        words=words,
        rater=rater,
        item=item_of,
        label=np.array([values[text] for text in labels.numbers])[whole["label"]],
        latency_s=np.full(len(rater), math.nan) if whole["latency_s"] is None else whole["latency_s"],
        order=np.arange(len(rater), dtype=float) if whole["order"] is None else whole["order"],
        sha256=sha256,
    )


def _opened(stream: Any) -> arrow_csv.CSVStreamingReader:
    kinds = {name: pa.string() for name in (*_NEEDED, "gold")} | {name: pa.float64() for name in _NUMBERS}
    options = arrow_csv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    try:
        names = arrow_csv.open_csv(stream, convert_options=options).schema.names
        stream.seek(0)
        # Groups are texts, whatever they look like: their names are known only now.
        kinds |= {name: pa.string() for name in names if name.startswith(_GROUP)}
        used = [name for name in names if name in kinds]
        options = arrow_csv.ConvertOptions(
            column_types=kinds, strings_can_be_null=False, include_columns=used
        )
        reader = arrow_csv.open_csv(stream, convert_options=options)
    except pa.ArrowException as error:
        raise _refused(error) from error
    wrong = [name for name in kinds if names.count(name) > 1 or (name in _NEEDED and name not in names)]
    if wrong:
        raise damaged(
            "the file's columns are not those of a table of ratings",
            f"no column {wrong[0]}, or two of it",
            "item, rater, label; and, if it has them, gold, latency_s, order, group.<name>",
        )
    return reader


def _batches(reader: arrow_csv.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except pa.ArrowException as error:
        raise _refused(error) from error


def _refused(error: pa.ArrowException) -> UsageError:
    # Arrow's own words repeat what stands there.
    place = _PLACE.search(str(error))
    row = f", row {place[2]}" if place and place[2] else ""
    seen = f"column {int(place[1]) + 1}{row}" if place else "a row of another length, or other bytes"
    return damaged(
        "the CSV file can't be read", seen, "UTF-8, a header, one row a rating, numbers where numbers belong"
    )


def _named(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = batch.column(name)
    if (np.asarray(pa.compute.binary_length(column)) == 0).any():
        raise damaged(f"the file lacks values in {name}", "an empty cell", "a value in every row")
    return column


def _finite(column: pa.Array, name: str) -> Array:
    numbers: Array = column.to_numpy(zero_copy_only=False)
    wrong = ~np.isfinite(numbers) | ((numbers < 0) if name == "latency_s" else False)
    if wrong.any():
        raise damaged(
            f"the file lacks values in {name}",
            "an empty cell, or no number that can be",
            "a finite number in every row, or no such column",
        )
    return numbers


def _values(labels: Sequence[str], gold: set[str]) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return the words in the order of their codes, none where labels are numbers, and each text's number."""
    texts = sorted({*labels, *gold})
    numbers = {text: number for text in texts if (number := _number(text)) is not None}
    if len(numbers) == len(texts):
        return (), numbers
    if numbers:
        raise damaged(
            "the labels are neither all numbers nor all words",
            f"{len(numbers)} that are numbers and {len(texts) - len(numbers)} that are not",
            "finite numbers; or words, which are coded 0, 1, … in sorted order",
        )
    if len(texts) > MOST_WORDS:
        raise damaged(
            "the labels are free text, which no audit can compare, and which might name somebody",
            f"{len(texts)} different labels",
            f"numbers, or at most {MOST_WORDS} words",
        )
    return tuple(texts), {text: float(code) for code, text in enumerate(texts)}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _groups(groups: dict[str, _Told], rater: int) -> dict[str, str]:
    return {
        name.removeprefix(_GROUP): told.known[rater] for name, told in groups.items() if rater in told.known
    }
