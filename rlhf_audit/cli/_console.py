"""What a verb prints: its result on standard output, everything else on standard error."""

import contextlib
import errno
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from rlhf_audit.clock import to_text
from rlhf_audit.log.ledger import Head

_REDRAWN_EVERY_S = 0.1


def emit(verb: str, head: Head | None, result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print a verb's one result: a JSON document, or ``text``.

    Raises:
        OSError: Standard output can't be written; a reader that has gone away is no error.
    """
    if as_json:
        document = {
            "schema": f"rlhf_audit.{verb}/1",
            "log_head": head.to_json() if head else None,
            "result": jsonable(result),
        }
        text = json.dumps(document, indent=2, allow_nan=False)
    out(text)


def out(text: str) -> None:
    """Print to standard output at once, so that a refused write is met here."""
    _write(sys.stdout, text)


def many(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> many(1, "step"), many(2, "step")
    ('1 step', '2 steps')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def say(text: str) -> None:
    """Narrate on standard error."""
    # Nobody to tell is no reason to stop.
    with contextlib.suppress(OSError):
        _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None or not text:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        # Otherwise the interpreter would try again at its end, and complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if error.errno != errno.EPIPE:
            raise


class Progress:
    """One line on standard error that is drawn over; nothing unless that is a terminal."""

    def __init__(self) -> None:
        self._stream = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
        self._drawn_at = -math.inf

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None and self._drawn_at > 0:
            self._draw("")

    def show(self, text: str) -> None:
        """Draw ``text`` instead of what was there, not more often than an eye can follow."""
        if self._stream is not None and time.monotonic() - self._drawn_at >= _REDRAWN_EVERY_S:
            self._drawn_at = time.monotonic()
            self._draw(text)

    def count(self, what: str, done: int, total: int | None = None) -> None:
        """Draw how far something is."""
        self.show(f"{what} {done}" if total is None else f"{what} {done} of {total}")

    def _draw(self, text: str) -> None:
        assert self._stream is not None
        with contextlib.suppress(OSError):
            self._stream.write(f"\r\x1b[K{printable(text)}")
            self._stream.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in plain text, numbers to the right; nothing in a cell can move the cursor."""
    values = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in values]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    right = [
        bool(values) and all(row[i] is None or _is_number(row[i]) for row in values)
        for i in range(len(columns))
    ]
    lines = [list(columns), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    r"""Return ``text`` with everything escaped that a terminal would obey.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def moment(when: datetime) -> str:
    """Return a time as people read it: UTC, to the minute."""
    return f"{to_text(when)[:16].replace('T', ' ')} UTC"


def jsonable(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: times as RFC 3339, NaN and infinities as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(inner) for inner in value]
    if isinstance(value, datetime):
        return to_text(value) if value.tzinfo else value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


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
