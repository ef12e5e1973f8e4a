"""The steps of an open session: stored where a kill can't reach them, sealed part by part as the parts fill.

The loop that acts only stores. A thread beside it seals parts that are full, and has the next one ready
before it is needed.

Ctrl-C may come anywhere. What takes effect together is therefore stored by one statement without a call in
it, since Python looks for signals at calls and loops only; what comes before may be done again.
"""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

from rlhf_audit.errors import LogError
from rlhf_audit.log import sealing
from rlhf_audit.log.part import (
    END,
    KNOWN,
    TERMINATED,
    TRUNCATED,
    Part,
    PartShape,
    boot,
    let_go,
    part_file,
)

_FIRST_SLOTS = 4096
"""The first part is small: a short session takes little room and starts at once."""

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


@dataclass
class _Open:
    """A part that is not sealed yet.

    Attributes:
        number: From 0.
        first_step: Number, within its episode, of the step from the first slot.
        episodes: Where each episode begins, and its facts; one that began before, at 0.
        marked: How many slots are on the disk, and said to be.
    """

    number: int
    part: Part
    first_step: int
    episodes: list[tuple[int, Mapping[str, Any]]]
    marked: int = 0

    def mark(self, stream: int) -> Mark | None:
        """Bring its steps to the disk; None when none came since the last mark that was noted."""
        part, start, count = self.part, self.marked, int(self.part.count[0])
        if count == start:
            return None
        side = None if part.side is None else part.side.summed()
        part.sync()
        where = {"stream": stream, "part": self.number, "from": start, "slots": count}
        return {**where, "crc32": part.crc32(start, count), "side": side}


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

    def __init__(self, folder: Path, put: Put, beside: Executor, kind: TrajectoryKind) -> None:
        self._folder, self._put, self._beside, self._kind = folder, put, beside, kind
        self._shape = kind.shape
        self._episode: Mapping[str, Any] | None = None
        self._next: Future[Part] | None
        self._sealing: Future[None] | None = None
        self._sync = threading.Lock()
        self._closed = False
        self._i = self._start = 0
        first = Part(part_file(folder, kind.stream, 0), self._shape, min(self._shape.slots, _FIRST_SLOTS))
        self._current: _Open
        self._unsealed: tuple[_Open, ...] = ()
        self._go_on_in(self._opened(0, first))
        plain = self._shape.observation.one_array and self._shape.action.one_array and not self._shape.info
        self.append = self._append_plain if plain else self._append_any

    @property
    def position(self) -> tuple[str, int] | None:
        return None if self._episode is None else (self._episode["episode_id"], self._i - self._start)

    def begin(self, facts: Mapping[str, Any], observation: Any) -> None:
        """Begin an episode; one that is open ends with its last observation."""
        self.end()
        if self._i >= self._limit:
            self._at_limit()
        current, i = self._current, self._i
        where = {"stream": self._kind.stream, "part": current.number, "slot": i}
        current.part.observe(i, observation)
        current.part.beside(i, observation, acted=False)
        # Of two that begin at one slot the second counts: the first was interrupted here.
        self._put({"event": "episode", **where, "facts": facts})
        current.episodes.append((i, facts))
        self._episode, self._start = facts, i

    def end(self) -> None:
        """End the open episode, if one is."""
        if self._episode is not None:
            # A full part has room for this: it is the next step that needs another one.
            after = self._i + 1
            self._flags[self._i], self._episode, self._i, self._count[0] = END, None, after, after

    def marks(self) -> Sequence[Mark]:
        """Bring every step to the disk; return what says how far, since the last marks that were noted.

        Raises:
            OSError: The disk refused.
        """
        with self._sync:
            found = (one.mark(self._kind.stream) for one in self._unsealed)
            return [mark for mark in found if mark is not None]

    def noted(self, marks: Sequence[Mark]) -> None:
        """Take to heart that these marks are on the disk."""
        with self._sync:
            for one in self._unsealed:
                mine = (m for m in marks if (m["stream"], m["part"]) == (self._kind.stream, one.number))
                one.marked = max((mark["slots"] for mark in mine), default=one.marked)

    def close(self) -> None:
        """End the episode and seal what is left. May be called again.

        Raises:
            OSError: The disk refused; what is stored stays, for the next opening of the log to seal.
        """
        if self._closed:
            return
        self.end()
        if self._sealing is not None:
            # What it failed at is tried again here.
            concurrent.futures.wait([self._sealing])
        if self._next is not None:
            concurrent.futures.wait([self._next])
            if self._next.exception() is None:
                part = self._next.result()
                part.close()
                let_go(part.path, private=False)
            self._next = None
        for one in self._unsealed:
            self._seal(one, last=one is self._current)
        self._limit, self._closed = -1, True
        # What is mapped goes with its last array.
        nothing: Any = memoryview(b"")
        self._env_rewards = self._flags = self._count = self._probabilities = nothing
        self._observations = self._actions = nothing
        del self._current

    def _go_on_in(self, opened: _Open) -> None:
        """Store in another part from now on."""
        part = opened.part
        observations = part.observations[0] if part.observations else part.flags
        one_number = part.actions and part.actions[0].ndim == 1 and part.actions[0].dtype.kind == "i"
        actions: Any = part.actions[0] if part.actions else part.flags
        # A number is stored faster through a memoryview than through an array.
        actions = actions.data if one_number else actions
        views = part.env_rewards.data, part.flags.data, part.count.data
        unsealed = (*self._unsealed, opened)
        # Half-way the next part is made ready.
        limit, start = part.slots // 2, self._start - self._i
        (
            self._env_rewards,
            self._flags,
            self._count,
            self._observations,
            self._actions,
            self._probabilities,
            self._current,
            self._unsealed,
            self._limit,
            self._start,
            self._i,
            self._next,
        ) = (*views, observations, actions, part.probabilities, opened, unsealed, limit, start, 0, None)

    def _append_plain(
        self,
        action: Any,
        observation: Any,
        env_reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        probability: float | None = None,
        info: str | None = None,  # noqa: ARG002
    ) -> None:
        i = self._i
        if i >= self._limit:
            self._at_limit()
            i = self._i
        self._actions[i] = action
        self._env_rewards[i] = env_reward
        if terminated or truncated or probability is not None:
            self._flag(i, terminated, truncated, probability)
        else:
            self._flags[i] = 0
        after = i + 1
        self._observations[after] = observation
        self._count[0] = self._i = after

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
        self._env_rewards[i] = float(env_reward)
        self._flag(i, terminated, truncated, probability)
        after = i + 1
        part.observe(after, observation)
        part.beside(after, observation, action, info, acted=True)
        self._count[0] = self._i = after

    def _flag(self, i: int, terminated: bool, truncated: bool, probability: float | None) -> None:
        flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
        if probability is not None:
            self._probabilities[i] = probability
            flags |= KNOWN
        self._flags[i] = flags

    def _at_limit(self) -> None:
        if self._closed:
            raise LogError(
                "the session is closed",
                seen=f"a step of {self._kind.session_id} after its end",
                needed="an open session",
                fix="record a new one",
            )
        if self._next is None:
            self._next = self._beside.submit(self._prepared, self._current.number + 1)
        if self._i < self._current.part.slots:
            self._limit = self._current.part.slots
        else:
            self._rotate(self._next)

    def _rotate(self, coming: Future[Part]) -> None:
        """Go on in the next part, at the very observation at which this one ends."""
        full, i = self._current, self._i
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            # One part at a time waits, so that memory stays bounded.
            sealing.result()
        try:
            part = coming.result()
        except OSError:
            # There may be room the next time.
            self._next = None
            raise
        if self._episode is not None:
            for column, before in zip(part.observations, full.part.observations, strict=True):
                column[0] = before[i]
            if part.side is not None and full.part.side is not None:
                part.side.go_on_from(full.part.side)
        opened = self._opened(full.number + 1, part)
        with self._sync:
            self._go_on_in(opened)
        self._sealing = self._beside.submit(self._seal_full)

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

    def _seal_full(self) -> None:
        for one in self._unsealed[:-1]:
            self._seal(one)

    def _seal(self, one: _Open, *, last: bool = False) -> None:
        begun = sealing.Stretch(self._kind.session_id, self._kind.env, one.first_step, one.episodes)
        digests = sealing.seal_part(one.part, int(one.part.count[0]), begun, last=last)
        if not last:
            # An episode that goes on ends, after a power cut, with the first observation there.
            self._unsealed[self._unsealed.index(one) + 1].part.sync()
        # Before the part goes: from now on this says what its files must be. Without room they count too.
        with contextlib.suppress(OSError):
            event = {"event": "sealed", "stream": self._kind.stream, "part": one.number, **digests}
            self._put(event, sync=True)
        with self._sync:
            # Nobody syncs it any more.
            self._unsealed = tuple(other for other in self._unsealed if other is not one)
            one.part.close()
        let_go(one.part.path, self._kind.private)
