"""Every error that a user may meet: one root, one base per room.

A message has three lines (what happened; what was seen and needed; the command that fixes it) and names
raters by pseudonym only.

    RlhfAuditError
    ├── UsageError (2)          a wrong argument: unknown environment, rater, session, audit, algorithm
    ├── RefusedError (3)        not permitted: ConsentError, LockedError
    ├── DamagedError (4)        can't be read or written: LogError, LogChangedError, LedgerError, StorageError
    └── CheckFailedError (1)    a check did not hold: DigestMismatchError, ReplayError
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class RlhfAuditError(Exception):
    """Root of the tree; prints as the three lines that a user reads.

    Args:
        what: What happened, one sentence.
        seen: What was found.
        needed: What was expected instead.
        fix: The command, or the act, that mends it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, seen: str = "", needed: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.seen = seen
        self.needed = needed
        self.fix = fix

    def __str__(self) -> str:
        parts = [f"seen: {self.seen}"] if self.seen else []
        parts += [f"needed: {self.needed}"] if self.needed else []
        lines = [self.what]
        if parts:
            lines.append("; ".join(parts))
        if self.fix:
            lines.append(f"to fix: {self.fix}")
        # Whatever was typed or read: each line stays one line, and no terminal obeys it.
        return "\n  ".join(printable(line) for line in lines)


class UsageError(RlhfAuditError):
    """An argument that names nothing, or the wrong thing."""

    exit_code = 2


class RefusedError(RlhfAuditError):
    """The act is not permitted now."""

    exit_code = 3


class ConsentError(RefusedError):
    """No grant covers the act: consent fails closed."""


class LockedError(RefusedError):
    """Another process is writing to the log."""


class DamagedError(RlhfAuditError):
    """Input that cannot be read, or a place that cannot be written."""

    exit_code = 4


class LogError(DamagedError):
    """A log, or a file in it, that is missing, damaged or of another format."""


class LogChangedError(LogError):
    """The log went on while it was read, and what was begun can't be read to its end: begin again."""


class LedgerError(DamagedError):
    """The ledger does not check against its own signed checkpoint."""


class StorageError(DamagedError):
    """The operating system refused a write: full disk, read-only, no permission."""


class CheckFailedError(RlhfAuditError):
    """A check that the user asked for did not hold."""


class DigestMismatchError(CheckFailedError):
    """Something is not the bytes, or the weights, that were recorded."""


class ReplayError(CheckFailedError):
    """A recorded session cannot be played again on this machine."""


def printable(text: str) -> str:
    r"""Return ``text`` with everything escaped that a terminal would obey: one line, whatever it held.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def near(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ``"did you mean X?"`` for the closest of ``known``, or an empty string.

    Args:
        word: What was typed.
        known: What there is.
        cutoff: How alike they must be, from 0 to 1.

    >>> near("CartPole-v2", ["Acrobot-v1", "CartPole-v1"])
    'did you mean CartPole-v1?'
    >>> near("zzz", ["CartPole-v1"])
    ''
    """
    match = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {printable(match[0])}?" if match else ""
