"""The one place that reads the time, so that everything else can be made again."""

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time in UTC."""

    def now(self) -> datetime:
        """Return an aware UTC time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class TickingClock:
    """A clock that starts where it is told and moves one second at each look: for samples and tests."""

    def __init__(self, start: datetime) -> None:
        self._next = start

    def now(self) -> datetime:
        current = self._next
        self._next = current + timedelta(seconds=1)
        return current


def to_text(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds.

    >>> to_text(datetime(2026, 3, 4, tzinfo=UTC))
    '2026-03-04T00:00:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime:
    """Return the aware UTC time that ``to_text`` wrote.

    Raises:
        ValueError: ``text`` is not RFC 3339, or names no offset (its meaning would depend on the machine).
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no offset from UTC")
    return moment.astimezone(UTC)
