"""A value of any space in words, shortened: for a rater's screen and for lists."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_MOST_NUMBERS = 24
_MOST_LETTERS = 60


def pieces(value: Any) -> list[str]:
    """Return a value's parts in words: each number of a short array, a long one as what it is.

    >>> pieces((np.array([0.5, -2]), {"fuel": 3}))
    ['0.5', '-2', 'fuel 3']
    """
    if isinstance(value, Mapping):
        return [f"{name} {piece}" for name, member in value.items() for piece in pieces(member)]
    if isinstance(value, str):
        return [repr(value)]
    if isinstance(value, tuple | list):
        return [piece for member in value for piece in pieces(member)]
    if value is None:
        return ["none"]
    array = np.asarray(value)
    if array.ndim > 1 and array.size > _MOST_NUMBERS:
        size = " x ".join(map(str, array.shape))
        return [f"{size} numbers from {number(array.min())} to {number(array.max())}"]
    return [number(one) for one in array.reshape(-1)[:_MOST_NUMBERS]]


def words(value: Any) -> str:
    """Return a value as one short text; in brackets where it has several parts.

    >>> words(np.array([0.25, -1], np.float32))
    '(0.25, -1)'
    >>> words(3)
    '3'
    """
    parts = pieces(value)
    text = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def number(value: Any) -> str:
    """Return a number as a rater reads it.

    >>> number(0.12345)
    '0.123'
    """
    return f"{round(float(value), 3) + 0.0:g}"
