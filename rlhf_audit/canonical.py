"""One way to turn values into bytes, so that a digest means the same everywhere.

JSON is written with sorted keys, no spaces, UTF-8, and without NaN or infinity; a table is written column by
column, so that the digest of rows does not depend on how Parquet lays them out.
"""

import errno
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK = 1 << 20


def json_bytes(value: Any) -> bytes:
    r"""Return canonical JSON.

    Raises:
        ValueError: ``value`` holds NaN or an infinity.

    >>> json_bytes({"b": [1, 2.5], "a": "é"})
    b'{"a":"\xc3\xa9","b":[1,2.5]}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def parse_object(raw: bytes) -> dict[str, Any]:
    r"""Return the JSON object that ``json_bytes`` can have written, whatever its spaces.

    Raises:
        ValueError: It is no such thing: no object, a name twice, half a character, NaN, or nested too deep.

    >>> parse_object(b'{"a": [1]}')
    {'a': [1]}
    >>> parse_object(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: a name stands twice
    """
    try:
        value = json.loads(raw, object_pairs_hook=_once)
        json_bytes(value)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data``, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def hmac_hex(key: bytes, purpose: str, data: Iterable[bytes]) -> str:
    """Return HMAC-SHA256 over ``data``, separated from other uses of ``key`` by ``purpose``."""
    mac = hmac.new(key, purpose.encode() + b"\0", hashlib.sha256)
    for part in data:
        mac.update(part)
    return mac.hexdigest()


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        OSError: It can't be read, or a folder, a pipe or a device is in its place.
    """
    return b"".join(file_chunks(path))


def file_chunks(path: Path) -> Iterable[bytes]:
    """Yield a file's bytes, a mebibyte at a time.

    Raises:
        OSError: As ``read_file``.
    """
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind):
        # A pipe would be waited for, perhaps for ever.
        number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        raise OSError(number, "It is not a file", os.fspath(path))
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    for chunk in file_chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def table_bytes(table: pa.Table) -> Iterable[bytes]:
    """Yield a table's canonical bytes: per column its name and type, then its values.

    Fixed-width columns are their little-endian values with nulls as zero, after a validity byte per row;
    strings are their int64 lengths and then their UTF-8. Lists are their lengths and their flat child.
    """
    yield json_bytes({"rows": table.num_rows, "columns": table.column_names})
    for name in table.column_names:
        column = table.column(name)
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        yield name.encode() + b"\0" + str(array.type).encode() + b"\0"
        yield from _array_bytes(array)


def _array_bytes(array: pa.Array) -> Iterable[bytes]:
    yield array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes()
    kind = array.type
    if pa.types.is_string(kind):
        yield _lengths(array, pc.binary_length)
        yield from _texts(array.fill_null("") if array.null_count else array)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield _lengths(array, pc.list_value_length)
        yield from _array_bytes(array.flatten())
    else:
        filled = array.fill_null(False if pa.types.is_boolean(kind) else pa.scalar(0, pa.int64()).cast(kind))
        values = filled.to_numpy(zero_copy_only=False)
        yield values.astype(values.dtype.newbyteorder("<")).tobytes()


def _texts(array: pa.StringArray) -> Iterable[bytes]:
    """Yield the UTF-8 of all texts, none null, as it stands in Arrow's buffer: one after another."""
    _, offsets, data = array.buffers()
    if data is not None and len(array):
        ends = np.frombuffer(offsets, np.int32)
        start, stop = int(ends[array.offset]), int(ends[array.offset + len(array)])
        yield memoryview(data)[start:stop].tobytes()


def _lengths(array: pa.Array, measure: Callable[[pa.Array], pa.Array]) -> bytes:
    lengths: bytes = measure(array).fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes()
    return lengths
