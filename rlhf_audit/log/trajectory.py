"""The steps of an open session: stored where a kill can't reach them, sealed part by part as the parts fill.

The loop that acts only stores. A thread beside it seals parts that are full, and has the next one ready
before it is needed.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

from rlhf_audit.errors import LogError
from rlhf_audit.log import durable, sealing
from rlhf_audit.log.part import END, KNOWN, TERMINATED, TRUNCATED, Part, PartShape, boot

_FIRST_SLOTS = 4096
"""The first part is small: a short session takes little room and starts at once."""

Put = Callable[..., None]
"""``put(event, sync=False)`` appends an event to the journal."""


@dataclass
class _Open:
    """A part that is being filled.

    Attributes:
        number: From 0.
        first_step: Number, within its episode, of the step from the first slot.
        episodes: Where each episode begins, and its facts; one that began before, at 0.
        marked: How many slots were synced.
    """

    number: int
    part: Part
    first_step: int
    episodes: list[tuple[int, Mapping[str, Any]]]
    marked: int = 0


class Trajectory:
    """Stores the steps of one environment in a session.

    Args:
        folder: The session's journal.
        put: Appends an event to the journal.
        beside: Runs what must not hold up the loop, one thing after another.
        kind: What is stored, and whose it is.

    Attributes:
        append: Stores one step: ``append(action, observation after it, env_reward, terminated, truncated,
            probability, info)``. It is there when this returns, whatever happens to the process.
        position: Id of the open episode and number of its next step; None between episodes.
    """

    def __init__(self, folder: Path, put: Put, beside: Executor, kind: "TrajectoryKind") -> None:
        self._folder, self._put, self._beside, self._kind = folder, put, beside, kind
        self._shape = kind.shape
        self._i = 0
        self._start = 0
        self._episode: Mapping[str, Any] | None = None
        self._next: Future[Part] | None = None
        self._sealing: Future[None] | None = None
        self._syncing = threading.Lock()
        first = Part(part_file(folder, kind.stream, 0), self._shape, min(self._shape.slots, _FIRST_SLOTS))
        self._current = self._opened(0, first)
        plain = self._shape.observation.one_array and self._shape.action.one_array and not self._shape.info
        self.append = self._append_plain if plain else self._append_any
        self._bind()

    @property
    def position(self) -> tuple[str, int] | None:
        return None if self._episode is None else (self._episode["episode_id"], self._i - self._start)

    def begin(self, facts: Mapping[str, Any], observation: Any) -> None:
        """Begin an episode; one that is open ends with its last observation."""
        self.end()
        if self._i >= self._limit:
            self._at_limit()
        current = self._current
        where = {"stream": self._kind.stream, "part": current.number, "slot": self._i}
        self._put({"event": "episode", **where, "facts": facts})
        current.part.observe(self._i, observation)
        current.part.beside(observation, acted=False)
        self._episode, self._start = facts, self._i
        current.episodes.append((self._i, facts))

    def end(self) -> None:
        """End the open episode, if one is."""
        if self._episode is None:
            return
        # A full part has room for this: it is the next step that needs another one.
        self._current.part.flags[self._i] = END
        self._episode = None
        self._i += 1
        self._count[0] = self._i

    def mark(self) -> Mapping[str, Any] | None:
        """Bring every step to the disk; return what says how far, or None when none came since the last time.

        Raises:
            OSError: The disk refused, now or when an earlier part was sealed.
        """
        if self._sealing is not None:
            self._sealing.result()
        with self._syncing:
            current = self._current
            part, count = current.part, int(current.part.count[0])
            if count == current.marked:
                return None
            ended = None if part.side is None else [part.side.size, part.side.crc32]
            part.sync()
            start, current.marked = current.marked, count
            return {
                "stream": self._kind.stream,
                "part": current.number,
                "from": start,
                "slots": count,
                "crc32": part.crc32(start, count),
                "side": ended,
            }

    def close(self) -> None:
        """End the episode and seal what is left.

        Raises:
            OSError: The disk refused; what is stored stays, for the next opening of the log to seal.
        """
        self.end()
        if self._sealing is not None:
            self._sealing.result()
        self._seal(self._current, last=True)

    def _bind(self) -> None:
        part = self._current.part
        self._observations = part.observations[0] if part.observations else part.flags
        self._actions = part.actions[0] if part.actions else part.flags
        self._probabilities, self._env_rewards = part.probabilities, part.env_rewards
        self._flags, self._count = part.flags, part.count
        # Half-way the next part is made ready.
        self._limit = part.slots // 2

    def _append_plain(
        self,
        action: Any,
        observation: Any,
        env_reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        probability: float | None = None,
        info: str | None = None,
    ) -> None:
        del info
        if self._i >= self._limit:
            self._at_limit()
        i = self._i
        self._actions[i] = action
        self._env_rewards[i] = env_reward
        if terminated or truncated or probability is not None:
            self._flag(i, terminated, truncated, probability)
        i += 1
        self._observations[i] = observation
        self._i = i
        self._count[0] = i

    def _append_any(
        self,
        action: Any,
        observation: Any,
        env_reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        probability: float | None = None,
        info: str | None = None,
    ) -> None:
        if self._i >= self._limit:
            self._at_limit()
        i, part = self._i, self._current.part
        part.act(i, action)
        self._env_rewards[i] = env_reward
        self._flag(i, terminated, truncated, probability)
        part.observe(i + 1, observation)
        part.beside(observation, action, info, acted=True)
        self._i = i + 1
        self._count[0] = self._i

    def _flag(self, i: int, terminated: bool, truncated: bool, probability: float | None) -> None:
        flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
        if probability is not None:
            self._probabilities[i] = probability
            flags |= KNOWN
        self._flags[i] = flags

    def _at_limit(self) -> None:
        if self._i < self._current.part.slots:
            self._limit = self._current.part.slots
            self._next = self._beside.submit(self._prepared, self._current.number + 1)
        else:
            self._rotate()

    def _rotate(self) -> None:
        """Go on in the next part, at the very observation at which this one ends."""
        full, i = self._current, self._i
        part = self._prepared(full.number + 1) if self._next is None else self._next.result()
        self._next = None
        if self._sealing is not None:
            # One part at a time waits, so that memory stays bounded.
            self._sealing.result()
        if self._episode is not None:
            for column, before in zip(part.observations, full.part.observations, strict=True):
                column[0] = before[i]
            if part.side is not None and full.part.side is not None:
                part.side.go_on_from(full.part.side)
        opened = self._opened(full.number + 1, part)
        with self._syncing:
            self._current = opened
        self._i, self._start = 0, self._start - i
        self._bind()
        self._sealing = self._beside.submit(self._seal, full)

    def _opened(self, number: int, part: Part) -> _Open:
        step = 0 if self._episode is None else self._i - self._start
        body = {
            "stream": self._kind.stream,
            "part": number,
            "slots": part.slots,
            "boot": boot(),
            "step": step,
        }
        self._put({"event": "part", **body, "episode": self._episode})
        return _Open(number, part, step, [] if self._episode is None else [(0, self._episode)])

    def _prepared(self, number: int) -> Part:
        part = Part(part_file(self._folder, self._kind.stream, number), self._shape, self._shape.slots)
        part.touch()
        return part

    def _seal(self, full: _Open, *, last: bool = False) -> None:
        begun = sealing.Stretch(self._kind.session_id, self._kind.env, full.first_step, full.episodes)
        _seal_part(full.part, int(full.part.count[0]), begun, last=last, private=self._kind.private)


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


def part_file(folder: Path, stream: int, number: int) -> Path:
    """Return where a part is stored."""
    return folder / f"part-{stream:04d}-{number:05d}"


def staged_files(path: Path) -> tuple[Path, Path]:
    """Return where the sealed steps and episodes of a part wait for their session's end."""
    return path.with_name(f"{path.name}.steps.parquet"), path.with_name(f"{path.name}.episodes.parquet")


def _seal_part(part: Part, count: int, stretch: sealing.Stretch, *, last: bool, private: bool) -> None:
    """Write a part's sealed files beside it, then let it go; may be done again after a crash."""
    steps_file, episodes_file = staged_files(part.path)
    made = sealing.tables(part, count, stretch, last=last)
    # The steps last: where they are, the part is sealed.
    for path, table in ((episodes_file, made.episodes), (steps_file, made.steps)):
        sealing.write(path, table, **sealing.trajectory_options(table))
    part.close()
    _let_go(part.path, private)


def _let_go(path: Path, private: bool) -> None:
    for file in (path, path.with_suffix(".side")):
        if private:
            durable.destroy(file)
        else:
            file.unlink(missing_ok=True)


@dataclass
class _Found:
    """What the journal says of a part."""

    slots: int
    boot: str
    first_step: int
    episodes: list[tuple[int, Mapping[str, Any]]]
    marks: list[Mapping[str, Any]] = field(default_factory=list)


def finish(
    folder: Path, events: Iterable[Mapping[str, Any]], kind: TrajectoryKind, moved: Collection[int] = ()
) -> None:
    """Seal what a crash left of a trajectory's parts.

    Args:
        folder: Where they are.
        events: The session's, in order.
        kind: As when it was stored.
        moved: Parts whose sealed files have been moved away already.

    Raises:
        LogError: A part is not as it was synced.
    """
    found = _found(events, kind.stream)
    for number, known in enumerate(found):
        path = part_file(folder, kind.stream, number)
        if number in moved or staged_files(path)[0].exists():
            _let_go(path, kind.private)
            continue
        if not path.is_file():
            raise _damaged(path, "no such file", "a part of the session")
        part = Part(path, kind.shape, known.slots)
        last = number == len(found) - 1
        count = _count(part, known, last)
        # A power cut may have left an episode's beginning without its first step.
        begun = [(slot, facts) for slot, facts in known.episodes if slot <= count]
        stretch = sealing.Stretch(kind.session_id, kind.env, known.first_step, begun)
        _seal_part(part, count, stretch, last=last, private=kind.private)


def _found(events: Iterable[Mapping[str, Any]], stream: int) -> list[_Found]:
    found: list[_Found] = []
    for event in events:
        if event.get("stream") == stream and event["event"] == "part":
            begun = [] if event["episode"] is None else [(0, event["episode"])]
            found.append(_Found(event["slots"], event["boot"], event["step"], begun))
        elif event.get("stream") == stream and event["event"] == "episode":
            found[event["part"]].episodes.append((event["slot"], event["facts"]))
        for mark in event.get("marks", ()):
            if mark["stream"] == stream:
                found[mark["part"]].marks.append(mark)
    return found


def _count(part: Part, known: _Found, last: bool) -> int:
    """Return how many slots of a part can be relied upon."""
    synced = max((mark["slots"] for mark in known.marks), default=0)
    count = int(part.count[0]) if known.boot and known.boot == boot() else synced
    least, most = (synced if last else part.slots), part.slots + 1
    if not least <= count <= most:
        raise _damaged(part.path, f"{count} slots", f"{least} to {most}")
    for mark in known.marks:
        if part.crc32(mark["from"], mark["slots"]) != mark["crc32"]:
            raise _damaged(part.path, "another checksum", "the steps as they were synced")
    return count


def _damaged(path: Path, seen: str, needed: str) -> LogError:
    return LogError(
        f"journal/{path.parent.name}/{path.name} is damaged",
        seen=seen,
        needed=needed,
        fix="put the file back from a copy, or erase its rater",
    )
