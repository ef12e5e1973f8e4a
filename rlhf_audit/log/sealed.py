"""Sealed Parquet files, read and checked: one whole, or the rows of one session wherever they are."""

import contextlib
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlhf_audit import schema
from rlhf_audit.errors import LogError
from rlhf_audit.log import encryption
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import SealedFile

Shape = Callable[[pa.Table], pa.Schema]
"""Says what schema a table of its own types must have."""


def checked(layout: Layout, name: str, shape: Shape) -> pa.Table:
    """Read a sealed file and check its columns: their names, types, and that nothing is missing in them.

    Args:
        layout: Of the log.
        name: The file as the ledger names it.
        shape: What schema a table of its own types must have.

    Raises:
        LogError: It is missing, no Parquet, or of another schema.
    """
    return _checked(read(layout, name), name, shape)


def _checked(table: pa.Table, name: str, shape: Shape) -> pa.Table:
    needed = shape(table)
    like = all(map(_alike, table.schema.types, needed.types))
    if table.schema.names != needed.names or not like:
        raise damaged(f"{name} has other columns than log format {schema.FORMAT_VERSION}", "other columns")
    for field in needed:
        if not field.nullable and table.column(field.name).null_count:
            raise damaged(f"{name} lacks values in its column {field.name}", "rows without one")
    try:
        return table.cast(needed)
    except pa.ArrowException as error:
        raise damaged(f"{name} holds values that can't be", "values of another length") from error


def _alike(found: pa.DataType, needed: pa.DataType) -> bool:
    """Say whether a type is the needed one, but for what Parquet alone does not tell of it."""
    if pa.types.is_list(needed) or pa.types.is_fixed_size_list(needed):
        listed = pa.types.is_list(found) or pa.types.is_fixed_size_list(found)
        return listed and _alike(found.value_type, needed.value_type)
    if pa.types.is_struct(needed) and pa.types.is_struct(found):
        names = [[field.name for field in kind] for kind in (found, needed)]
        return names[0] == names[1] and all(
            _alike(a.type, b.type) for a, b in zip(found, needed, strict=True)
        )
    if pa.types.is_large_binary(needed):
        return bool(pa.types.is_binary(found) or found == needed)
    return bool(found == needed)


def read(layout: Layout, name: str) -> pa.Table:
    """Read one sealed file.

    Raises:
        LogError: It is missing or is not Parquet.
    """
    with opened(layout, name) as file:
        table = file.read(use_threads=False)
        table.validate(full=True)
        return table


@contextlib.contextmanager
def opened(layout: Layout, name: str) -> Iterator[pq.ParquetFile]:
    """Open one sealed file; what goes wrong while it is read is told as damage to it.

    Raises:
        LogError: It is missing or is not Parquet.
    """
    path = layout.root / name
    try:
        if not path.is_file():
            # A pipe in its place would be waited for.
            raise damaged(f"{name} is {'not a file' if path.exists() else 'missing'}", "no such file")
        # Not by `read_table`: that would read "rater_id=…" out of the folder's name into a column.
        with encryption.opened(layout, name) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(f"{name} can't be read", "no Parquet, or a damaged one") from error


def rows(log: Log, session_id: str, folder: str, shape: Shape) -> Iterator[tuple[str, pa.Table]]:
    """Yield a session's rows of one folder, in order, a row group at a time, with the name of their file.

    A file that a compaction takes away meanwhile is looked for again where its rows are now.

    Raises:
        LogError: A file is missing or damaged, or does not hold what the ledger says.
    """
    done = 0
    while True:
        place = _place(log, session_id, folder, done)
        if place is None:
            return
        file, first, end = place
        try:
            for table in _stretch(log.layout, file, first, end, shape):
                if not pc.all(pc.equal(table.column("session_id"), session_id)).as_py():
                    raise damaged(f"{file.path} does not hold the rows of {session_id}", "another session's")
                yield file.path, table
                done += table.num_rows
        except LogError:
            if not log.refreshed():
                raise


def _place(log: Log, session_id: str, folder: str, done: int) -> tuple[SealedFile, int, int] | None:
    """Return the file with a session's row ``done``, and from where to where the session's rows are there."""
    before = 0
    for file, one in log.whereabouts.of_session(session_id, folder):
        if before + one.rows > done:
            return file, one.first_row + done - before, one.end
        before += one.rows
    return None


def _stretch(layout: Layout, file: SealedFile, first: int, end: int, shape: Shape) -> Iterator[pa.Table]:
    """Yield the rows from ``first`` to ``end``, out of the row groups that hold any of them."""
    with opened(layout, file.path) as parquet:
        metadata = parquet.metadata
        if metadata.num_rows != file.rows:
            raise damaged(f"{file.path} holds another number of rows than the ledger says", "other rows")
        start = 0
        for number in range(metadata.num_row_groups):
            stop = start + metadata.row_group(number).num_rows
            low, high = max(first, start), min(end, stop)
            if low < high:
                table = parquet.read_row_group(number, use_threads=False)
                table.validate(full=True)
                yield _checked(table.slice(low - start, high - low), file.path, shape)
            start = stop


def damaged(what: str, seen: str) -> LogError:
    """Return the error for a sealed file that is not as it was."""
    return LogError(
        what, seen=seen, needed="the sealed Parquet file as it was recorded", fix="rlhf-audit verify LOG"
    )
