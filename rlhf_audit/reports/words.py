"""How a report prints numbers, dates and chances: alike in HTML and in Markdown."""

import re
from collections.abc import Mapping
from typing import Any

from rlhf_audit.clock import from_text

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def visible(text: str) -> str:
    """Replace what could disguise or reorder text: control and direction-changing characters."""
    return _UNSAFE.sub("\ufffd", text)


def whole(value: int) -> str:
    """Return a count with its thousands parted."""
    return f"{value:,}"


def many(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    >>> many(1, "step"), many(1200, "policy", "policies")
    ('1 step', '1,200 policies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def number(value: float | None) -> str:
    """Return a value to three places; whole ones of two and more as they are."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) >= 2:
        return f"{int(value):,}".replace("-", "−")
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def label(value: float) -> str:
    """Return a label as it was given: ``1``, ``0.5``."""
    return f"{value:g}".replace("-", "−")


def value(row: Mapping[str, Any]) -> str:
    """Return a row's value; one without an interval or a test may be a count."""
    found = row["value"]
    if found is not None and found == int(found) and row["lower"] is None and row["p"] is None:
        return f"{int(found):,}".replace("-", "−")
    return number(found)


def interval(row: Mapping[str, Any]) -> str:
    """Return a row's interval in words."""
    if row["lower"] is None or row["upper"] is None:
        return "–"
    return f"{number(row['lower'])} to {number(row['upper'])}"


def chance(value: float | None) -> str:
    """Return a probability."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def is_counted(row: Mapping[str, Any]) -> bool:
    """Say whether a row is a count that its own note explains: nothing was estimated."""
    return row["lower"] is None and row["p"] is None and row["note"] not in ("", "ok")


def told(row: Mapping[str, Any]) -> str:
    """Return what a flagged row says: its value, interval and n, or the note of one that counts."""
    if is_counted(row):
        return str(row["note"])
    said = value(row)
    if row["lower"] is not None and row["upper"] is not None:
        said += f" (95\u00a0% interval {interval(row)})"
    said += f", n\u00a0=\u00a0{whole(row['n'])}"
    return said if row["note"] in ("", "ok") else f"{said}; {row['note']}"


def sure(row: Mapping[str, Any]) -> str:
    """Return how sure a finding is, in words that claim no more than the test does."""
    found = row["q"] if row["q"] is not None else row["p"]
    if found is None and is_counted(row):
        return "this is counted, not estimated"
    if found is None:
        return "no test of chance applies: the interval says how exact the value is"
    letter = "q" if row["q"] is not None else "p"
    for limit, words in ((0.001, "very unlikely to be chance"), (0.01, "unlikely to be chance")):
        if found < limit:
            return f"{words} ({letter} {chance(found)})"
    return f"chance is not quite excluded ({letter} {chance(found)})"


def short(digest: str | None) -> str:
    """Return the beginning of a long digest."""
    return "none" if not digest else digest if len(digest) <= 16 else f"{digest[:12]}…"


def day(text: str | None) -> str:
    """Return a date in words, ``4 March 2026``; what is no date is shown as it is."""
    return moment(text).partition(",")[0]


def moment(text: str | None) -> str:
    """Return a date and a time in words."""
    if not text:
        return "–"
    try:
        when = from_text(text)
    except ValueError:
        return text
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M} UTC"
