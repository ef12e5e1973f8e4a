"""The parts of a trajectory that are not sealed yet: brought to the disk, and sealed as they fill."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_audit.log import sealing
from rlhf_audit.log.part import Part, PartShape, let_go, part_file
from rlhf_audit.log.sealing import Told

Put = Callable[..., None]
"""``put(event, sync=False)`` appends an event to the journal."""
Mark = Mapping[str, Any]
"""What says how far a part is on the disk; see docs/log-format.md."""


@dataclass(frozen=True)
class TrajectoryKind:
    """What a trajectory holds, and whose it is.

    Attributes:
        shape: What is stored of each step.
        session_id: Whose steps.
        env: The environment's record, as JSON values.
        private: What a person gave could be worked out of it: it is overwritten once it is sealed.
        stream: Which of the session's environments.
    """

    shape: PartShape
    session_id: str
    env: Mapping[str, Any]
    private: bool
    stream: int = 0


@dataclass(eq=False)
class OpenPart:
    """A part that is not sealed yet.

    Attributes:
        number: From 0.
        told: What the slots don't hold of an episode, by its number.
        marked: How many slots are on the disk, and said to be.
    """

    number: int
    part: Part
    told: dict[int, Told]
    marked: int = 0

    def mark(self, stream: int) -> Mark | None:
        """Bring its steps to the disk; None when none came since the last mark that was noted."""
        part, start, count = self.part, self.marked, int(self.part.count[0])
        if count == start:
            return None
        side = None if part.side is None else part.side.summed()
        part.sync(start, count)
        where = {"stream": stream, "part": self.number, "from": start, "slots": count}
        return {**where, "crc32": part.crc32(start, count), "side": side}


class Unsealed:
    """Made by a trajectory, which stores in the last of its parts.

    Args:
        folder: The session's journal.
        put: Appends an event to the journal.
        kind: What is stored, and whose it is.

    Attributes:
        unsealed: The parts, in order.
        syncing: Held while the parts are looked at from another thread, or change.
    """

    def __init__(self, folder: Path, put: Put, kind: TrajectoryKind) -> None:
        self._folder, self._put, self._kind = folder, put, kind
        self.unsealed: tuple[OpenPart, ...] = ()
        self.syncing = threading.Lock()

    def made(self, number: int, slots: int) -> Part:
        """Return a new part."""
        return Part(part_file(self._folder, self._kind.stream, number), self._kind.shape, slots)

    def prepared(self, number: int) -> Part:
        """Return a new part that can be stored to without waiting for its pages."""
        part = self.made(number, self._kind.shape.slots)
        part.touch()
        return part

    def marks(self) -> Sequence[Mark]:
        """Bring every step to the disk; return what says how far, since the last marks that were noted."""
        with self.syncing:
            found = (one.mark(self._kind.stream) for one in self.unsealed)
            return [mark for mark in found if mark is not None]

    def noted(self, marks: Sequence[Mark]) -> None:
        """Take to heart that these marks are on the disk."""
        with self.syncing:
            for one in self.unsealed:
                mine = (m for m in marks if (m["stream"], m["part"]) == (self._kind.stream, one.number))
                one.marked = max((mark["slots"] for mark in mine), default=one.marked)

    def seal_full(self) -> None:
        """Seal the parts that are full, once there are enough for a file."""
        group = self._group(self.unsealed[:-1])
        if group:
            self._seal(group, last=False)
        else:
            self.unsealed[-2].part.rest()

    def seal_all(self) -> None:
        """Seal every part; an open episode ends with the last."""
        while self.unsealed:
            group = self._group(self.unsealed) or self.unsealed
            self._seal(group, last=len(group) == len(self.unsealed))

    def _group(self, parts: Sequence[OpenPart]) -> Sequence[OpenPart]:
        """Return the first of these parts that make a file; none where they are too few."""
        shape, slots = self._kind.shape, 0
        for number, one in enumerate(parts, 1):
            slots += one.part.slots
            # A trajectory's first part is a small one.
            if slots >= shape.slots * shape.together:
                return parts[:number]
        return ()

    def _seal(self, group: Sequence[OpenPart], *, last: bool) -> None:
        kind = self._kind
        filled = [
            sealing.Filled(
                one.part,
                int(one.part.count[0]),
                sealing.Stretch(kind.session_id, kind.env, kind.stream, one.told),
            )
            for one in group
        ]
        digests = sealing.seal(filled, last=last)
        if not last:
            # An episode that goes on ends, after a power cut, with the first observation there.
            self.unsealed[self.unsealed.index(group[-1]) + 1].part.sync(0, 0)
        where = {"stream": kind.stream, "part": group[0].number, "parts": len(group)}
        try:
            # Before the parts go: from now on this says what their files must be.
            self._put({"event": "sealed", **where, **digests}, sync=True)
        except OSError:
            # There is no room for it. A part of its own is known to be sealed by its being gone.
            if len(group) > 1:
                raise
        with self.syncing:
            # Nobody syncs them any more.
            self.unsealed = tuple(one for one in self.unsealed if one not in group)
            for one in group:
                one.part.close()
        for one in group:
            let_go(one.part.path, kind.private)
