"""From a filled part to two sealed tables: the steps that were made in it, the episodes that ended in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import canonical, schema
from rlhf_audit.errors import LogError
from rlhf_audit.log import durable
from rlhf_audit.log.part import END, KNOWN, TERMINATED, TRUNCATED, Part, staged_files
from rlhf_audit.spaces.base import Array, Space


@dataclass(frozen=True)
class Stretch:
    """What a part does not say of itself.

    Attributes:
        session_id: Whose steps these are.
        env: The environment's record, as JSON values.
        first_step: Number of the first slot's step within its episode.
        episodes: Slot at which each episode begins in this part, and its facts; one that began before, at 0.
    """

    session_id: str
    env: Mapping[str, Any]
    first_step: int
    episodes: Sequence[tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Tables:
    """What is sealed of one part; either may have no row."""

    steps: pa.Table
    episodes: pa.Table


def tables(part: Part, count: int, stretch: Stretch, *, last: bool) -> Tables:
    """Return the rows in the first ``count`` slots.

    Args:
        part: Whose slots.
        count: How many are filled.
        stretch: Where they belong.
        last: No part follows: an open episode ends here, with the observation after its last step.
    """
    side = part.side.rows() if part.side is not None else None
    starts = np.array([slot for slot, _ in stretch.episodes], np.int64)
    if count and (not len(starts) or starts[0] or (np.diff(starts) < 0).any()):
        raise LogError(
            "an open session is damaged: its episodes don't follow one another",
            seen="steps of no episode",
            needed="the session's events as they were recorded",
            fix="put the file back from a copy, or erase its rater",
        )
    # Where the first episode would have begun, had it begun here.
    begins = starts - np.where(np.arange(len(starts)) == 0, stretch.first_step, 0)
    slots = np.arange(count)
    # Of two episodes at one slot the last: an interrupt came before the first had begun.
    owner = np.searchsorted(starts, slots, side="right") - 1
    over = (part.flags[:count] & END) != 0
    ends = [(int(slot), int(owner[slot])) for slot in np.flatnonzero(over)]
    if last and len(starts) and (not ends or ends[-1][1] != len(starts) - 1):
        ends.append((count, len(starts) - 1))
    made = slots[~over]
    return Tables(
        _steps(part, made, owner[made], made - begins[owner[made]], stretch, side),
        _episodes(
            part,
            [
                (slot, slot - int(begins[n]), n)
                for slot, n in ends
                if slot > begins[n] or _gone_on_from(stretch, n, last)
            ],
            stretch,
            side,
        ),
    )


def _gone_on_from(stretch: Stretch, number: int, last: bool) -> bool:
    """Say whether a later episode may go on with the generators of this one.

    One without a step is kept then; otherwise it says nothing that the next one's seed does not.
    """
    following = stretch.episodes[number + 1 : number + 2]
    return following[0][1]["reset_seed"] is None if following else not last


def _steps(
    part: Part, slots: Array, owner: Array, numbers: Array, stretch: Stretch, side: pa.Table | None
) -> pa.Table:
    flags = part.flags[slots]
    ids = pa.array([facts["episode_id"] for _, facts in stretch.episodes], pa.string())
    known = (flags & KNOWN) != 0
    n = len(slots)
    columns = {
        "session_id": pa.repeat(stretch.session_id, n),
        "episode_id": ids.take(pa.array(owner)) if n else pa.array([], pa.string()),
        "step": pa.array(numbers),
        "observation": _values(part.shape.observation, part.observations, slots, side, "observation", 0),
        "action": _values(part.shape.action, part.actions, slots, side, "action", 1),
        "action_probability": pa.array(part.probabilities[slots], mask=~known),
        "env_reward": pa.array(part.env_rewards[slots]),
        "terminated": pa.array((flags & TERMINATED) != 0),
        "truncated": pa.array((flags & TRUNCATED) != 0),
        "info": _beside(side, slots + 1, "info") if part.shape.info else pa.nulls(n, pa.string()),
    }
    shape = schema.steps(part.shape.observation.arrow, part.shape.action.arrow)
    return pa.Table.from_arrays([columns[name] for name in shape.names], schema=shape)


def _episodes(
    part: Part, ends: Sequence[tuple[int, int, int]], stretch: Stretch, side: pa.Table | None
) -> pa.Table:
    """Return the rows of episodes that ended: at which slot, after how many steps, which of the stretch's."""
    heads = [stretch.episodes[number][1] for _, _, number in ends]
    shape = schema.episodes(part.shape.observation.arrow)
    same = {
        "session_id": stretch.session_id,
        "env_id": stretch.env["env_id"],
        "env_spec": canonical.json_bytes(stretch.env).decode(),
    }
    columns = {name: [same.get(name, head.get(name)) for head in heads] for name in shape.names}
    columns["n_steps"] = [length for _, length, _ in ends]
    slots = np.array([slot for slot, _, _ in ends], np.int64)
    finals = _values(part.shape.observation, part.observations, slots, side, "observation", 0)
    arrays = [
        finals if name == "final_observation" else pa.array(columns[name], shape.field(name).type)
        for name in shape.names
    ]
    return pa.Table.from_arrays(arrays, schema=shape)


def _values(
    space: Space, columns: Sequence[Array], slots: Array, side: pa.Table | None, name: str, later: int
) -> pa.Array:
    if space.parts is None:
        return _beside(side, slots + later, name)
    whole = len(slots) and int(slots[-1]) - int(slots[0]) + 1 == len(slots)
    # One unbroken run needs no copy.
    rows = slice(int(slots[0]), int(slots[-1]) + 1) if whole else slots
    return space.column(iter([column[rows] for column in columns]))


def _beside(side: pa.Table | None, slots: Array, name: str) -> pa.Array:
    if side is None or (len(slots) and int(slots[-1]) >= side.num_rows):
        raise LogError(
            "an open session is damaged: less stands in its side stream than in its steps",
            seen=f"{side.num_rows if side is not None else 0} rows",
            needed=f"{int(slots[-1]) + 1 if len(slots) else 0} rows",
            fix="put the file back from a copy, or erase its rater",
        )
    return side.column(name).combine_chunks().take(pa.array(slots))


def seal_part(part: Part, count: int, stretch: Stretch, *, last: bool) -> dict[str, str]:
    """Write a part's sealed files beside it and return their digests; may be done again after a crash."""
    steps_file, episodes_file = staged_files(part.path)
    made = tables(part, count, stretch, last=last)
    # The steps last: where they are, the part is sealed.
    for path, table in ((episodes_file, made.episodes), (steps_file, made.steps)):
        write(path, table, **trajectory_options(table))
    files = {"episodes_sha256": episodes_file, "steps_sha256": steps_file}
    return {name: canonical.file_sha256(path) for name, path in files.items()}


def write(path: Path, table: pa.Table, **options: Any) -> None:
    """Write one sealed file, atomically.

    Args:
        path: Where to.
        table: What.
        options: Of ``pyarrow.parquet.write_table``.
    """
    durable.make_folder(path.parent)
    with durable.replacing(path) as temporary:
        pq.write_table(table, temporary, **options)


def trajectory_options(table: pa.Table) -> dict[str, Any]:
    """Return how a table of ``steps/`` or ``episodes/`` is written: no person stands in it, so small is best.

    What repeats goes into dictionaries, the bytes of floats are put plane by plane, counters by difference.
    """
    leaves = {path: kind for field in table.schema for path, kind in _leaves(field.name, field.type)}
    raw = any(pa.types.is_large_binary(kind) for kind in leaves.values())
    encodings = {
        path: encoding for path, kind in leaves.items() if (encoding := _encoding(path, kind)) is not None
    }
    return {
        "compression": "zstd",
        # Images: a higher level takes longer and gains nothing.
        "compression_level": 1 if raw else 5,
        "use_dictionary": [path for path in leaves if path not in encodings and not _is_raw(leaves[path])],
        "column_encoding": encodings,
        "row_group_size": 256 if raw else 1 << 18,
    }


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [(path, kind)]


def _encoding(path: str, kind: pa.DataType) -> str | None:
    if path in ("step", "reset_seed", "n_steps", "episode"):
        return "DELTA_BINARY_PACKED"
    if pa.types.is_floating(kind) and path != "env_reward":
        return "BYTE_STREAM_SPLIT"
    return "RLE" if pa.types.is_boolean(kind) else None


def _is_raw(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(kind) or pa.types.is_null(kind))
