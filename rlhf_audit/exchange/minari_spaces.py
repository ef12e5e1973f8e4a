"""Minari's own JSON of spaces: from the log's description of a space, and to Gymnasium's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rlhf_audit.exchange.base import Trajectories, damaged, unsupported


def described(one: Trajectories) -> tuple[str, str]:
    """Return the observation and the action space as Minari serialises them.

    Bounds that the log holds as a digest only are told as those of the dtype.

    Raises:
        UsageError: Minari has no word for one of them.
    """
    return json.dumps(_told(one, one.env.observation_space)), json.dumps(_told(one, one.env.action_space))


def members(space: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the descriptions of the members of a Dict or Tuple."""
    return [inner[1] if space["type"] == "Dict" else inner for inner in space["spaces"]]


def space(told: Mapping[str, Any]) -> gym.Space[Any]:
    """Return the space that Minari's JSON names.

    Raises:
        UsageError: It names none that can be read.
    """
    try:
        found: gym.Space[Any] = _SPACES[told["type"]](told)
        return found
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise damaged(
            "a space of the Minari dataset can't be read",
            ascii(str(told.get("type")))[:40],
            f"one of {', '.join(_SPACES)}",
        ) from error


def _told(one: Trajectories, space: Mapping[str, Any]) -> dict[str, Any]:
    kind = space["type"]
    if kind == "Box":
        low, high = (_bounds(space, end) for end in ("low", "high"))
        return {"type": kind, "dtype": space["dtype"], "shape": space["shape"], "low": low, "high": high}
    if kind == "Discrete":
        return {"type": kind, "dtype": "int64", "start": space["start"], "n": space["n"]}
    if kind == "MultiDiscrete":
        return {name: space[name] for name in ("type", "dtype", "nvec", "start")}
    if kind == "MultiBinary":
        shape = space["shape"]
        return {"type": kind, "n": shape[0] if len(shape) == 1 else shape}
    if kind == "Text":
        lengths = {name: space[name] for name in ("min_length", "max_length")}
        return {"type": kind, **lengths, "charset": space["characters"]}
    if kind == "Dict":
        inner = {name: _told(one, member) for name, member in space["spaces"]}
        return {"type": kind, "subspaces": inner}
    if kind == "Tuple":
        return {"type": kind, "subspaces": [_told(one, member) for member in space["spaces"]]}
    raise unsupported("minari", one, f"a space of type {kind}", f"one of {', '.join(_SPACES)}")


def _bounds(space: Mapping[str, Any], end: str) -> Any:
    bound, shape = space[end], tuple(space["shape"])
    dtype = np.dtype(space["dtype"])
    if isinstance(bound, Mapping):
        sign = -1 if end == "low" else 1
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        bound = (limits.min if sign < 0 else limits.max) if limits else sign * np.inf
    values = np.array(bound if isinstance(bound, Sequence) else [bound] * int(np.prod(shape)), dtype)
    return values.reshape(shape).tolist()


def _box(told: Mapping[str, Any]) -> gym.Space[Any]:
    dtype = np.dtype(told["dtype"])
    low, high = (np.array(told[end], dtype) for end in ("low", "high"))
    return gym.spaces.Box(low, high, tuple(told["shape"]), dtype.type)


_SPACES: Mapping[str, Any] = {
    "Box": _box,
    "Discrete": lambda t: gym.spaces.Discrete(t["n"], start=t["start"]),
    "MultiDiscrete": lambda t: gym.spaces.MultiDiscrete(
        t["nvec"], dtype=np.dtype(t["dtype"]), start=t.get("start")
    ),
    "MultiBinary": lambda t: gym.spaces.MultiBinary(t["n"]),
    "Text": lambda t: gym.spaces.Text(t["max_length"], min_length=t["min_length"], charset=t["charset"]),
    "Dict": lambda t: gym.spaces.Dict({name: space(inner) for name, inner in t["subspaces"].items()}),
    "Tuple": lambda t: gym.spaces.Tuple([space(inner) for inner in t["subspaces"]]),
}
