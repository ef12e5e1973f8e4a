"""CSV, one file an environment: the flat table with a column for every number.

A spreadsheet runs what begins with =, +, - or @. Text that does, and text that begins with an apostrophe,
gets an apostrophe in front, which reading takes away again. Numbers are numbers.
"""

import io
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from rlhf_audit import canonical, envs
from rlhf_audit.errors import UsageError
from rlhf_audit.exchange import flat
from rlhf_audit.exchange.base import (
    Export,
    Files,
    ImportedEpisode,
    Reading,
    damaged,
)
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.fixed import PlainSpace, RecordSpace

_DANGEROUS = r"^([=+\-@\t\r'])"
_PLAIN: Mapping[str, pa.DataType] = {
    "episode_id": pa.string(),
    "step": pa.int64(),
    "env_reward": pa.float64(),
    "terminated": pa.bool_(),
    "truncated": pa.bool_(),
}
_OPTIONAL: Mapping[str, pa.DataType] = {
    "stream": pa.int64(),
    "reset_seed": pa.int64(),
    "reset_options": pa.string(),
}


def write(export: Export) -> Files:
    """Yield ``<environment>.csv``."""
    spaces = ("observation", "action", "final_observation")
    for one in export.environments:
        kinds = dict(zip(spaces, (one.observation, one.action, one.observation), strict=True))
        sink = io.BytesIO()
        for number, made in enumerate(flat.tables(one)):
            columns: dict[str, pa.Array] = {}
            for name in made.column_names:
                whole = made.column(name).combine_chunks()
                columns |= dict(_spread(name, kinds[name], whole)) if name in kinds else {name: whole}
            cells = {_defused_name(name): _defused(values) for name, values in columns.items()}
            arrow_csv.write_csv(pa.table(cells), sink, arrow_csv.WriteOptions(include_header=number == 0))
        yield f"{one.name}.csv", sink.getvalue()


def read(path: Path, env_id: str | None) -> Reading:
    """Read one row a step, as ``write`` leaves them; feedback in it is not read.

    Needed are the columns episode_id, step, action, env_reward, terminated, truncated, observation and, in
    the last row of each episode, final_observation; a Box of shape (4,) is observation_0 to observation_3.

    Raises:
        UsageError: No environment was named, or the file does not hold its values.
    """
    if env_id is None:
        raise UsageError(
            "a CSV file does not say which environment it is of",
            seen="no --env",
            needed="--env ID",
            fix="rlhf-audit import LOG FILE --format csv --env CartPole-v1 --consent-reference TEXT",
        )
    env = envs.open_env(env_id)
    record = envs.describe(env)
    env.close()
    observation = reading.from_json(record.observation_space)
    action = reading.from_json(record.action_space)
    raw = canonical.read_file(path)
    table = _table(raw, observation, action)
    return Reading(
        record, tuple(_episodes(table, observation, action)), {path.name: canonical.sha256_hex(raw)}
    )


def _spread(name: str, space: Space, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Yield a column for every number of a space; JSON where they are not of one number, and for images."""
    if isinstance(space, RecordSpace):
        for position, (inner, member) in enumerate(space.named()):
            yield from _spread(f"{name}.{inner}", member, pc.struct_field(values, position))
    elif isinstance(space, PlainSpace) and not space.shape:
        yield name, values
    elif isinstance(space, PlainSpace) and not space.raw:
        for number in range(space.n_items):
            yield f"{name}_{number}", pc.list_element(values, number)
    else:
        told = [None if value is None else _json(value) for value in values.to_pylist()]
        yield name, pa.array(told, pa.string())


def _json(plain: Any) -> str:
    if isinstance(plain, str):
        return plain
    if isinstance(plain, bytes):
        return plain.hex()
    return canonical.json_bytes(_listed(plain)).decode()


def _listed(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        return {key: _listed(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_listed(value) for value in plain]
    return plain.hex() if isinstance(plain, bytes) else plain


def _defused(values: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type):
        return values
    return pc.replace_substring_regex(values, _DANGEROUS, r"'\1")


def _defused_name(name: str) -> str:
    return f"'{name}" if name[:1] in "=+-@\t\r'" else name


def _columns(name: str, space: Space) -> Iterator[tuple[str, pa.DataType]]:
    if isinstance(space, RecordSpace):
        for inner, member in space.named():
            yield from _columns(f"{name}.{inner}", member)
    elif isinstance(space, PlainSpace) and (not space.shape or not space.raw):
        kind = pa.from_numpy_dtype(space.dtype)
        yield from (
            [(name, kind)]
            if not space.shape
            else [(f"{name}_{number}", kind) for number in range(space.n_items)]
        )
    elif isinstance(space, PlainSpace) or pa.types.is_string(space.arrow):
        yield name, pa.string()
    else:
        raise damaged(
            f"the column {name} can't be imported from CSV",
            "a space whose values vary in size",
            "numbers, text, images, and records of them; Minari's format holds more",
        )


def _table(raw: bytes, observation: Space, action: Space) -> pa.Table:
    kinds = dict(_PLAIN) | dict(_columns("observation", observation)) | dict(_columns("action", action))
    kinds |= dict(_columns("final_observation", observation))
    options = arrow_csv.ConvertOptions(
        column_types={**kinds, **_OPTIONAL},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["true", "True", "TRUE", "1"],
        false_values=["false", "False", "FALSE", "0"],
    )
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    try:
        table = arrow_csv.read_csv(io.BytesIO(raw), parse_options=parse, convert_options=options)
    except pa.ArrowException as error:
        raise damaged(
            "the CSV file can't be read", str(error)[:160], "UTF-8, a header, one row a step"
        ) from error
    missing = [name for name in kinds if table.column_names.count(name) != 1]
    if missing:
        raise damaged(
            "the CSV file lacks columns of this environment",
            f"no {', '.join(missing[:4])}{' and more' if len(missing) > 4 else ''}",
            "the columns that docs/exchange.md lists",
        )
    for name in kinds:
        if table.column(name).null_count and not name.startswith("final_observation"):
            raise damaged(f"the CSV file lacks values in {name}", "an empty cell", "a value in every row")
    return table


def _episodes(table: pa.Table, observation: Space, action: Space) -> Iterator[ImportedEpisode]:
    made = flat.distinct_steps(table)
    ids = made.column("episode_id").to_pylist()
    numbers = made.column("step").to_pylist()
    start = 0
    seen: set[str] = set()
    for name, rows in itertools.groupby(ids):
        count = len(list(rows))
        if numbers[start : start + count] != list(range(count)) or name in seen:
            raise damaged(
                "the steps of an episode are not in order",
                f"step {numbers[start]} first, or an episode in two places",
                "each episode's rows together, its steps from 0",
            )
        seen.add(name)
        yield _episode(made.slice(start, count), observation, action)
        start += count


def _episode(rows: pa.Table, observation: Space, action: Space) -> ImportedEpisode:
    last = rows.slice(rows.num_rows - 1)
    if any(last.column(name).null_count for name, _ in _columns("final_observation", observation)):
        raise damaged(
            "an episode has no final observation",
            "an empty cell in its last row",
            "final_observation in the last row of each episode",
        )
    seen = [*_gathered(rows, "observation", observation), *_gathered(last, "final_observation", observation)]
    first = rows.slice(0, 1).to_pylist()[0]
    return ImportedEpisode(
        first.get("stream") or 0,
        first.get("reset_seed"),
        _unarmed(first.get("reset_options")),
        seen,
        list(_gathered(rows, "action", action)),
        rows.column("env_reward").to_numpy(),
        rows.column("terminated").to_numpy(),
        rows.column("truncated").to_numpy(),
    )


def _gathered(rows: pa.Table, name: str, space: Space) -> list[Any]:
    """Return the values of a space from the columns that ``_spread`` made."""
    if isinstance(space, RecordSpace):
        members = [_gathered(rows, f"{name}.{inner}", member) for inner, member in space.named()]
        joined = [dict(zip(space.names, values, strict=True)) for values in zip(*members, strict=True)]
        return joined if space.keyed else [tuple(value.values()) for value in joined]
    if isinstance(space, PlainSpace) and space.shape and not space.raw:
        numbers = [rows.column(inner).to_numpy(zero_copy_only=False) for inner, _ in _columns(name, space)]
        return list(np.stack(numbers, axis=1).astype(space.dtype).reshape(rows.num_rows, *space.shape))
    if isinstance(space, PlainSpace) and not space.shape:
        return list(rows.column(name).to_numpy(zero_copy_only=False).astype(space.dtype))
    texts = [_unarmed(text) for text in rows.column(name).to_pylist()]
    if not isinstance(space, PlainSpace):
        return texts
    try:
        return [space.value(bytes.fromhex(text or "")) for text in texts]
    except ValueError as error:
        raise damaged(f"a value of {name} is no image", "other text", f"hex of {space.shape}") from error


def _unarmed(text: str | None) -> str | None:
    """Take away the apostrophe that ``write`` put before a formula."""
    return text[1:] if text and text[0] == "'" and text[1:2] in tuple("=+-@\t\r'") else text
