"""Whether a value is one of a space: for what a log says of an environment that isn't open."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def holds(space: Mapping[str, Any], value: Any) -> bool:
    """Say whether a value lies in a described space.

    Bounds of a Box, and spaces whose values vary in size, are not looked at: those values were read by the
    space's own column, and an environment may go beyond its own bounds.

    >>> holds({"type": "Discrete", "n": 2, "start": 1, "dtype": "int64", "shape": []}, 0)
    False
    """
    kind = space["type"]
    if kind == "Dict":
        return all(holds(member, value[name]) for name, member in space["spaces"])
    if kind == "Tuple":
        return all(holds(member, one) for member, one in zip(space["spaces"], value, strict=True))
    if kind == "MultiBinary":
        return bool(np.isin(value, (0, 1)).all())
    if kind in ("Discrete", "MultiDiscrete"):
        from_start = np.asarray(value, np.int64) - np.array(space["start"], np.int64)
        return bool(((from_start >= 0) & (from_start < np.array(space.get("nvec", space.get("n"))))).all())
    return True
