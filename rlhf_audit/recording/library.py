"""What is recorded into: an open session, its grant, and what a rater says in it; a script's has a lock."""

import contextlib
import json
import logging
import operator
import os
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit.consent import register
from rlhf_audit.envs import EnvRecord
from rlhf_audit.errors import UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import Trajectory
from rlhf_audit.log.writer import SessionFacts, SessionWriter, recover
from rlhf_audit.seeds import child_seed
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.fixed import PlainSpace
from rlhf_audit.spaces.hashed import FULL, HASHED
from rlhf_audit.types import Feedback, Grant, Kind, Purpose

_LOGGER = logging.getLogger("rlhf_audit")
_SEEDS = range(-(2**63), 2**63)
_OPEN: "weakref.WeakSet[OpenSession]" = weakref.WeakSet()


class ConsentedWriter(SessionWriter):
    """Lets no answer through unless the session's own grant stood when it was given."""

    def __init__(self, log: Log, grant: Grant, facts: SessionFacts, purpose: Purpose | None) -> None:
        super().__init__(log, grant, facts)
        self.grant = grant
        self._purpose = purpose

    def check(self, as_of: datetime) -> None:
        """Raise a ConsentError if the grant does not stand at ``as_of``."""
        # Another process may have written a withdrawal since the last look.
        if self._log.ledger.changed_on_disk():
            self._log.ledger.load()
        register.grant_for(self._log, self.grant.rater_id, as_of, self._purpose, self.grant.grant_id)

    def feedback(self, row: Feedback) -> None:
        self.check(row.answered_at)
        super().feedback(row)


class OpenSession:
    """A session that recorders record into: its writer, and what a rater says in it.

    Args:
        log: Held for writing.
        grant: Under which.
        facts: What is known of it beforehand.
        purpose: What the grant must cover.
        held: Given back when the session is closed.
        watched: Somebody looks at the grant before each question; otherwise that is done before each episode.
    """

    def __init__(
        self,
        log: Log,
        grant: Grant,
        facts: SessionFacts,
        purpose: Purpose | None = None,
        held: contextlib.ExitStack | None = None,
        *,
        watched: bool = False,
    ) -> None:
        self.log, self.facts, self._watched = log, facts, watched
        self.writer = ConsentedWriter(log, grant, facts, purpose)
        self._held = held or contextlib.ExitStack()
        # Looked at before every episode: cheaper than to ask the ledger.
        self._entries = self._held.enter_context(log.layout.entries.open("rb"))
        self._seen = os.fstat(self._entries.fileno()).st_size
        self._position = self._episodes = 0
        self.closed = False
        _OPEN.add(self)

    def begin(
        self,
        stream: int,
        seed: int | None,
        options: str | None,
        observation: Any,
        policy_sha256: str | None = None,
    ) -> Trajectory:
        """Begin an episode; return where its steps go."""
        if not self._watched:
            self.permitted()
        number, self._episodes = self._episodes, self._episodes + 1
        trajectory = self.writer.stream(stream)
        trajectory.begin(number, seed, observation, options, policy_sha256)
        return trajectory

    def fresh_seed(self) -> int:
        """Return the seed of an episode that no other goes on to: the first, and one after a failure."""
        return child_seed(self.facts.seed, "reset", self._episodes) % 2**31

    def permitted(self) -> None:
        """Raise a ConsentError if the grant has ended: withdrawn, also by another process, or expired."""
        size = os.fstat(self._entries.fileno()).st_size
        now = self.log.clock.now()
        if size != self._seen or now >= self.writer.grant.expires_at:
            self.writer.check(now)
            self._seen = size

    def disown(self) -> None:
        """Record nothing any more: in a process that was forked off this is another one's session."""
        self.closed = True
        self.writer.disown()

    def rate(self, where: tuple[str, int] | None, value: float, latency_s: float) -> None:
        """Record an answer about the step before ``where``; it is on the disk when this returns."""
        if self.closed:
            raise ended()
        if where is None or where[1] == 0:
            raise UsageError(
                "there is no step to rate", seen="an episode without a step", needed="a step first"
            )
        if value not in (0, 1):
            raise UsageError("a rating is 0 or 1", seen=str(value)[:20], needed="1 for yes, 0 for no")
        if not 0 <= latency_s < float("inf"):
            raise UsageError("that is no latency", seen=str(latency_s)[:20], needed="seconds from 0")
        now = self.log.clock.now()
        row = Feedback(
            where[0],
            where[1] - 1,
            Kind.RATING,
            float(value),
            now,
            now,
            float(latency_s),
            self._position,
            grant_id=self.writer.grant.grant_id,
        )
        self.writer.feedback(row)
        self._position += 1

    def close(self) -> None:
        """Seal the session and give the log back; whoever forgets it, this is done at the script's end."""
        if not self.closed:
            self.closed = True
            with self._held:
                try:
                    self.writer.seal()
                finally:
                    # Not done where sealing was interrupted at once; the lock is given back after this.
                    self.writer.stop()


def by_a_script(
    log: Log | Path | str,
    rater_id: str,
    record: EnvRecord,
    seed: int,
    info: Sequence[str],
    observations: str,
) -> OpenSession:
    """Open the session of a script, which holds the log's lock until it is closed.

    Args:
        log: The log, or its folder.
        rater_id: Under whose grant.
        record: Which environment, or which all of a vector are.
        seed: Where the seeds come from that the script does not give.
        info: Keys of ``info`` that are kept.
        observations: ``full``, or ``hashed``.

    Raises:
        ConsentError: No grant of the rater stands.
        LockedError: The log is being written to.
        UsageError: An argument that can't be; nothing is written then.
    """
    log = log if isinstance(log, Log) else Log(Path(log))
    facts = SessionFacts(
        Kind.RATING.value,
        "library",
        json.loads(record.to_json()),
        _checked_seed(seed),
        1,
        None,
        None,
        None,
        {"episodes": None, "max_feedback": None},
        _checked_keys(info),
        observations,
    )
    # Where the steps will go: a name that can't be a folder's is refused before there are any.
    log.layout.steps_file(record.env_id, "s-0001")
    if observations not in (FULL, HASHED):
        raise UsageError(f"observations can't be kept as {observations!r}", needed=f"{FULL!r} or {HASHED!r}")
    with contextlib.ExitStack() as held:
        held.enter_context(log.writing())
        for name in recover(log):
            _LOGGER.warning("sealed session %s, which had been cut short", name)
        grant = register.grant_for(log, rater_id, log.clock.now(), None)
        return OpenSession(log, grant, facts, held=held.pop_all())
    raise AssertionError("an exit stack swallows nothing")


def ended() -> UsageError:
    """Return the error for a recorder that was closed, or that a forked process has a copy of."""
    return UsageError(
        "this recorder was closed, or is the copy that a forked process has",
        seen="no session of this process",
        needed="an open one",
        fix="make a new recorder",
    )


def _disown() -> None:
    for session in list(_OPEN):
        session.disown()


# Its parts are mapped, and its journal is open, in both: whoever was forked off must not touch them.
os.register_at_fork(after_in_child=_disown)


def checked_seed(seed: Any) -> int | None:
    """Return a seed as a whole number that a log can hold; None stays None."""
    return None if seed is None else _checked_seed(seed)


def written_options(options: Any) -> str | None:
    """Return the options of a reset as JSON.

    Raises:
        UsageError: They can't be written down.
    """
    if options is None:
        return None
    try:
        return json.dumps(options, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "the options of reset can't be written down",
            seen=type(options).__name__,
            needed="numbers, text, lists and mappings only",
        ) from error


def recordable(space: Space) -> Callable[[Any], Any] | None:
    """Return what makes of an action the very value that is recorded; None where nothing need be done.

    A script may give float64 where the space says float32: the environment would then act on digits that
    the log does not have, and a replay would come out otherwise.
    """
    if isinstance(space, PlainSpace):
        dtype = space.dtype
        if space.shape:
            return lambda action: np.asarray(action, dtype)
        return dtype.type if dtype.kind == "f" else None
    if space.parts is None:
        arrow = space.arrow
        return lambda action: space.value(pa.array([space.plain(action)], arrow)[0].as_py())
    parts = space.parts
    return lambda action: space.join(
        iter(
            [
                np.asarray(piece, part.dtype)[()]
                for part, piece in zip(parts, space.split(action), strict=True)
            ]
        )
    )


def _checked_seed(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise UsageError("that can't be a seed", seen=type(seed).__name__, needed="a whole number") from error
    if number not in _SEEDS:
        raise UsageError("that can't be a seed", seen=str(seed)[:40], needed="-2^63 to 2^63 - 1")
    return number


def _checked_keys(info: Sequence[str]) -> tuple[str, ...]:
    if isinstance(info, str) or not all(isinstance(key, str) for key in info):
        raise UsageError("info takes the keys that are kept", seen=repr(info)[:40], needed='info=["key"]')
    return tuple(info)
