"""The steps of an open session: stored where a kill can't reach them, sealed part by part as the parts fill.

The loop that acts only stores. A thread beside it seals parts that are full, and has the next one ready
before it is needed.

Ctrl-C may come anywhere. What takes effect together is therefore stored by one statement without a call in
it, since Python looks for signals at calls and loops only. A step that is interrupted before that ends its
episode, for nobody knows what the environment has done; so no slot is stored twice.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, SupportsFloat

from rlhf_audit.log import refusals
from rlhf_audit.log.part import END, KNOWN, TERMINATED, TRUNCATED, Part, boot, let_go
from rlhf_audit.log.unsealed import Mark, OpenPart, Put, TrajectoryKind, Unsealed
from rlhf_audit.types import episode_id

_FIRST_SLOTS = 4096
"""The first part is small: a short session takes little room and starts at once."""

StepResult = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]
"""What an environment's ``step`` returns."""


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
        self._put, self._beside, self._kind = put, beside, kind
        self._parts = Unsealed(folder, put, kind)
        self._episode: int | None = None
        self._next: Future[Part] | None
        self._sealing: Future[None] | None = None
        self._closed = False
        self._thread = threading.get_ident()
        self._i = self._start = 0
        self._flat: Any
        parts = kind.shape.observation.parts or ()
        self._width = parts[0].shape[0] if len(parts) == 1 and len(parts[0].shape) == 1 else 0
        self._begins: Any
        self._seeds: Any
        self._current: OpenPart
        self._announced = 0
        first = self._parts.made(0, min(kind.shape.slots, _FIRST_SLOTS))
        self._go_on_in(self._opened(0, first))
        space = kind.shape
        self._plain = space.observation.one_array and space.action.one_array and not space.info
        self.append = self._append_plain if self._plain else self._append_any

    @property
    def is_open(self) -> bool:
        """Whether an episode has begun, and no step of it failed."""
        return self._episode is not None

    @property
    def position(self) -> tuple[str, int] | None:
        if self._episode is None:
            return None
        return episode_id(self._kind.session_id, self._episode), self._i - self._start

    def begin(
        self,
        episode: int,
        reset_seed: int | None,
        observation: Any,
        reset_options: str | None = None,
        behaviour_policy_sha256: str | None = None,
    ) -> None:
        """Begin an episode; one that is open ends with its last observation.

        Raises:
            LogError: The session is closed.
            OSError: There is no room on the disk.
        """
        self.end()
        self._thread = threading.get_ident()
        limit = self._room()
        current, i = self._current, self._i
        self._see(i, observation)
        current.part.beside(i, observation, acted=False)
        if reset_options is not None or behaviour_policy_sha256 is not None:
            told = {"reset_options": reset_options, "behaviour_policy_sha256": behaviour_policy_sha256}
            self._put({"event": "episode", "stream": self._kind.stream, "episode": episode, **told})
            current.told[episode] = reset_options, behaviour_policy_sha256
        # One that was interrupted here is overwritten: no slot before the first step counts.
        self._seeds[i] = reset_seed or 0
        self._begins[i] = -(episode + 1) if reset_seed is None else episode + 1
        self._episode, self._start, self._limit = episode, i, limit

    def end(self) -> None:
        """End the open episode, if one is; no step is taken until the next begins."""
        if self._episode is not None:
            # A full part has room for this: it is the next step that needs another one.
            after = self._i + 1
            ended = END, -1, None, after, after
            self._flags[self._i], self._limit, self._episode, self._i, self._count[0] = ended

    def around(self, make_step: Callable[[Any], StepResult]) -> Callable[[Any], StepResult] | None:
        """Return an environment's ``step`` with ``append`` in it: a call less, a fifth of what a step costs.

        Whatever raises in it ends the episode. None where more is stored than an array and an action.
        """
        if not self._plain:
            return None
        width = self._width

        def step(action: Any) -> StepResult:
            try:
                result = make_step(action)
                observation, env_reward, terminated, truncated, _ = result
                i = self._i
                if i >= self._limit:
                    self._at_limit()
                    i = self._i
                self._actions[i] = action
                self._env_rewards[i] = env_reward
                if terminated or truncated:
                    self._flag(i, terminated, truncated, None)
                after = i + 1
                if width:
                    # Takes nothing but the very dtype and length.
                    try:
                        self._flat[after * width : after * width + width] = observation
                    except (ValueError, TypeError):
                        self._current.part.observe(after, observation)
                else:
                    self._current.part.observe(after, observation)
                self._count[0] = self._i = after
            except BaseException:
                self.end()
                raise
            return result

        return step

    def marks(self) -> Sequence[Mark]:
        """Bring every step to the disk; return what says how far, since the last marks that were noted.

        Raises:
            OSError: The disk refused.
        """
        return self._parts.marks()

    def noted(self, marks: Sequence[Mark]) -> None:
        """Take to heart that these marks are on the disk."""
        self._parts.noted(marks)

    def disown(self) -> None:
        """Store nothing any more, and leave what is stored as it is: it is another process's."""
        self._limit, self._closed, self._episode = -1, True, None

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
                # One that the journal names already is sealed by whatever seals the rest: as an empty one.
                if self._announced == self._current.number:
                    let_go(part.path, private=False)
            self._next = None
        self._parts.seal_all()
        self._limit, self._closed = -1, True
        # What is mapped goes with its last array.
        nothing: Any = memoryview(b"")
        self._env_rewards = self._flags = self._count = self._probabilities = nothing
        self._flat = self._actions = self._begins = self._seeds = nothing
        del self._current

    def _go_on_in(self, opened: OpenPart) -> None:
        """Store in another part from now on."""
        part = opened.part
        flat = part.observations[0].reshape(-1).data if self._width else None
        one_number = part.actions and part.actions[0].ndim == 1 and part.actions[0].dtype.kind == "i"
        actions: Any = part.actions[0] if part.actions else part.flags
        # A number is stored faster through a memoryview than through an array.
        actions = actions.data if one_number else actions
        views = tuple(
            view.data for view in (part.env_rewards, part.flags, part.count, part.begins, part.seeds)
        )
        unsealed = (*self._parts.unsealed, opened)
        begun, start = self._episode is not None, self._start - self._i
        # Half-way the next part is made ready.
        limit = part.slots // 2 if begun else -1
        step = -start if begun else 0
        now = (step, *views, flat, actions, part.probabilities, opened, unsealed, limit, start, 0, None)
        # First of all the part says itself that it goes on with an episode.
        (
            part.first_step[0],
            self._env_rewards,
            self._flags,
            self._count,
            self._begins,
            self._seeds,
            self._flat,
            self._actions,
            self._probabilities,
            self._current,
            self._parts.unsealed,
            self._limit,
            self._start,
            self._i,
            self._next,
        ) = now

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
        after = i + 1
        self._see(after, observation)
        self._count[0] = self._i = after

    def _see(self, slot: int, observation: Any) -> None:
        start = slot * self._width
        try:
            # Takes nothing but the very dtype and length; and where there is no such view, nothing.
            self._flat[start : start + self._width] = observation
        except (ValueError, TypeError):
            self._current.part.observe(slot, observation)

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
        if self._episode is None and not self._closed:
            raise refusals.not_begun()
        if threading.get_ident() != self._thread:
            raise refusals.another_thread()
        self._limit = self._room()

    def _room(self) -> int:
        """Make sure of room for a slot; return up to which there is, or before which to look again."""
        if self._closed:
            raise refusals.closed(self._kind.session_id)
        half = self._current.part.slots // 2
        if self._next is None and self._i >= half:
            self._next = self._beside.submit(self._parts.prepared, self._current.number + 1)
        if self._next is not None and self._i >= self._current.part.slots:
            self._rotate(self._next)
            half = self._current.part.slots // 2
        return half if self._next is None else self._current.part.slots

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
            begun = max(self._start, 0)
            part.begins[0], part.seeds[0] = full.part.begins[begun], full.part.seeds[begun]
        opened = self._opened(full.number + 1, part)
        with self._parts.syncing:
            self._go_on_in(opened)
        self._sealing = self._beside.submit(self._parts.seal_full)

    def _opened(self, number: int, part: Part) -> OpenPart:
        self._announced = number
        where = {"stream": self._kind.stream, "part": number}
        self._put({"event": "part", **where, "slots": part.slots, "boot": boot()})
        told = {} if self._episode is None else self._current.told
        return OpenPart(number, part, {one: told[one] for one in (self._episode,) if one in told})
