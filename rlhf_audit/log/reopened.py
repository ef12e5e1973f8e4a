"""A session that was left open, read from its journal: what it holds, and the sealing of its parts."""

import contextlib
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlhf_audit import canonical, schema
from rlhf_audit.errors import LogError
from rlhf_audit.log import events, journal, sealing
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.part import Part, boot, let_go, part_file, staged_files
from rlhf_audit.log.sealing import Told
from rlhf_audit.log.unsealed import TrajectoryKind

_ROWS = 1 << 14


@dataclass
class KnownPart:
    """What the journal says of a part.

    Attributes:
        told: What the slots don't hold of an episode, by its number.
        marks: From, to and checksum of each stretch that is on the disk, one after another.
        side: Size and checksum of the side stream at the last mark.
        sealed: Digests of the part's sealed files, by name; empty where it is in those of a part before it;
            None before they were written.
    """

    slots: int
    boot: str
    told: dict[int, Told] = field(default_factory=dict)
    marks: "array[int]" = field(default_factory=lambda: array("Q"))
    side: tuple[int, int] | None = None
    sealed: Mapping[str, str] | None = None

    @property
    def synced(self) -> int:
        """How many slots are on the disk for certain."""
        return max(self.marks[1::3], default=0)

    def mark(self, said: Mapping[str, Any]) -> None:
        """Take a mark in."""
        self.marks.extend((said["from"], said["slots"], said["crc32"]))
        if said["side"] is not None:
            size, running = said["side"]
            self.side = size, running


class LeftOpen:
    """What a journal's events say, taken in one after another: a long session's don't fit into memory.

    Attributes:
        meta: The session's facts.
        parts: Those of each stream, in order.
        n_feedback: Answers.
        learnt: Digests of the weights after each answer; None where the last answer's is missing.
    """

    def __init__(self, session_id: str, meta: Mapping[str, Any]) -> None:
        self.session_id = session_id
        self.meta = {name: value for name, value in meta.items() if name != "event"}
        self.parts: dict[int, list[KnownPart]] = {}
        self.n_feedback = 0
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._weights: list[str] = []
        self._last = ""

    def take(self, event: Mapping[str, Any]) -> None:
        """Take the next event in."""
        known = self.parts.setdefault(event["stream"], []) if "stream" in event else []
        match event["event"]:
            case "part":
                # One that an interrupted recorder began twice: nothing was stored in between.
                del known[event["part"] :]
                # What was told last may be of the episode that goes on.
                told = dict([*known[-1].told.items()][-1:]) if known else {}
                known.append(KnownPart(event["slots"], event["boot"], told))
            case "episode":
                known[-1].told[event["episode"]] = event["reset_options"], event["behaviour_policy_sha256"]
            case "sealed":
                names = ("steps_sha256", "episodes_sha256")
                first = event["part"]
                for one in known[first : first + event["parts"]]:
                    # What the journal said of it is not needed any more: a long session's is much.
                    one.sealed, one.told, one.marks = {}, {}, array("Q")
                known[first].sealed = {name: event[name] for name in names}
            case "feedback":
                self._feedback(event)
            case "weights":
                self._weights.append(event["sha256"])
        if event["event"] in ("feedback", "weights"):
            self._last = event["event"]
        for mark in event.get("marks", ()):
            self.parts[mark["stream"]][mark["part"]].mark(mark)

    @property
    def learnt(self) -> list[str] | None:
        # After a kill the last answer may be there without the weights that it led to.
        return self._weights if self.meta["learn"] and self._last == "weights" else None

    def feedback(self) -> pa.Table:
        """Return the answers, as the rater's file holds them."""
        self._pack()
        return pa.concat_tables([schema.FEEDBACK.empty_table(), *self._tables]).combine_chunks()

    def _feedback(self, event: Mapping[str, Any]) -> None:
        row = events.feedback_row(event)
        facts = {"session_id": self.session_id, "row": self.n_feedback, "kind": row.kind.value}
        self._rows.append(asdict(row) | facts)
        self.n_feedback += 1
        if len(self._rows) == _ROWS:
            self._pack()

    def _pack(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._rows, schema=schema.FEEDBACK))
        self._rows = []


def read(layout: Layout, session_id: str) -> LeftOpen | None:
    """Read an open session's journal; None when there is none.

    Raises:
        LogError: It is damaged.
    """
    found: LeftOpen | None = None
    for event in journal.read(layout, session_id):
        if found is None:
            found = LeftOpen(session_id, event)
        else:
            found.take(event)
    return found


def finish(
    folder: Path, known: Iterable[KnownPart], kind: TrajectoryKind, moved: Collection[int] = ()
) -> None:
    """Seal what is left of a trajectory's parts.

    Args:
        folder: Where they are.
        known: What the journal says of each.
        kind: As when it was stored.
        moved: Parts whose sealed files have been moved away already.

    Raises:
        LogError: A part is not as it was synced.
    """
    parts = list(known)
    paths = [part_file(folder, kind.stream, number) for number in range(len(parts))]
    left = []
    for number, (path, one) in enumerate(zip(paths, parts, strict=True)):
        staged = staged_files(path)[0].exists()
        is_sealed = one.sealed is not None
        if number in moved or one.sealed == {} or (staged and (is_sealed or not path.exists())):
            let_go(path, kind.private)
        else:
            left.append(number)
    end = next((number for number in left if _ends(parts, number)), len(parts) - 1)
    if end in left and end and _not_taken_over(paths[end], parts[end], kind):
        # Announced, and cut short before anything was stored in it: the trajectory ends in the one before.
        left.remove(end)
        end -= 1
    # Those behind the end first: done again after a crash, this comes to the same end.
    for number in reversed(left):
        if number > end:
            if parts[number].synced:
                raise _damaged(paths[number], "a part before it that ends too soon", "all that was synced")
            let_go(paths[number], kind.private)
    for number in left:
        if number <= end and not _never_there(paths[number], parts[number]):
            _seal(paths[number], parts[number], kind, last=number == end)


def _not_taken_over(path: Path, known: KnownPart, kind: TrajectoryKind) -> bool:
    """Say whether a part holds no slot, nor says that it goes on with an episode."""
    if not _same_boot(known) or not path.is_file():
        return False
    with contextlib.closing(_opened(path, known, kind)) as part:
        return not part.count[0] and not part.first_step[0]


def _ends(parts: Sequence[KnownPart], number: int) -> bool:
    """Say whether a trajectory ends in this part: a power cut has taken what came after."""
    one, after = parts[number], parts[number + 1 : number + 2]
    return not _same_boot(one) and (one.synced < one.slots or not any(other.synced for other in after))


def _never_there(path: Path, known: KnownPart) -> bool:
    """Say whether a power cut has taken the file, or its size."""
    there = path.is_file() and path.stat().st_size
    return not there and not known.synced and not _same_boot(known)


def _seal(path: Path, known: KnownPart, kind: TrajectoryKind, *, last: bool) -> None:
    with contextlib.closing(_opened(path, known, kind)) as part:
        count = _count(part, known, last)
        stretch = sealing.Stretch(kind.session_id, kind.env, kind.stream, known.told)
        sealing.seal([sealing.Filled(part, count, stretch)], last=last)
    let_go(path, kind.private)


def check(folder: Path, number: int, known: KnownPart, kind: TrajectoryKind) -> LogError | None:
    """Check a part of a session that is open, perhaps being recorded just now; return what is wrong."""
    path = part_file(folder, kind.stream, number)
    staged = staged_files(path)
    if known.sealed is not None:
        names = ("steps_sha256", "episodes_sha256")
        for file, digest in zip(staged, map(known.sealed.get, names), strict=True):
            # Moved to its place otherwise: what belongs there is checked by its name.
            if digest and file.exists() and canonical.file_sha256(file) != digest:
                return _damaged(file, "other bytes", "the file as it was sealed")
        return None
    if not path.exists():
        gone = staged[0].exists() or not folder.exists() or not known.synced
        return None if gone else _damaged(path, "no such file", "a part of the session")
    try:
        with contextlib.closing(_opened(path, known, kind)) as part:
            count = int(part.count[0])
            if _same_boot(known) and not known.synced <= count <= part.slots + 1:
                return _damaged(path, f"{count} slots", f"{known.synced} to {part.slots + 1}")
            _check_marks(part, known)
    except LogError as error:
        # Unless it was sealed this very moment.
        return error if path.exists() else None
    return None


def _opened(path: Path, known: KnownPart, kind: TrajectoryKind) -> Part:
    if not path.is_file():
        raise _damaged(path, "no such file", "a part of the session")
    try:
        return Part(path, kind.shape, known.slots, reading=True)
    except FileNotFoundError as error:
        raise _damaged(path.with_suffix(".side"), "no such file", "a part of the session") from error


def _same_boot(known: KnownPart) -> bool:
    return bool(known.boot) and known.boot == boot()


def _count(part: Part, known: KnownPart, last: bool) -> int:
    """Return how many slots of a part can be relied upon."""
    count = int(part.count[0]) if _same_boot(known) else known.synced
    least = known.synced if last else part.slots
    if not least <= count <= part.slots + 1:
        raise _damaged(part.path, f"{count} slots", f"{least} to {part.slots + 1}")
    _check_marks(part, known)
    return count


def _check_marks(part: Part, known: KnownPart) -> None:
    marks = known.marks
    for start, stop, checksum in zip(marks[0::3], marks[1::3], marks[2::3], strict=True):
        if stop > part.slots + 1 or part.crc32(start, stop) != checksum:
            raise _damaged(part.path, "another checksum", "the steps as they were synced")
    if known.side is not None and part.side is not None and part.side.crc32(known.side[0]) != known.side[1]:
        path = part.path.with_suffix(".side")
        raise _damaged(path, "another checksum", "the steps as they were synced")


def _damaged(path: Path, seen: str, needed: str) -> LogError:
    return LogError(
        f"journal/{path.parent.name}/{path.name} is damaged",
        seen=seen,
        needed=needed,
        fix="put the file back from a copy, or erase its rater",
    )
