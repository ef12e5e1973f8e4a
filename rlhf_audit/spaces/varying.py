"""Spaces whose values vary in size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from rlhf_audit.spaces.base import Array, Space
from rlhf_audit.spaces.fixed import PlainSpace, RecordSpace


class GraphValue(NamedTuple):
    """A graph, field by field as Gymnasium's ``GraphInstance``.

    Attributes:
        nodes: ``(n, *node_shape)``.
        edges: ``(m, *edge_shape)``, or None.
        edge_links: ``(m, 2)`` int32, or None.
    """

    nodes: Array
    edges: Array | None
    edge_links: Array | None


@dataclass(frozen=True)
class TextSpace(Space):
    """Text."""

    @property
    def arrow(self) -> pa.DataType:
        return pa.string()

    def plain(self, value: Any) -> Any:
        return str(value)

    def value(self, plain: Any) -> Any:
        return plain


@dataclass(frozen=True)
class SequenceSpace(Space):
    """Any number of values of one space: a tuple, or, stacked, one value with a leading axis."""

    item: Space
    stack: bool

    @property
    def arrow(self) -> pa.DataType:
        return pa.list_(self.item.arrow)

    def plain(self, value: Any) -> Any:
        return [self.item.plain(one) for one in (_unstacked(value) if self.stack else value)]

    def value(self, plain: Any) -> Any:
        values = tuple(self.item.value(one) for one in plain)
        return _stacked(self.item, values) if self.stack else values


@dataclass(frozen=True)
class GraphSpace(Space):
    """Nodes of one space, and edges of another or of none."""

    node: PlainSpace
    edge: PlainSpace | None

    @property
    def arrow(self) -> pa.DataType:
        edge = pa.list_(self.edge.arrow) if self.edge else pa.null()
        links = pa.list_(pa.list_(pa.int32(), 2))
        return pa.struct([("nodes", pa.list_(self.node.arrow)), ("edges", edge), ("edge_links", links)])

    def plain(self, value: Any) -> Any:
        nodes, edges, links = value
        return {
            "nodes": [self.node.plain(one) for one in nodes],
            "edges": None if edges is None or self.edge is None else [self.edge.plain(one) for one in edges],
            "edge_links": None if links is None else list(np.asarray(links, np.int32)),
        }

    def value(self, plain: Any) -> Any:
        edges, links = plain["edges"], plain["edge_links"]
        return GraphValue(
            _stacked(self.node, [self.node.value(one) for one in plain["nodes"]]),
            None
            if edges is None or self.edge is None
            else _stacked(self.edge, list(map(self.edge.value, edges))),
            None if links is None else np.array(links, np.int32).reshape(-1, 2),
        )


@dataclass(frozen=True)
class OneOfSpace(Space):
    """A value of one of several spaces, and which."""

    members: tuple[Space, ...]

    @property
    def arrow(self) -> pa.DataType:
        values = [(f"value_{number}", member.arrow) for number, member in enumerate(self.members)]
        return pa.struct([("index", pa.int64()), *values])

    def plain(self, value: Any) -> Any:
        index = int(value[0])
        return {"index": index, f"value_{index}": self.members[index].plain(value[1])}

    def value(self, plain: Any) -> Any:
        index = plain["index"]
        return np.int64(index), self.members[index].value(plain[f"value_{index}"])


def _unstacked(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        columns = {name: _unstacked(inner) for name, inner in value.items()}
        n = len(next(iter(columns.values()), []))
        return [{name: column[row] for name, column in columns.items()} for row in range(n)]
    if isinstance(value, tuple):
        return [tuple(row) for row in zip(*map(_unstacked, value), strict=True)]
    return list(value)


def _stacked(item: Space, values: Sequence[Any]) -> Any:
    if isinstance(item, RecordSpace):
        inner = [
            _stacked(member, [value[item.key(name)] for value in values]) for name, member in item.named()
        ]
        return dict(zip(item.names, inner, strict=True)) if item.keyed else tuple(inner)
    if isinstance(item, PlainSpace):
        return np.array(values, item.dtype).reshape(len(values), *item.shape)
    return tuple(values)
