"""The flat table: one row a step and piece of feedback about it; a step without any has one row."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlhf_audit.exchange.base import FEEDBACK, Trajectories, column, column_field
from rlhf_audit.log import sealing
from rlhf_audit.log.recorded import RecordedEpisode

_BYTES = 16 << 20
"""About so much is made at a time."""


def tables(one: Trajectories) -> Iterator[pa.Table]:
    """Yield the steps joined with their feedback, in the order of the ledger, some episodes at a time."""
    waiting: list[pa.Table] = []
    names: list[str] = []
    size = 0
    for session_id, episode in one.episodes():
        if not len(episode.columns):
            # Nothing but a reset: there is no step to stand in a row.
            continue
        waiting.append(_episode(one, session_id, episode))
        names.append(episode.episode_id)
        size += waiting[-1].nbytes
        if size >= _BYTES:
            yield _joined(one, waiting, names)
            waiting, names, size = [], [], 0
    if waiting:
        yield _joined(one, waiting, names)


def _joined(one: Trajectories, episodes: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    made = pa.concat_tables(episodes).combine_chunks()
    ends = np.cumsum([table.num_rows for table in episodes])
    starts = dict(zip(names, ends - [table.num_rows for table in episodes], strict=True))
    places = [one.feedback_places[name] for name in names if name in one.feedback_places]
    # In the ledger's order, whatever the episodes' is.
    rows = one.feedback.take(pa.array(np.sort(np.concatenate([np.empty(0, np.int64), *places]))))
    begun = np.array([starts[name] for name in rows.column("episode_id").to_pylist()], np.int64)
    positions = begun + rows.column("step").to_numpy()
    by_step = np.argsort(positions, kind="stable")
    counts = np.bincount(positions, minlength=made.num_rows)
    lines = np.repeat(np.arange(made.num_rows), np.maximum(counts, 1))
    taken = np.full(len(lines), -1, np.int64)
    taken[np.repeat(counts > 0, np.maximum(counts, 1))] = by_step
    joined = made.take(pa.array(lines))
    picked = rows.take(pa.array(taken, mask=taken < 0))
    for name in FEEDBACK.names:
        joined = joined.append_column(FEEDBACK.field(name), picked.column(name))
    return joined.replace_schema_metadata({"rlhf_audit.env": one.env.to_json()})


def _episode(one: Trajectories, session_id: str, episode: RecordedEpisode) -> pa.Table:
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
        column_field("observation", one.observation): column(one.observation, columns.observations),
        column_field("action", one.action): column(one.action, columns.actions),
        pa.field("action_probability", pa.float32()): pa.array(probabilities, mask=np.isnan(probabilities)),
        pa.field("env_reward", pa.float64(), nullable=False): pa.array(columns.env_rewards),
        pa.field("terminated", pa.bool_(), nullable=False): pa.array(columns.terminated),
        pa.field("truncated", pa.bool_(), nullable=False): pa.array(columns.truncated),
        pa.field("info", pa.string()): columns.info,
        column_field("final_observation", one.observation, nullable=True): ended.take(last),
    }
    return pa.Table.from_arrays(list(fields.values()), schema=pa.schema(list(fields)))


def _repeat(value: Any, n: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(n, kind) if value is None else pa.repeat(pa.scalar(value, kind), n)


def parquet(one: Trajectories) -> bytes:
    """Return the flat table as Parquet."""
    sink = pa.BufferOutputStream()
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.Table] = []
    for made in tables(one):
        if writer is None:
            options = sealing.trajectory_options(made.schema)
            size = options.pop("row_group_size")
            writer = pq.ParquetWriter(sink, made.schema, **options)
        waiting.append(made)
        # Whole row groups, so that it makes no difference how much was made at a time.
        if sum(table.num_rows for table in waiting) >= size:
            table = pa.concat_tables(waiting).combine_chunks()
            rest = table.num_rows % size
            writer.write_table(table.slice(0, table.num_rows - rest), size)
            waiting = [table.slice(table.num_rows - rest)] if rest else []
    assert writer is not None
    if waiting:
        writer.write_table(pa.concat_tables(waiting).combine_chunks(), size)
    writer.close()
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
