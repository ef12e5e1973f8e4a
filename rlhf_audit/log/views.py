"""A locked DuckDB over one log: consent-aware views, no file outside the log, no setting changed.

The same text (``view_sql.script``) can be pasted into any DuckDB shell; a test does so. DuckDB lets nobody
read a folder without letting them write there, so a stranger's SQL may only be passed on if it is a single
SELECT.
"""

import contextlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from rlhf_audit.clock import to_text
from rlhf_audit.errors import LogChangedError, LogError
from rlhf_audit.log import at_hand, encryption, keys, reader, remote, view_sql, viewed
from rlhf_audit.log.layout import SEALED, Layout
from rlhf_audit.log.store import Log

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "temp_directory": "",
    # What a query took is given back after it: by default half a gigabyte is held for the next.
    "allocator_background_threads": True,
    "allocator_flush_threshold": "16MB",
    "allocator_bulk_deallocation_flush_threshold": "64MB",
}


def connect(
    log: Log, as_of: datetime, *, read_once: bool = False, progress: Callable[[str], None] | None = None
) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with the views, one thread, no outside access, configuration locked.

    Args:
        log: Whose views.
        as_of: Consent, expiry and deadlines are judged at this moment.
        read_once: Keep what raters gave in memory, compressed, and what the ledger says: for many queries.
        progress: Told how far that is.

    Raises:
        LogError: A sealed file is not Parquet of this format.
    """
    while True:
        try:
            return _connected(log, as_of, read_once, progress)
        except LogError:
            # What could not be read may have been merged into another file meanwhile.
            if not log.refreshed():
                raise


def _connected(
    log: Log, as_of: datetime, read_once: bool, progress: Callable[[str], None] | None
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config=_CONFIG)
    try:
        # Only what the views read: the keys are not among it.
        allowed = ", ".join(view_sql.quoted(str(folder.resolve()) + "/") for folder in _readable(log))
        connection.execute(f"SET allowed_directories = [{allowed}]")
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute("SET autoload_known_extensions = false")
        connection.execute("LOAD json; LOAD parquet")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET TimeZone = 'UTC'")
        files = viewed.files(log)
        for rater_id in view_sql.sealed_raters(log, files):
            cipher = encryption.of_rater(log.layout, rater_id)
            connection.execute(f"PRAGMA add_parquet_key('{rater_id}', '{cipher.name_in_sql}')")
        named = dict(remote.register(connection, log, files)) if isinstance(log, remote.RemoteLog) else {}
        # What is remote DuckDB can't read by itself: whoever has its query fail asks remote.py.
        ours = [] if named else [path for paths in files.values() for path in paths]
        connection.execute("SET VARIABLE sealed_files = ?", [view_sql.resolved(ours)])
        connection.execute("SET VARIABLE ledger_bytes = ?", [sum(len(line) + 1 for line in log.ledger.lines)])
        # The lines as they were checked, not the file, which another process may be writing to.
        connection.register("ledger_lines", pa.table({"json": [line.decode() for line in log.ledger.lines]}))
        connection.register("sealed_slices", _table(viewed.slices(log)))
        for kind, paths in files.items() if read_once else ():
            if kind.view == "feedback_rows":
                selects = list(view_sql.pieces(log, kind, paths, named.get(kind)))
                named[kind] = at_hand.read(connection, selects, progress)
        begun = view_sql.of_files(log, files, consented_groups(log, as_of), named)
        of_ledger, of_rows = view_sql.of_ledger(as_of), view_sql.of_rows()
        # Of few rows: as views they would parse the ledger's lines at each query.
        kept = {*of_ledger, "superseded"} if read_once else set()
        for name, select in (begun | of_ledger | of_rows).items():
            if name in kept:
                connection.register(name, query(connection, select))
            else:
                connection.execute(f"CREATE VIEW {name} AS\n{select}")
        if read_once:
            # All of its text, which the others have been made from.
            connection.unregister("ledger")
            connection.execute(f"CREATE VIEW ledger AS\n{of_ledger['ledger']}")
        connection.execute("SET lock_configuration = true")
    except duckdb.InterruptException as error:
        connection.close()
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        far = remote.damaged(log) if isinstance(log, remote.RemoteLog) else None
        found = far or unreadable(connection, error)
        connection.close()
        raise found from error
    except LogError:
        connection.close()
        raise
    return connection


def damaged_file(connection: duckdb.DuckDBPyConnection) -> LogError | None:
    """Return what is wrong with the first sealed file behind the views that can't be read, or None.

    Reads every file: for when a query has failed.
    """
    try:
        row = connection.execute("SELECT getvariable('sealed_files'), getvariable('ledger_bytes')").fetchone()
    except duckdb.Error:
        # What broke the query may have broken the connection.
        return None
    paths, n_bytes = row or ((), 0)
    for text in paths or ():
        if not SEALED.search(text):
            # A link has led out of the log, where the views may not read.
            return told(duckdb.Error("a link that leads out of the log"))
        layout = Layout(Path(text.removesuffix(_name(text))))
        try:
            reader.check_file(layout, _name(text))
        except LogError as error:
            return _gone_on(layout, n_bytes) or error
    return None


def _gone_on(layout: Layout, n_bytes: int) -> LogError | None:
    """Return what is told where the log has gone on since it was read: the file may be merged by now."""
    with contextlib.suppress(OSError):
        if layout.entries.stat().st_size != n_bytes:
            return LogChangedError(
                "the log has changed while it was read",
                seen="a file that is not there any more, and new entries in the ledger",
                needed="all of the files that the query began with",
                fix="run this again",
            )
    return None


def _table(slices: Sequence[tuple[str, str, int]]) -> pa.Table:
    shape = pa.schema([("path", pa.string()), ("session_id", pa.string()), ("rows", pa.int64())])
    return pa.table([list(column) for column in zip(*slices, strict=True)] or [[], [], []], schema=shape)


def unreadable(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> LogError:
    """Return what a user is told of an error that DuckDB met in the log's own files, by name if known."""
    return damaged_file(connection) or told(error)


def told(error: duckdb.Error) -> LogError:
    """Return what a user is told of DuckDB's error when there is no connection to ask any more."""
    first = str(error).strip().split("\n")[0]
    match = SEALED.search(first)
    return LogError(
        f"{_name(match[0]) if match else 'a file of this log'} can't be read",
        # Without the way to the log: a home folder may be in it.
        seen=re.sub(r"[^\s'\"]*/(?=(?:episodes|steps|feedback)/)", "", first)[:160],
        needed="sealed Parquet files as record wrote them",
        fix="rlhf-audit verify LOG",
    )


def _name(path: str) -> str:
    """Return a sealed file's path as the ledger names it."""
    folders = [*SEALED.finditer(path)]
    return folders[-1][0] if folders else path.rpartition("/")[2]


def consented_groups(log: Log, as_of: datetime) -> dict[str, dict[str, str]]:
    """Return the groups of every rater with a grant for audits that stands at ``as_of``.

    Of a remote log nobody's: groups are in the keys, and those are not read from elsewhere.
    """
    if isinstance(log, remote.RemoteLog):
        return {}
    invalid = {name for entry in log.ledger.of("consent-invalidated") for name in entry.body["grant_ids"]}
    covered = {
        entry.body["rater_id"]
        for entry in log.ledger.of("consent")
        if entry.body["state"] == "given"
        and entry.body["grant_id"] not in invalid
        and "audit" in entry.body["purposes"]
        and entry.body["expires_at"] > to_text(as_of)
        and not any(
            later.seq > entry.seq
            and later.body["rater_id"] == entry.body["rater_id"]
            and (later.event == "erasure-intent" or "audit" in later.body["purposes"])
            for later in log.ledger.of("withdrawal", "erasure-intent")
        )
    }
    present = [rater for rater in sorted(covered) if log.layout.key_file(rater).exists()]
    return {rater: keys.read(log.layout, rater).groups for rater in present}


def query(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> pa.Table:
    """Return a query's rows as Arrow."""
    return connection.sql(sql, params=list(values)).to_arrow_table()


def _readable(log: Log) -> tuple[Path, ...]:
    layout = log.layout
    return () if isinstance(log, remote.RemoteLog) else (layout.episodes, layout.steps, layout.feedback)
