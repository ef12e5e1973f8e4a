"""Sealed sessions as frozen values and Arrow tables."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import pyarrow as pa

from rlhf_audit import schema
from rlhf_audit.errors import UsageError, near
from rlhf_audit.log import keys, recorded, sealed
from rlhf_audit.log.layout import EPISODES, FEEDBACK, STEPS, Layout, checked_session_id, folder_of
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.log.store import Log
from rlhf_audit.types import Feedback, Kind


@dataclass(frozen=True)
class Episodes(Sequence[RecordedEpisode]):
    """The episodes of a session, read anew each time: one is in memory while it is looked at."""

    log: Log = field(repr=False)
    facts: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.facts["n_episodes"]) if self.facts["n_steps"] else 0

    def __iter__(self) -> Iterator[RecordedEpisode]:
        return recorded.episodes(self.log, self.facts) if len(self) else iter(())

    @overload
    def __getitem__(self, index: int) -> RecordedEpisode: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RecordedEpisode]: ...
    def __getitem__(self, index: int | slice) -> RecordedEpisode | Sequence[RecordedEpisode]:
        if isinstance(index, slice):
            return tuple(self)[index]
        number = range(len(self))[index]
        return next(itertools.islice(self, number, None))


@dataclass(frozen=True)
class RecordedSession:
    """One sealed session; what it holds is read when it is asked for.

    Attributes:
        facts: The ledger entry's body.
    """

    session_id: str
    facts: Mapping[str, Any]
    log: Log = field(repr=False)

    @property
    def episodes(self) -> Episodes:
        """In order of streams and then of time.

        Raises:
            LogError: A file is missing or is not Parquet of this format.
        """
        return Episodes(self.log, self.facts)

    @cached_property
    def feedback(self) -> tuple[Feedback, ...] | None:
        """What the rater gave, in the order given; None when it was erased.

        Raises:
            LogError: The file is not Parquet of this format.
        """
        if not self.facts["n_feedback"]:
            return ()
        here = _has_feedback(self.log, self.session_id)
        return tuple(_feedback(self.log, self.session_id)) if here else None


def session_ids(log: Log) -> list[str]:
    """Return all sealed sessions in the ledger's order."""
    return list(log.whereabouts.sessions)


def session_facts(log: Log, session_id: str) -> Mapping[str, Any]:
    """Return what the ledger says of a session.

    Raises:
        UsageError: It holds no such session.
    """
    checked_session_id(session_id)
    facts = log.whereabouts.sessions.get(session_id)
    if facts is not None:
        return facts
    raise UsageError(
        f"there is no session {session_id}",
        seen=near(session_id, session_ids(log)) or f"{len(session_ids(log))} sessions",
        needed="a session of this log",
        fix="rlhf-audit show LOG sessions",
    )


def session(log: Log, session_id: str) -> RecordedSession:
    """Return one sealed session.

    Raises:
        UsageError: There is none of that name.
    """
    return RecordedSession(session_id, session_facts(log, session_id), log)


def undos(rows: Iterable[tuple[str, int | None]]) -> set[int]:
    """Return the numbers of the rows that take an answer back.

    An undo and a skip look alike in the file. A skip that supersedes a row takes it back; unless that row is
    itself an undo: then it is the answer to the question that was asked again.

    Args:
        rows: ``(kind, supersedes)`` of every row of one session, in the order given.

    >>> sorted(undos([("rating", None), ("skip", 0), ("skip", 1), ("skip", None)]))
    [1]
    """
    found: set[int] = set()
    for number, (kind, supersedes) in enumerate(rows):
        if kind == Kind.SKIP and supersedes is not None and supersedes not in found:
            found.add(number)
    return found


def aliases(log: Log) -> dict[str, str]:
    """Return what the operator calls the raters who are here, by pseudonym; without those who have none.

    Personal data:
        Aliases, straight from the raters' key files. For the operator's own eyes: no report, view or message
        may hold one.

    Raises:
        LogError: A key file is not as it was written.
    """
    found = {}
    going = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    for entry in log.ledger.of("enrolled"):
        rater_id = entry.body["rater_id"]
        # The key is what an erasure destroys first.
        if rater_id not in going and log.layout.key_file(rater_id).exists():
            found[rater_id] = keys.read(log.layout, rater_id).alias
    return {rater_id: alias for rater_id, alias in found.items() if alias}


def check_file(layout: Layout, name: str) -> None:
    """Check that a sealed file can be read and holds the columns of its folder.

    Args:
        layout: Of the log.
        name: What the ledger calls it.

    Raises:
        LogError: It can't, or holds others.
    """
    sealed.checked(layout, name, _SHAPES[folder_of(name)])


def _feedback_shape(_table: pa.Table) -> pa.Schema:
    return schema.FEEDBACK


def _steps_shape(table: pa.Table) -> pa.Schema:
    return schema.steps(_type_of(table, "observation"), _type_of(table, "action"))


def _episodes_shape(table: pa.Table) -> pa.Schema:
    return schema.episodes(_type_of(table, "final_observation"))


_SHAPES: Mapping[str, sealed.Shape] = {
    EPISODES: _episodes_shape,
    STEPS: _steps_shape,
    FEEDBACK: _feedback_shape,
}


def _type_of(table: pa.Table, name: str) -> pa.DataType:
    # A column whose type the environment decides.
    number = table.schema.get_field_index(name)
    return table.schema.field(number).type if number >= 0 else pa.list_(pa.float32())


def _has_feedback(log: Log, session_id: str) -> bool:
    """Say whether what was given in a session is there; it is not once its rater was erased."""
    while True:
        places = log.whereabouts.of_session(session_id, FEEDBACK)
        if all((log.layout.root / file.path).exists() for file, _ in places):
            return True
        if not log.refreshed():
            return False


def _feedback(log: Log, session_id: str) -> Iterator[Feedback]:
    for name, table in sealed.rows(log, session_id, FEEDBACK, _feedback_shape):
        try:
            for row in table.to_pylist():
                row["kind"] = Kind(row["kind"])
                yield Feedback(**{name: row[name] for name in Feedback.__dataclass_fields__})
        except (ValueError, OverflowError) as error:
            raise sealed.damaged(
                f"{name} holds a value that can't be", "a kind or a time that nobody writes"
            ) from error
