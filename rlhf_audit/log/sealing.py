"""From a filled part to two sealed tables: the steps that were made in it, the episodes that ended in it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
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
from rlhf_audit.types import episode_id

Told = tuple[str | None, str | None]
"""What an episode's slots don't hold of it: ``reset_options`` and ``behaviour_policy_sha256``."""

_ROWS, _EPISODES, _FRAMES = (1 << 18) + (1 << 12), 1 << 14, 1 << 10
"""Most rows of a row group: of steps, of episodes, of steps that hold images."""
_PAGE = 8 << 20
_SOUGHT = ("session_id", "episode_id")


@dataclass(frozen=True)
class Stretch:
    """What a part does not say of itself.

    Attributes:
        session_id: Whose steps these are.
        env: The environment's record, as JSON values.
        stream: Which of the session's environments.
        told: Of those episodes that have it, by number.
    """

    session_id: str
    env: Mapping[str, Any]
    stream: int
    told: Mapping[int, Told]


@dataclass(frozen=True)
class _Begun:
    """The episodes that begin in a part, in order; one that began before, at 0.

    Attributes:
        slots: ``(n,)`` int64; of one that began before, where it would have begun, had it begun here.
        numbers: ``(n,)`` int64, within the session.
        seeds: ``(n,)`` int64.
        seedless: ``(n,)`` bool: the generators of the episode before went on.
    """

    slots: Array
    numbers: Array
    seeds: Array
    seedless: Array

    def __len__(self) -> int:
        return len(self.slots)

    def ids(self, session_id: str) -> pa.Array:
        """Return the episodes' ids."""
        return pa.array([episode_id(session_id, number) for number in self.numbers.tolist()], pa.string())


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
    begun = _begun(part, count)
    slots = np.arange(count)
    owner = np.searchsorted(begun.slots, slots, side="right") - 1
    over = (part.flags[:count] & END) != 0
    made, ends = slots[~over], slots[over]
    owners = owner[over]
    if last and len(begun) and (not len(ends) or owners[-1] != len(begun) - 1):
        ends, owners = np.append(ends, count), np.append(owners, len(begun) - 1)
    # One without a step is kept where a later one may go on with its generators; otherwise it says nothing
    # that the next one's seed does not.
    gone_on = np.append(begun.seedless[1:], not last)
    worth = (ends > begun.slots[owners]) | gone_on[owners]
    return Tables(
        _steps(part, made, owner[made], begun, stretch, side),
        _episodes(part, ends[worth], owners[worth], begun, stretch, side),
    )


def _begun(part: Part, count: int) -> _Begun:
    # A part that goes on with an episode says so before its first step.
    first_step = int(part.first_step[0])
    begins = part.begins[: max(count, int(first_step > 0))]
    slots = np.flatnonzero(begins)
    if count and (not len(slots) or slots[0]):
        raise LogError(
            "an open session is damaged: its episodes don't follow one another",
            seen="steps of no episode",
            needed="the session's events as they were recorded",
            fix="put the file back from a copy, or erase its rater",
        )
    values, seeds = begins[slots], part.seeds[slots]
    slots[:1] -= first_step
    return _Begun(slots, np.abs(values) - 1, seeds, values < 0)


def _steps(
    part: Part, slots: Array, owner: Array, begun: _Begun, stretch: Stretch, side: pa.Table | None
) -> pa.Table:
    flags = part.flags[slots]
    known = (flags & KNOWN) != 0
    n = len(slots)
    columns = {
        "session_id": pa.repeat(stretch.session_id, n),
        "episode_id": begun.ids(stretch.session_id).take(pa.array(owner)),
        "step": pa.array(slots - begun.slots[owner]),
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
    part: Part, slots: Array, owner: Array, begun: _Begun, stretch: Stretch, side: pa.Table | None
) -> pa.Table:
    """Return the rows of episodes that ended: each before which slot, and which of the stretch's it is."""
    numbers, n = begun.numbers[owner], len(slots)
    told = [stretch.told.get(number, (None, None)) for number in numbers.tolist()]
    columns = {
        "session_id": pa.repeat(stretch.session_id, n),
        "episode_id": begun.ids(stretch.session_id).take(pa.array(owner)),
        "episode": pa.array(numbers),
        "env_id": pa.repeat(stretch.env["env_id"], n),
        "env_spec": _same(canonical.json_bytes(stretch.env).decode(), n),
        "stream": pa.repeat(pa.scalar(stretch.stream, pa.int64()), n),
        "reset_seed": pa.array(begun.seeds[owner], mask=begun.seedless[owner]),
        "reset_options": pa.array([options for options, _ in told], pa.string()),
        "n_steps": pa.array(slots - begun.slots[owner]),
        "final_observation": _values(
            part.shape.observation, part.observations, slots, side, "observation", 0
        ),
        "behaviour_policy_sha256": pa.array([sha256 for _, sha256 in told], pa.string()),
    }
    shape = schema.episodes(part.shape.observation.arrow)
    return pa.table({name: columns[name] for name in shape.names})


def _same(text: str, n: int) -> pa.DictionaryArray:
    """Return a long text ``n`` times without its being there so often."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))


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


@dataclass(frozen=True)
class Filled:
    """A part to be sealed: its first ``count`` slots are filled."""

    part: Part
    count: int
    stretch: Stretch


def seal(parts: Sequence[Filled], *, last: bool) -> dict[str, str]:
    """Write the sealed files of parts that follow one another beside the first of them.

    May be done again after a crash.

    Args:
        parts: Which.
        last: No part follows: an open episode ends with them.

    Returns:
        Their digests.
    """
    made = [tables(one.part, one.count, one.stretch, last=last and one is parts[-1]) for one in parts]
    space = parts[0].part.shape
    steps_file, episodes_file = staged_files(parts[0].part.path)
    episodes = _telling(schema.episodes(space.observation.arrow), final_observation=space.observation)
    steps = schema.steps(space.observation.arrow, space.action.arrow)
    steps = _telling(steps, observation=space.observation, action=space.action)
    write(
        episodes_file,
        pa.concat_tables([one.episodes for one in made]),
        episodes,
        **trajectory_options(episodes),
    )
    ends = list(itertools.accumulate(one.steps.num_rows for one in made))

    def written(n_rows: int) -> None:
        # Many parts may be sealed together: not all of them stay in memory.
        for one, end in zip(parts, ends, strict=True):
            if end <= n_rows:
                one.part.rest()

    # The steps last: where they are, the parts are sealed.
    options = trajectory_options(steps)
    write(steps_file, pa.concat_tables([one.steps for one in made]), steps, written=written, **options)
    files = {"episodes_sha256": episodes_file, "steps_sha256": steps_file}
    return {name: canonical.file_sha256(path) for name, path in files.items()}


def _telling(shape: pa.Schema, **spaces: Space) -> pa.Schema:
    """Return a schema whose columns say of raw bytes what they are."""
    for name, space in spaces.items():
        if space.told:
            place = shape.get_field_index(name)
            shape = shape.set(place, shape.field(place).with_metadata(space.told))
    return shape


def write(
    path: Path,
    table: pa.Table,
    shape: pa.Schema,
    *,
    row_group_size: int = 1 << 20,
    written: Callable[[int], None] | None = None,
    **options: Any,
) -> None:
    """Write one sealed file, atomically.

    Args:
        path: Where to.
        table: What; a dictionary may stand for the values of a column.
        shape: The columns as they are written.
        row_group_size: Rows.
        written: Told after each row group how many rows are written.
        options: Of ``pyarrow.parquet.ParquetWriter``.
    """
    durable.make_folder(path.parent)
    with durable.replacing(path) as temporary, pq.ParquetWriter(temporary, shape, **options) as writer:
        for start in range(0, max(1, table.num_rows), row_group_size):
            writer.write_table(table.slice(start, row_group_size).cast(shape))
            if written is not None:
                written(start + row_group_size)


def trajectory_options(shape: pa.Schema) -> dict[str, Any]:
    """Return how a table of ``steps/`` or ``episodes/`` is written: no person stands in it, so small is best.

    What repeats goes into dictionaries, the bytes of floats are put plane by plane, counters by difference.
    """
    leaves = {path: kind for field in shape for path, kind in _leaves(field.name, field.type)}
    raw = any(pa.types.is_large_binary(kind) for kind in leaves.values())
    encodings = {
        path: encoding for path, kind in leaves.items() if (encoding := _encoding(path, kind)) is not None
    }
    return {
        "compression": "zstd",
        # Images: a higher level takes longer and gains nothing.
        "compression_level": 1 if raw else 12,
        "use_dictionary": [path for path in leaves if path not in encodings and not _is_raw(leaves[path])],
        "column_encoding": encodings,
        # By default a page ends after 20,000 rows, and byte planes are compressed page by page.
        "data_page_size": _PAGE,
        "max_rows_per_page": _ROWS,
        # Those of long texts would be written out twice.
        "write_statistics": [name for name in _SOUGHT if name in leaves],
        # The environment's record stands in every episode.
        "row_group_size": _FRAMES if raw else _EPISODES if "env_spec" in leaves else _ROWS,
    }


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [(path, kind)]


def _encoding(path: str, kind: pa.DataType) -> str | None:
    if path in ("reset_seed", "episode"):
        return "DELTA_BINARY_PACKED"
    if pa.types.is_floating(kind) or path in ("step", "n_steps"):
        return "BYTE_STREAM_SPLIT"
    return "PLAIN" if pa.types.is_boolean(kind) else None


def _is_raw(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(kind) or pa.types.is_null(kind))
