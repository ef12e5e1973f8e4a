"""Sealed sessions as frozen values and Arrow tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import schema
from rlhf_audit.errors import LogError, UsageError, near
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
        seen=near(session_id, session_ids(log)),
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
        rows = tuple(_feedback(read_parquet(log, path))) if path.exists() else None
    return RecordedSession(session_id, facts, episodes, rows)


def read_parquet(log: Log, path: Path) -> pa.Table:
    """Read one sealed file.

    Raises:
        LogError: It is missing or is not Parquet.
    """
    name = log.layout.relative(path)
    try:
        # Not by `read_table`: that would read "rater_id=…" out of the folder's name into a column.
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
        return table
    except FileNotFoundError as error:
        raise LogError(f"{name} is missing", fix="rlhf-audit verify LOG") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LogError(
            f"{name} can't be read", needed="a sealed Parquet file", fix="rlhf-audit verify LOG"
        ) from error


def _episodes(log: Log, session_id: str, env_id: str) -> Iterator[RecordedEpisode]:
    heads = read_parquet(log, log.layout.episodes_file(session_id))
    table = read_parquet(log, log.layout.steps_file(env_id, session_id))
    _check(heads, schema.episodes(heads.schema.field("final_observation").type), session_id)
    _check(table, schema.steps(table.schema.field("observation").type), session_id)
    observations = _matrix(table.column("observation"))
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "observation"}
    finals = _matrix(heads.column("final_observation"))
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
            for i in range(start, min(stop, len(observations)))
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


def _feedback(table: pa.Table) -> Iterator[Feedback]:
    _check(table, schema.FEEDBACK, "feedback")
    for row in table.to_pylist():
        row["kind"] = Kind(row["kind"])
        yield Feedback(**{name: row[name] for name in Feedback.__dataclass_fields__})


def _check(table: pa.Table, needed: pa.Schema, name: str) -> None:
    # Types come back from Parquet without names of list items and without "not null".
    types = [field.type if not pa.types.is_fixed_size_list(field.type) else None for field in table.schema]
    wanted = [field.type if not pa.types.is_fixed_size_list(field.type) else None for field in needed]
    if table.schema.names != needed.names or types != wanted:
        raise LogError(
            f"a file of {name} has other columns than log format {schema.FORMAT_VERSION}",
            fix="rlhf-audit verify LOG",
        )


def _matrix(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    array = column.combine_chunks()
    values = array.flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray[Any, Any] = values.reshape(len(array), -1 if len(array) else 0)
    return matrix
