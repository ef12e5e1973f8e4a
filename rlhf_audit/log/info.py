"""What is kept of an environment's ``info``: JSON of the chosen keys."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def kept(info: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the chosen keys that are there as one JSON object, its keys sorted.

    Arrays become lists; NaN, infinities and what JSON has no form for become text.

    >>> kept({"a": np.float32(0.5), "b": float("nan"), "c": 1}, ["b", "a", "z"])
    '{"a": 0.5, "b": "nan"}'
    """
    return json.dumps({key: _plain(info[key]) for key in sorted(keys) if key in info}, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(inner) for inner in value), key=repr)
    if isinstance(value, bytes):
        return value.hex()
    # Python's own text for an object holds its address: another one at every run.
    own = any("__repr__" in cls.__dict__ or "__str__" in cls.__dict__ for cls in type(value).__mro__[:-1])
    return str(value) if own else f"<{type(value).__qualname__}>"


def one_of_many(infos: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the ``info`` of one environment out of a vector's, in which ``_key`` says who has ``key``.

    >>> one_of_many({"x": np.array([1, 2]), "_x": np.array([True, False])}, 1)
    {}
    """
    found: dict[str, Any] = {}
    for key, values in infos.items():
        mask = infos.get(f"_{key}")
        if mask is not None and mask[number]:
            found[key] = one_of_many(values, number) if isinstance(values, Mapping) else values[number]
    return found
