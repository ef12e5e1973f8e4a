"""The terminal itself: single keys in, whole screens out, and everything put back whatever happens."""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterable
from types import FrameType
from typing import Any

if sys.platform != "win32":
    import termios

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
_LOOK_EVERY_S = 0.2
_DEFAULT_SIZE = (80, 24)


class Screen:
    """A terminal without echo and without Enter, on the alternate screen.

    Args:
        keys: File descriptor of the terminal's keyboard.
        picture: File descriptor of its screen.
        encoding: How text becomes bytes.
        movable: The cursor can be moved; where it cannot, each screen is printed below the last.
    """

    def __init__(self, keys: int, picture: int, encoding: str, movable: bool) -> None:
        self._keys = keys
        self._picture = picture
        self._encoding = encoding
        self._movable = movable
        self._saved: list[Any] | None = None
        self._previous: Any = None

    def open(self) -> None:
        """Take the terminal; does nothing when it is taken already."""
        if self._saved is not None:
            return
        self._saved = termios.tcgetattr(self._keys)
        atexit.register(self.close)
        # Another thread may not set handlers; there the atexit hook has to do.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._terminated)
        termios.tcsetattr(self._keys, termios.TCSAFLUSH, _without_echo(self._keys))
        if self._movable:
            self._write(_ENTER)

    def close(self) -> None:
        """Give the terminal back as it was; may be called at any time, and twice."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        # The terminal may be gone (a lost connection): then there is nothing to put back.
        with contextlib.suppress(OSError, termios.error):
            if self._movable:
                self._write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            # Keys that nobody read must not fall into the shell.
            termios.tcsetattr(self._keys, termios.TCSAFLUSH, saved)
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None
        atexit.unregister(self.close)

    def size(self) -> tuple[int, int]:
        """Return columns and rows that ``show`` can fill."""
        try:
            columns, rows = os.get_terminal_size(self._picture)
        except OSError:
            columns, rows = 0, 0
        if not (columns and rows):
            columns, rows = _DEFAULT_SIZE
        # Without a movable cursor two rows go to the ends of line around a screen.
        return columns, rows if self._movable else max(rows - 2, 1)

    def show(self, lines: Iterable[str]) -> None:
        """Draw one screen; each line must fit."""
        # A terminal that has gone is noticed at the next key.
        with contextlib.suppress(OSError):
            self._write(self._as_text(list(lines)))

    def forget_keys(self) -> None:
        """Drop keys that were pressed before now: nobody can have answered what was not on the screen."""
        with contextlib.suppress(termios.error):
            termios.tcflush(self._keys, termios.TCIFLUSH)

    def key(self) -> str | None:
        """Return the key that was pressed, in lower case; empty when the terminal has gone.

        Returns:
            None when no key came for a while, so that the caller can look whether the size has changed.
            Keys without a letter (arrows, function keys) come as a single escape character.
        """
        ready, _, _ = select.select([self._keys], [], [], _LOOK_EVERY_S)
        if not ready:
            return None
        try:
            pressed = os.read(self._keys, 1024)
        except OSError:
            return ""
        # Of keys that came together (a paste, a key held down) the first one counts.
        return pressed.decode("utf-8", "replace")[:1].lower()

    def _as_text(self, lines: list[str]) -> str:
        if self._movable:
            return "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J"
        return "\r\n" + "\r\n".join(lines) + "\r\n"

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            data = data[os.write(self._picture, data) :]

    def _terminated(self, signum: int, frame: FrameType | None) -> None:
        previous = self._previous
        self.close()
        if callable(previous):
            previous(signum, frame)
        else:
            os.kill(os.getpid(), signum)


def clip(text: str, columns: int) -> str:
    r"""Cut text to a number of cells, leaving out what could move the cursor or turn the text round.

    >>> clip("push\x1b[2J left", 9)
    'push[2J l'
    """
    kept, used = [], 0
    for character in text:
        if not character.isprintable():
            continue
        used += cells(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept)


def cells(text: str) -> int:
    """Return how many cells printable text takes.

    >>> cells("é"), cells("左")
    (1, 2)
    """
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _without_echo(keys: int) -> list[Any]:
    attributes = termios.tcgetattr(keys)
    attributes[0] &= ~termios.IXON  # or Ctrl-S would freeze the screen
    attributes[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    control = attributes[6]
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    # Ctrl-C stays; Ctrl-Z and Ctrl-\ would leave the terminal as it is now.
    for key in (termios.VSUSP, termios.VQUIT):
        control[key] = bytes([os.fpathconf(keys, "PC_VDISABLE") & 0xFF])
    return attributes
