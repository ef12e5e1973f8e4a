"""Tables in plain text: whole for a file or a pipe, folded to the window for a person."""

import shutil
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rlhf_audit.cli._console import moment, results
from rlhf_audit.errors import printable
from rlhf_audit.raters.screen import cells

_NARROWEST = 40
_LEAST_TEXT, _LONGEST_WORD = 10, 24
_GAP = 2


def room() -> int | None:
    """Return how many columns standard output has; None where it is no terminal and nothing need fit."""
    stream = results()
    if stream is None or not stream.isatty():
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Collection[str] = ()) -> str:
    """Return a table; nothing in a cell can move the cursor.

    On a terminal that is too narrow for it, empty columns are left out and long texts go on below; columns
    that find no room even so follow in a further table, which begins with the first column again.

    Args:
        columns: Their names.
        rows: A value a column.
        right: Columns to set to the right, besides those of numbers.
    """
    return fitted(columns, rows, room(), right)


def fitted(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], width: int | None, right: Collection[str] = ()
) -> str:
    """Return ``table`` for so many columns; None for as many as it takes."""
    values = [list(row) for row in rows]
    made = [_column(printable(name), [row[i] for row in values], right) for i, name in enumerate(columns)]
    if width is None or _wide([one.widest for one in made], _GAP) <= width:
        return _drawn(made, [one.widest for one in made], _GAP)
    kept = [one for one in made if any(one.cells)] or made[:1]
    least = _wide([one.least for one in kept], 1)
    blocks = [kept] if least <= width else _blocks(kept, width)
    return "\n\n".join(_squeezed(block, width) for block in blocks)


def prose(text: str, first: str = "", rest: str = "") -> str:
    """Return one paragraph; on a terminal in lines that fit.

    Args:
        text: The paragraph.
        first: What its first line begins with.
        rest: What the lines after it begin with.
    """
    width = room()
    if width is None:
        return first + text
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


@dataclass(frozen=True)
class _Column:
    """One column as text.

    Attributes:
        least: The fewest columns of the screen in which it can be read.
        widest: The most that it can use.
    """

    name: str
    cells: tuple[str, ...]
    to_right: bool
    least: int
    widest: int

    def folded(self, row: int, width: int) -> list[str]:
        """Return the lines of a cell; an empty one has one too."""
        text = self.cells[row]
        return textwrap.wrap(text, width, break_on_hyphens=False) if cells(text) > width else [text]

    def heading(self, width: int) -> list[str]:
        """Return the name's lines: it may go on below after an underscore."""
        lines = [""]
        for part in _parts(self.name):
            if lines[-1] and cells(lines[-1] + part) > width:
                lines.append("")
            lines[-1] += part
        return lines


def _column(name: str, values: Sequence[Any], right: Collection[str]) -> _Column:
    texts = tuple(_cell(value) for value in values)
    numeric = bool(values) and all(value is None or _is_number(value) for value in values)
    most = max(map(cells, texts), default=0)
    least = most
    # A number or a time in two halves is misread.
    if not any(_is_number(value) or isinstance(value, datetime) for value in values):
        word = max((cells(word) for text in texts for word in text.split()), default=0)
        least = min(most, max(_LEAST_TEXT, min(word, _LONGEST_WORD)))
    heading = max(map(cells, _parts(name)))
    return _Column(name, texts, numeric or name in right, max(least, heading, 1), max(most, cells(name), 1))


def _parts(name: str) -> list[str]:
    parts = name.split("_")
    return [*(f"{part}_" for part in parts[:-1]), parts[-1]]


def _blocks(columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """Return groups of columns, each with the first column before it, that fit side by side."""
    first, *others = columns
    blocks = [[first]]
    for column in others:
        tried = [*blocks[-1], column]
        if len(tried) > 2 and _wide([one.least for one in tried], _GAP) > width:
            blocks.append([first, column])
        else:
            blocks[-1] = tried
    return blocks


def _squeezed(columns: Sequence[_Column], width: int) -> str:
    """Return columns in ``width``: each gets the least, and those that lack least are served first."""
    widths = [one.least for one in columns]
    gap = _GAP if _wide(widths, _GAP) <= width else 1
    spare = max(width - _wide(widths, gap), 0)
    for i in sorted(range(len(columns)), key=lambda i: columns[i].widest - columns[i].least):
        more = min(spare, columns[i].widest - widths[i])
        widths[i] += more
        spare -= more
    return _drawn(columns, widths, gap)


def _wide(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _drawn(columns: Sequence[_Column], widths: Sequence[int], gap: int) -> str:
    used = list(zip(columns, widths, strict=True))
    lines = _side_by_side([one.heading(width) for one, width in used], used, gap)
    lines.append((" " * gap).join("-" * width for width in widths))
    for row in range(len(columns[0].cells) if columns else 0):
        lines += _side_by_side([one.folded(row, width) for one, width in used], used, gap)
    return "\n".join(lines)


def _side_by_side(
    folded: Sequence[Sequence[str]], used: Sequence[tuple[_Column, int]], gap: int
) -> list[str]:
    lines = []
    for number in range(max(map(len, folded), default=0)):
        parts = []
        for own, (column, width) in zip(folded, used, strict=True):
            text = own[number] if number < len(own) else ""
            padding = " " * (width - cells(text))
            parts.append(padding + text if column.to_right else text + padding)
        lines.append((" " * gap).join(parts).rstrip())
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return moment(value) if value.tzinfo else value.isoformat(" ")
    if isinstance(value, list | tuple):
        return ", ".join(_cell(inner) for inner in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(key)}={_cell(inner)}" for key, inner in value.items())
    return printable(str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
