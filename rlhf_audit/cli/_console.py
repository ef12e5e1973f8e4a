"""What a verb prints: its result on standard output, everything else on standard error."""

import contextlib
import errno
import json
import math
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from rlhf_audit.clock import to_text
from rlhf_audit.errors import StorageError
from rlhf_audit.errors import printable as printable
from rlhf_audit.log.ledger import Head

_REDRAWN_EVERY_S = 0.1

# While a verb runs, ``sys.stdout`` leads to standard error: see ``results_only``.
_results: tuple[TextIO | None] | None = None


def emit(
    verb: str,
    head: Head | None,
    result: Mapping[str, Any],
    text: str,
    as_json: bool,
    only_now: bool = False,
) -> None:
    """Print a verb's one result: a JSON document, or ``text``.

    Raises:
        StorageError: Standard output can't be written. A reader that has gone away is no error, unless this
            is shown ``only_now``.
    """
    if as_json:
        document = {
            "schema": f"rlhf_audit.{verb}/1",
            "log_head": head.to_json() if head else None,
            "result": jsonable(result),
        }
        text = json.dumps(document, indent=2, allow_nan=False)
    try:
        out(text, only_now)
    except OSError as error:
        raise StorageError(
            f"{verb} has ended, but its result can't be printed",
            seen=f"{errno.errorcode.get(error.errno or 0, 'OSError')} at standard output",
            needed="a standard output that can be written",
            fix=f"rlhf-audit show LOG ledger says what was done; for what {verb} prints, "
            "send it to another place next time",
        ) from error


def out(text: str, only_now: bool = False) -> None:
    """Print to standard output at once, so that a refused write is met here."""
    _write(results(), text, only_now)


def results() -> TextIO | None:
    """Return the stream that results go to; None where it was closed before we began."""
    return sys.stdout if _results is None else _results[0]


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """Keep standard output for ``out`` alone: what a foreign module prints goes to standard error."""
    global _results
    before, _results = _results, (sys.stdout,)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _results = before


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


def _write(stream: TextIO | None, text: str, only_now: bool = False) -> None:
    if stream is None or not text:
        return
    try:
        stream.write(f"{harmless(text)}\n")
        stream.flush()
    except OSError as error:
        # Otherwise the interpreter would try again at its end, and complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if only_now or error.errno != errno.EPIPE:
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


def harmless(text: str) -> str:
    r"""Return lines of text with everything escaped that a terminal would obey, the line ends apart.

    >>> harmless("a\r\n\tb\x1b[2J")
    'a\n        b\\x1b[2J'
    """
    return "\n".join(line if line.isprintable() else printable(_plain(line)) for line in _lines(text))


def shown(text: str) -> str:
    """Return somebody else's text for a terminal, and say so where a character had to be escaped."""
    n_escaped = sum(not char.isprintable() for line in _lines(text) for char in _plain(line))
    if not n_escaped:
        return harmless(text)
    are = "is" if n_escaped == 1 else "are"
    return (
        f"{harmless(text)}\n[{many(n_escaped, 'character')} of this text could fool a terminal or not be"
        f" seen, and {are} shown by code, such as \\x1b. The digest is that of the exact text.]"
    )


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _plain(line: str) -> str:
    # Tabs and other kinds of space are no danger, and French is full of them.
    return "".join(" " if unicodedata.category(char) == "Zs" else char for char in line.expandtabs())


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
