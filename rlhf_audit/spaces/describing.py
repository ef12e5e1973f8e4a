"""Gymnasium's spaces as JSON: what a log says of them, and ``reading.from_json`` reads."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlhf_audit.errors import UsageError
from rlhf_audit.spaces.base import LIST_ITEMS, Array


def describe(space: Any) -> dict[str, Any]:
    """Return a Gymnasium space as JSON values that ``from_json`` reads.

    Args:
        space: Any of Gymnasium's; told by the names of its classes, so that Gymnasium isn't imported here.

    Raises:
        UsageError: It is of no kind that can be recorded.
    """
    for cls in type(space).__mro__:
        if cls.__name__ in _DESCRIBERS and cls.__module__.startswith("gymnasium."):
            return {"type": cls.__name__, **_DESCRIBERS[cls.__name__](space)}
    raise UsageError(
        f"a space of type {type(space).__name__} can't be recorded",
        seen=ascii(str(space))[:120],
        needed=f"one of {', '.join(_DESCRIBERS)}",
        fix="choose another environment, or wrap it in one that has such a space",
    )


def _bounds(values: Array) -> Any:
    """Return bounds as JSON: one number where all are the same, and a digest where they are many."""
    flat = np.asarray(values).reshape(-1)
    if flat.size > LIST_ITEMS and (flat != flat[0]).any():
        return {"sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()}
    shown = [value if np.isfinite(value) else str(value) for value in flat.tolist()]
    return shown[0] if flat.size > LIST_ITEMS else shown


def _keys(space: Any) -> list[list[Any]]:
    if not all(isinstance(key, str) for key in space.spaces):
        raise UsageError(
            "a Dict space with keys that are not text can't be recorded",
            seen=ascii(str(list(space.spaces)))[:120],
            needed="text keys",
            fix="wrap the environment in one that names them",
        )
    return [[key, describe(inner)] for key, inner in space.spaces.items()]


_DESCRIBERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "Box": lambda s: {
        "dtype": str(s.dtype),
        "shape": list(s.shape),
        "low": _bounds(s.low),
        "high": _bounds(s.high),
    },
    "Discrete": lambda s: {"dtype": str(s.dtype), "shape": [], "n": int(s.n), "start": int(s.start)},
    "MultiDiscrete": lambda s: {
        "dtype": str(s.dtype),
        "shape": list(s.shape),
        "nvec": s.nvec.tolist(),
        "start": s.start.tolist(),
    },
    "MultiBinary": lambda s: {"dtype": str(s.dtype), "shape": list(s.shape)},
    "Text": lambda s: {
        "min_length": int(s.min_length),
        "max_length": int(s.max_length),
        "characters": "".join(sorted(s.character_set)),
    },
    "Dict": lambda s: {"spaces": _keys(s)},
    "Tuple": lambda s: {"spaces": [describe(inner) for inner in s.spaces]},
    "Sequence": lambda s: {"space": describe(s.feature_space), "stack": bool(s.stack)},
    "Graph": lambda s: {
        "node_space": describe(s.node_space),
        "edge_space": None if s.edge_space is None else describe(s.edge_space),
    },
    "OneOf": lambda s: {"spaces": [describe(inner) for inner in s.spaces]},
}
