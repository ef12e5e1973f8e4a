"""The episodes of a sealed session, read part by part: columns, and steps made from them when asked for."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa

from rlhf_audit import schema
from rlhf_audit.errors import DamagedError, LogError
from rlhf_audit.log import sealed
from rlhf_audit.log.layout import EPISODES, STEPS
from rlhf_audit.log.store import Log
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.hashed import observation_space
from rlhf_audit.types import Transition

AT_ONCE = 1 << 12
"""How many steps are made from columns at a time: one by one is slower, all together takes much memory."""

_HEAD = ("episode_id", "episode", "stream", "reset_seed", "reset_options", "behaviour_policy_sha256")


@dataclass(frozen=True)
class Columns:
    """Steps as columns, ``n`` of each.

    Attributes:
        episode_ids: Arrow array of text.
        numbers: ``(n,)`` int64, of each step within its episode.
        observations: ``(n, *obs_shape)``, or a list of ``n`` values of a space that is not one array; where
            a session keeps hashes, a list of ``n`` digests.
        actions: ``(n, *action_shape)``, or a list.
        action_probabilities: ``(n,)`` float32, NaN where unknown or redacted.
        env_rewards: ``(n,)`` float64.
        terminated: ``(n,)`` bool.
        truncated: ``(n,)`` bool.
        info: Arrow array of JSON texts of the chosen keys, or nulls.
    """

    episode_ids: Any
    numbers: Sequence[Any]
    observations: Sequence[Any]
    actions: Sequence[Any]
    action_probabilities: Sequence[Any]
    env_rewards: Sequence[Any]
    terminated: Sequence[Any]
    truncated: Sequence[Any]
    info: Any

    def __len__(self) -> int:
        return len(self.env_rewards)

    def cut(self, start: int, stop: int) -> "Columns":
        """Return some of the steps."""
        if start == 0 and stop >= len(self):
            return self
        return Columns(*[column[start:stop] for column in self._all()])

    def values(self) -> tuple[Sequence[Any], ...]:
        """Return the columns with the values that a ``Transition`` has, in its order."""
        probabilities = np.asarray(self.action_probabilities).tolist()
        return (
            self.episode_ids.to_pylist(),
            np.asarray(self.numbers).tolist(),
            self.observations,
            plain_numbers(self.actions),
            [None if math.isnan(chance) else chance for chance in probabilities],
            np.asarray(self.env_rewards).tolist(),
            np.asarray(self.terminated).tolist(),
            np.asarray(self.truncated).tolist(),
            self.info.to_pylist(),
        )

    def _all(self) -> tuple[Any, ...]:
        return (
            self.episode_ids,
            self.numbers,
            self.observations,
            self.actions,
            self.action_probabilities,
            self.env_rewards,
            self.terminated,
            self.truncated,
            self.info,
        )

    @classmethod
    def joined(cls, pieces: "Sequence[Columns]") -> "Columns":
        """Return several stretches as one."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(*(_joined(columns) for columns in zip(*(piece._all() for piece in pieces), strict=True)))


@dataclass(frozen=True)
class Steps(Sequence[Transition]):
    """The steps of one episode, each made when it is asked for."""

    columns: Columns

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Transition]:
        for start in range(0, len(self), AT_ONCE):
            yield from map(Transition, *self.columns.cut(start, start + AT_ONCE).values())

    @overload
    def __getitem__(self, index: int) -> Transition: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Transition]: ...
    def __getitem__(self, index: int | slice) -> Transition | Sequence[Transition]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return Transition(*next(zip(*self.columns.cut(number, number + 1).values(), strict=True)))


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode as recorded.

    Attributes:
        episode: Number within the session, from 0.
        stream: Which of the session's environments, from 0.
        reset_seed: None where the generators of the episode before, in the same stream, went on.
        reset_options: JSON of what else was passed to ``reset``.
        columns: T steps; none where a reset without a seed followed at once, which goes on from this one.
        final_observation: The observation T+1.
        behaviour_policy_sha256: Digest of the weights that acted first; None where unknown or redacted.
    """

    episode_id: str
    episode: int
    stream: int
    reset_seed: int | None
    reset_options: str | None
    columns: Columns
    final_observation: Any
    behaviour_policy_sha256: str | None

    @property
    def steps(self) -> Steps:
        """The T transitions."""
        return Steps(self.columns)


def columns(log: Log, facts: Mapping[str, Any]) -> Iterator[Columns]:
    """Yield a session's steps as columns, a row group at a time: the fastest way to all of them.

    Args:
        log: Where they are.
        facts: The ledger's of the session.

    Raises:
        LogError: A file is missing or damaged.
    """
    observation, action = observation_space(facts), reading.from_json(facts["env"]["action_space"])
    shape = schema.steps(observation.arrow, action.arrow)
    for name, table in sealed.rows(log, facts["session_id"], STEPS, lambda _: shape):
        yield _columns(table, name, observation, action)


def episodes(log: Log, facts: Mapping[str, Any]) -> Iterator[RecordedEpisode]:
    """Yield a session's episodes, in order of streams and then of time.

    In memory are the steps of one episode and no more than two row groups.

    Args:
        log: Where they are.
        facts: The ledger's of the session.

    Raises:
        LogError: A file is missing, damaged, or does not go with the others.
    """
    record, session_id = facts["env"], facts["session_id"]
    observation = observation_space(facts)
    action = reading.from_json(record["action_space"])
    heads = sealed.rows(log, session_id, EPISODES, lambda _: schema.episodes(observation.arrow))
    parts = columns(log, facts)
    waiting = _Waiting()
    name = EPISODES
    for name, ended in heads:
        finals = _read(observation, ended.column("final_observation"), name)
        for number, head in enumerate(ended.select([*_HEAD, "n_steps"]).to_pylist()):
            while len(waiting) < head["n_steps"]:
                part = next(parts, None)
                if part is None:
                    raise _apart(name, f"{head['n_steps']} steps in an episode, of which some are missing")
                waiting.put(part)
            if head["n_steps"] < 1:
                # Nothing but a reset, which the episode after it goes on from.
                taken = _columns(_empty(observation, action), name, observation, action)
            else:
                taken = waiting.take(head["n_steps"])
            yield RecordedEpisode(
                **{key: head[key] for key in _HEAD},
                columns=taken,
                final_observation=finals[number],
            )
    if len(waiting) or next(parts, None) is not None:
        raise _apart(name, "steps of no episode")


def plain_numbers(actions: Sequence[Any]) -> Sequence[Any]:
    """Return actions with Python's own whole numbers where each is one: what an environment is given."""
    if isinstance(actions, np.ndarray) and actions.ndim == 1 and actions.dtype.kind in "iu":
        numbers: list[int] = actions.tolist()
        return numbers
    return actions


def _empty(observation: Space, action: Space) -> pa.Table:
    return schema.steps(observation.arrow, action.arrow).empty_table()


def _columns(table: pa.Table, name: str, observation: Space, action: Space) -> Columns:
    probabilities = table.column("action_probability").combine_chunks().fill_null(np.nan)
    return Columns(
        table.column("episode_id").combine_chunks(),
        table.column("step").to_numpy(),
        _read(observation, table.column("observation"), name),
        _read(action, table.column("action"), name),
        probabilities.to_numpy(zero_copy_only=False),
        table.column("env_reward").to_numpy(),
        table.column("terminated").to_numpy(),
        table.column("truncated").to_numpy(),
        table.column("info").combine_chunks(),
    )


def _read(space: Space, column: pa.ChunkedArray, name: str) -> Sequence[Any]:
    try:
        return space.read(column)
    except (DamagedError, pa.ArrowException, ValueError, TypeError, KeyError, IndexError) as error:
        raise sealed.damaged(f"{name} holds values that can't be", "values of another space") from error


class _Waiting:
    """Steps that were read, until the episodes that they belong to are asked for."""

    def __init__(self) -> None:
        self._pieces: deque[Columns] = deque()
        self._start = self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, columns: Columns) -> None:
        """Take in the steps after those that are here."""
        self._pieces.append(columns)
        self._count += len(columns)

    def take(self, n: int) -> Columns:
        """Give away the first ``n`` steps, at least one."""
        self._count -= n
        taken = []
        while n:
            first = self._pieces[0]
            stop = min(self._start + n, len(first))
            taken.append(first.cut(self._start, stop))
            n -= stop - self._start
            self._start = stop
            if stop == len(first):
                self._pieces.popleft()
                self._start = 0
        return Columns.joined(taken)


def _joined(columns: Sequence[Any]) -> Any:
    if all(isinstance(column, pa.Array) for column in columns):
        return pa.concat_arrays(columns)
    if all(isinstance(column, np.ndarray) for column in columns):
        return np.concatenate(columns)
    return [value for column in columns for value in column]


def _apart(name: str, seen: str) -> LogError:
    return sealed.damaged(f"{name} and the session's steps don't go together", seen)
