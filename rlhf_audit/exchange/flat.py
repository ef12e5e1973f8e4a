"""The flat table: one row a step and piece of feedback about it; a step without any has one row."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlhf_audit.exchange.base import FEEDBACK, Trajectories, column, field
from rlhf_audit.log import sealing

Options = dict[str, Any]


def steps(one: Trajectories) -> pa.Table:
    """Return the steps: a row each, with the final observation beside an episode's last."""
    tables = [_episode(one, session_id, episode) for session_id, episode in one.episodes]
    return pa.concat_tables(tables).combine_chunks()


def table(one: Trajectories) -> pa.Table:
    """Return the steps joined with their feedback, in the order of the ledger."""
    made = steps(one)
    where = {
        key: number
        for number, key in enumerate(
            zip(made.column("episode_id").to_pylist(), made.column("step").to_pylist(), strict=True)
        )
    }
    rows = one.feedback
    about = zip(rows.column("episode_id").to_pylist(), rows.column("step").to_pylist(), strict=True)
    positions = np.array([where[key] for key in about], np.int64)
    by_step = np.argsort(positions, kind="stable")
    counts = (
        np.bincount(positions, minlength=made.num_rows) if len(positions) else np.zeros(made.num_rows, int)
    )
    lines = np.repeat(np.arange(made.num_rows), np.maximum(counts, 1))
    taken = np.full(len(lines), -1, np.int64)
    taken[np.repeat(counts > 0, np.maximum(counts, 1))] = by_step
    joined = made.take(pa.array(lines))
    picked = rows.take(pa.array(taken, mask=taken < 0))
    for name in FEEDBACK.names:
        joined = joined.append_column(FEEDBACK.field(name), picked.column(name))
    return joined.replace_schema_metadata({"rlhf_audit.env": one.env.to_json()})


def _episode(one: Trajectories, session_id: str, episode: Any) -> pa.Table:
    columns = episode.columns
    n = len(columns)
    probabilities = np.asarray(columns.action_probabilities)
    ended = column(one.observation, [episode.final_observation])
    last = pa.array([None] * (n - 1) + [0], pa.int64())
    fields = {
        pa.field("session_id", pa.string(), nullable=False): pa.repeat(session_id, n),
        pa.field("episode_id", pa.string(), nullable=False): columns.episode_ids,
        pa.field("episode", pa.int64(), nullable=False): _repeat(episode.episode, n, pa.int64()),
        pa.field("stream", pa.int64(), nullable=False): _repeat(episode.stream, n, pa.int64()),
        pa.field("reset_seed", pa.int64()): _repeat(episode.reset_seed, n, pa.int64()),
        pa.field("reset_options", pa.string()): _repeat(episode.reset_options, n, pa.string()),
        pa.field("step", pa.int64(), nullable=False): pa.array(columns.numbers, pa.int64()),
        field("observation", one.observation): column(one.observation, columns.observations),
        field("action", one.action): column(one.action, columns.actions),
        pa.field("action_probability", pa.float32()): pa.array(probabilities, mask=np.isnan(probabilities)),
        pa.field("env_reward", pa.float64(), nullable=False): pa.array(columns.env_rewards),
        pa.field("terminated", pa.bool_(), nullable=False): pa.array(columns.terminated),
        pa.field("truncated", pa.bool_(), nullable=False): pa.array(columns.truncated),
        pa.field("info", pa.string()): columns.info,
        field("final_observation", one.observation, nullable=True): ended.take(last),
    }
    return pa.Table.from_arrays(list(fields.values()), schema=pa.schema(list(fields)))


def _repeat(value: Any, n: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(n, kind) if value is None else pa.repeat(pa.scalar(value, kind), n)


def parquet(made: pa.Table) -> bytes:
    """Return a table as Parquet."""
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(made, sink, **sealing.trajectory_options(made.schema))
    return bytes(sink.getvalue())


def distinct_steps(made: pa.Table) -> pa.Table:
    """Return the first row of each step of a flat table that somebody else may have written."""
    keys = pa.StructArray.from_arrays(
        [made.column("episode_id").combine_chunks(), made.column("step").combine_chunks()],
        ["episode", "step"],
    )
    seen: set[tuple[Any, Any]] = set()
    first = []
    for number, key in enumerate(keys.to_pylist()):
        if (pair := (key["episode"], key["step"])) not in seen:
            seen.add(pair)
            first.append(number)
    return pc.take(made, pa.array(first, pa.int64()))
