"""Sealed sessions as frozen values and Arrow tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlhf_audit import schema
from rlhf_audit.errors import LogError, UsageError, near
from rlhf_audit.log import keys
from rlhf_audit.log.layout import checked_session_id
from rlhf_audit.log.store import Log
from rlhf_audit.types import Feedback, Kind, Observation, Transition


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode as recorded.

    Attributes:
        episode: Number within the session, from 0.
        steps: T transitions.
        final_observation: The observation T+1, ``(*obs_shape)``.
        behaviour_policy_sha256: Digest of the weights that acted first; None where it was redacted.
    """

    episode_id: str
    episode: int
    reset_seed: int
    steps: tuple[Transition, ...]
    final_observation: Observation
    behaviour_policy_sha256: str | None


@dataclass(frozen=True)
class RecordedSession:
    """One sealed session.

    Attributes:
        facts: The ledger entry's body.
        feedback: What the rater gave, in the order given; None when it was erased.
    """

    session_id: str
    facts: Mapping[str, Any]
    episodes: tuple[RecordedEpisode, ...]
    feedback: tuple[Feedback, ...] | None


def session_ids(log: Log) -> list[str]:
    """Return all sealed sessions in the ledger's order."""
    return [entry.body["session_id"] for entry in log.ledger.of("session")]


def session_facts(log: Log, session_id: str) -> Mapping[str, Any]:
    """Return what the ledger says of a session.

    Raises:
        UsageError: It holds no such session.
    """
    checked_session_id(session_id)
    for entry in log.ledger.of("session"):
        if entry.body["session_id"] == session_id:
            return entry.body
    raise UsageError(
        f"there is no session {session_id}",
        seen=near(session_id, session_ids(log)) or f"{len(session_ids(log))} sessions",
        needed="a session of this log",
        fix="rlhf-audit show LOG sessions",
    )


def session(log: Log, session_id: str) -> RecordedSession:
    """Read one sealed session.

    Raises:
        UsageError: There is none of that name.
        LogError: A file of it is missing or is not Parquet of this format.
    """
    facts = session_facts(log, session_id)
    episodes: tuple[RecordedEpisode, ...] = ()
    if facts["n_steps"]:
        episodes = tuple(_episodes(log, session_id, facts["env"]["env_id"]))
    path = log.layout.feedback_file(facts["rater_id"], session_id)
    rows: tuple[Feedback, ...] | None = ()
    if facts["n_feedback"]:
        rows = tuple(_feedback(path, log.layout.relative(path))) if path.exists() else None
    return RecordedSession(session_id, facts, episodes, rows)


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
    for entry in log.ledger.of("enrolled"):
        rater_id = entry.body["rater_id"]
        # The key is what an erasure destroys first.
        if log.layout.key_file(rater_id).exists():
            found[rater_id] = keys.read(log.layout, rater_id).alias
    return {rater_id: alias for rater_id, alias in found.items() if alias}


def read_parquet(log: Log, path: Path) -> pa.Table:
    """Read one sealed file.

    Raises:
        LogError: It is missing or is not Parquet.
    """
    return _read(path, log.layout.relative(path))


def check_file(path: Path, name: str) -> None:
    """Check that a sealed file can be read and holds the columns of its folder.

    Args:
        path: Where it is.
        name: What the ledger calls it.

    Raises:
        LogError: It can't, or holds others.
    """
    _checked(path, name, _SHAPES[name.partition("/")[0]])


def _feedback_shape(_table: pa.Table) -> pa.Schema:
    return schema.FEEDBACK


def _steps_shape(table: pa.Table) -> pa.Schema:
    return schema.steps(_type_of(table, "observation"))


def _episodes_shape(table: pa.Table) -> pa.Schema:
    return schema.episodes(_type_of(table, "final_observation"))


_SHAPES: Mapping[str, Callable[[pa.Table], pa.Schema]] = {
    "episodes": _episodes_shape,
    "steps": _steps_shape,
    "feedback": _feedback_shape,
}


def _type_of(table: pa.Table, name: str) -> pa.DataType:
    # The one column whose type the environment decides.
    number = table.schema.get_field_index(name)
    return table.schema.field(number).type if number >= 0 else pa.list_(pa.float32())


def _read(path: Path, name: str) -> pa.Table:
    try:
        if not path.is_file():
            # A pipe in its place would be waited for.
            raise _damaged(f"{name} is {'not a file' if path.exists() else 'missing'}", "no such file")
        # Not by `read_table`: that would read "rater_id=…" out of the folder's name into a column.
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(f"{name} can't be read", "no Parquet, or a damaged one") from error


def _damaged(what: str, seen: str) -> LogError:
    return LogError(
        what, seen=seen, needed="the sealed Parquet file as it was recorded", fix="rlhf-audit verify LOG"
    )


def _episodes(log: Log, session_id: str, env_id: str) -> Iterator[RecordedEpisode]:
    heads_path, steps_path = log.layout.episodes_file(session_id), log.layout.steps_file(env_id, session_id)
    heads_name, steps_name = log.layout.relative(heads_path), log.layout.relative(steps_path)
    heads = _checked(heads_path, heads_name, _episodes_shape)
    table = _checked(steps_path, steps_name, _steps_shape)
    observations = _matrix(table.column("observation"), steps_name)
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "observation"}
    finals = _matrix(heads.column("final_observation"), heads_name)
    lengths = heads.column("n_steps").to_pylist()
    if min(lengths, default=0) < 1 or sum(lengths) != table.num_rows:
        raise _damaged(
            f"{heads_name} and {steps_name} don't go together",
            f"episodes of {', '.join(map(str, lengths[:5])) or 'no'} steps, and {table.num_rows} steps",
        )
    start = 0
    for number, head in enumerate(heads.drop_columns(["final_observation"]).to_pylist()):
        stop = start + head["n_steps"]
        steps = tuple(
            Transition(
                columns["episode_id"][i],
                columns["step"][i],
                observations[i],
                columns["action"][i],
                columns["action_probability"][i],
                columns["env_reward"][i],
                columns["terminated"][i],
                columns["truncated"][i],
            )
            for i in range(start, stop)
        )
        yield RecordedEpisode(
            head["episode_id"],
            head["episode"],
            head["reset_seed"],
            steps,
            finals[number],
            head["behaviour_policy_sha256"],
        )
        start = stop


def _feedback(path: Path, name: str) -> Iterator[Feedback]:
    table = _checked(path, name, _feedback_shape)
    try:
        for row in table.to_pylist():
            row["kind"] = Kind(row["kind"])
            yield Feedback(**{name: row[name] for name in Feedback.__dataclass_fields__})
    except (ValueError, OverflowError) as error:
        raise _damaged(
            f"{name} holds a value that can't be", "a kind or a time that nobody writes"
        ) from error


def _checked(path: Path, name: str, shape: Callable[[pa.Table], pa.Schema]) -> pa.Table:
    """Read a sealed file and check its columns: their names, types, and that nothing is missing in them."""
    table = _read(path, name)
    needed = shape(table)
    # Types come back from Parquet without names of list items and without "not null".
    if table.schema.names != needed.names or table.schema.types != needed.types:
        raise _damaged(f"{name} has other columns than log format {schema.FORMAT_VERSION}", "other columns")
    for field in needed:
        if not field.nullable and table.column(field.name).null_count:
            raise _damaged(f"{name} lacks values in its column {field.name}", "rows without one")
    return table


def _matrix(column: pa.ChunkedArray, name: str) -> np.ndarray[Any, Any]:
    array = column.combine_chunks()
    kind = array.type
    listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    number = listed and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    lengths = set(pc.list_value_length(array).to_pylist()) if number else set()
    flat = array.flatten() if number else None
    if flat is None or flat.null_count or len(lengths) > 1 or lengths == {0}:
        raise _damaged(f"{name} holds observations that can't be", "not as many numbers in each")
    matrix: np.ndarray[Any, Any] = flat.to_numpy(zero_copy_only=False).reshape(
        len(array), -1 if len(array) else 0
    )
    return matrix
