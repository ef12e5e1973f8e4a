"""A space from its description in JSON, which ``describing.py`` wrote: reading a log needs no Gymnasium."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlhf_audit.errors import DamagedError
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.fixed import PlainSpace, RecordSpace
from rlhf_audit.spaces.varying import GraphSpace, OneOfSpace, SequenceSpace, TextSpace


def from_json(described: Mapping[str, Any]) -> Space:
    """Return the space that a description names.

    Raises:
        DamagedError: It is no description of a space.
    """
    try:
        read = _READERS[described["type"]]
        return read(described)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(
            "the description of a space can't be read",
            seen=ascii(str(described))[:80],
            needed=f"one of {', '.join(_READERS)}, with its fields",
            fix="rlhf-audit verify LOG",
        ) from error


def _plain(described: Mapping[str, Any]) -> PlainSpace:
    dtype = np.dtype(described["dtype"])
    if dtype.kind not in "biuf" or min(described["shape"], default=0) < 0:
        raise ValueError(described["dtype"])
    return PlainSpace(dtype, tuple(int(size) for size in described["shape"]))


def _record(described: Mapping[str, Any]) -> RecordSpace:
    if described["type"] == "Tuple":
        members = tuple(from_json(member) for member in described["spaces"])
        return RecordSpace(tuple(str(number) for number in range(len(members))), members, keyed=False)
    names = tuple(str(name) for name, _ in described["spaces"])
    return RecordSpace(names, tuple(from_json(member) for _, member in described["spaces"]), keyed=True)


def _graph(described: Mapping[str, Any]) -> GraphSpace:
    edge = described["edge_space"]
    return GraphSpace(_plain(described["node_space"]), _plain(edge) if edge is not None else None)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Space]] = {
    "Box": _plain,
    "Discrete": _plain,
    "MultiDiscrete": _plain,
    "MultiBinary": _plain,
    "Dict": _record,
    "Tuple": _record,
    "Text": lambda _described: TextSpace(),
    "Sequence": lambda described: SequenceSpace(from_json(described["space"]), bool(described["stack"])),
    "Graph": _graph,
    "OneOf": lambda described: OneOfSpace(tuple(from_json(member) for member in described["spaces"])),
}
