"""A locked DuckDB over one log: consent-aware views, no file outside the log, no setting changed.

The same text (``script``) can be pasted into any DuckDB shell; a test does so. DuckDB lets nobody read a
folder without letting them write there, so a stranger's SQL may only be passed on if it is a single SELECT.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

import duckdb
import pyarrow as pa

from rlhf_audit.clock import to_text
from rlhf_audit.errors import LogChangedError, LogError
from rlhf_audit.log import encryption, keys, policy_rows, reader, remote, returned, viewed
from rlhf_audit.log.layout import SEALED, Layout
from rlhf_audit.log.store import Log

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "episode_rows": {
        "session_id": "VARCHAR",
        "episode_id": "VARCHAR",
        "episode": "BIGINT",
        "stream": "BIGINT",
        "env_id": "VARCHAR",
        "env_spec": "VARCHAR",
        "reset_seed": "BIGINT",
        "reset_options": "VARCHAR",
        "n_steps": "BIGINT",
        "final_observation": "DOUBLE[]",
        "behaviour_policy_sha256": "VARCHAR",
    },
    "step_rows": {
        "session_id": "VARCHAR",
        "episode_id": "VARCHAR",
        "step": "BIGINT",
        "observation": "DOUBLE[]",
        "action": "BIGINT",
        "action_probability": "FLOAT",
        "env_reward": "DOUBLE",
        "terminated": "BOOLEAN",
        "truncated": "BOOLEAN",
        "info": "VARCHAR",
        "env_id": "VARCHAR",
    },
    "feedback_rows": {
        "session_id": "VARCHAR",
        "row": "BIGINT",
        "episode_id": "VARCHAR",
        "step": "BIGINT",
        "kind": "VARCHAR",
        "value": "DOUBLE",
        "objective": "VARCHAR",
        "other_episode_id": "VARCHAR",
        "other_step": "BIGINT",
        "n_steps": "BIGINT",
        "action": "BIGINT",
        "consent": "BOOLEAN",
        "grant_id": "VARCHAR",
        "shown_at": "TIMESTAMPTZ",
        "answered_at": "TIMESTAMPTZ",
        "latency_s": "DOUBLE",
        "position": "BIGINT",
        "supersedes": "BIGINT",
        "rater_id": "VARCHAR",
    },
}
"""The columns of the views that read files, also where there is no file yet; in DuckDB's types."""

_HIVE = "hive_partitioning = true, hive_types = {'rater_id': VARCHAR}"


def script(log: Log, as_of: datetime, groups: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return the SQL that makes every view.

    Args:
        log: Whose views.
        as_of: Consent, expiry and deadlines are judged at this moment.
        groups: Consented groups by pseudonym; none in a text that is to be printed.
    """
    entries = _quoted(str(log.layout.entries.resolve()))
    lines = f"CREATE VIEW ledger_lines AS SELECT json FROM read_ndjson_objects({entries});"
    files = viewed.files(log)
    ciphers = [
        f"-- PRAGMA add_parquet_key('{name}', 'the key of {name}, in base64');"
        for name in _sealed(log, files)
    ]
    values = [f"({_quoted(path)}, {_quoted(session)}, {rows})" for path, session, rows in viewed.slices(log)]
    body = f"VALUES {', '.join(values)}" if values else "SELECT '', '', 0 WHERE false"
    slices = f"CREATE VIEW sealed_slices(path, session_id, rows) AS {body};"
    views = _views(log, files, as_of, groups)
    return "\n".join(["SET TimeZone = 'UTC';", *ciphers, lines, slices, views])


def _views(
    log: Log,
    files: viewed.Files,
    as_of: datetime,
    groups: Mapping[str, Mapping[str, str]] | None,
    named: Mapping[viewed.Kind, str] | None = None,
) -> str:
    """Return the views' statements; files that are ``named`` are read as the table of that name."""
    named = named or {}

    parts = []
    for view, columns in COLUMNS.items():
        selects = [
            select
            for kind, paths in files.items()
            if kind.view == view
            for select in _selects(kind, paths, sealed=log.is_sealed, named=named.get(kind))
        ]
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items())
        body = "\nUNION ALL ".join(selects) or f"SELECT {empty} WHERE false"
        parts.append(f"CREATE VIEW {view} AS\n{body};")
    parts += _native(files, named)
    rows = [f"({_quoted(rater)}, {_map(own)})" for rater, own in sorted((groups or {}).items()) if own]
    values = f"VALUES {', '.join(rows)}" if rows else "SELECT NULL::VARCHAR, MAP {'': ''} WHERE false"
    parts.append(f"CREATE VIEW consented_groups(rater_id, groups) AS {values};")
    made = [
        f"({_quoted(path)}, {_quoted(rater_id)}, {rows})" for path, rater_id, rows in policy_rows.read(log)
    ]
    values = f"VALUES {', '.join(made)}" if made else "SELECT '', '', 0 WHERE false"
    parts.append(f"CREATE VIEW policy_manifests(path, rater_id, rows) AS {values};")
    back = ", ".join(f"({_quoted(kind)}, {n}::BIGINT)" for kind, n in returned.count(log).items())
    parts.append(f"CREATE VIEW returned(kind, n) AS VALUES {back};")
    text = text_of_views().replace("$as_of", f"TIMESTAMPTZ {_quoted(to_text(as_of))}")
    return "\n".join([*parts, text])


def text_of_views() -> str:
    """Return views.sql."""
    return resources.files("rlhf_audit.log").joinpath("views.sql").read_text("utf-8")


def _selects(
    kind: viewed.Kind, paths: Sequence[Path], *, sealed: bool, named: str | None = None
) -> list[str]:
    """Return SELECTs of the view's columns; what is no vector or no single number is NULL there."""
    if kind.view == "feedback_rows":
        if not sealed:
            return [f"SELECT * FROM {named or f'read_parquet({_listed(paths)}, {_HIVE})'}"]
        # Each key's files by themselves; and whole: DuckDB decrypts wrongly where a filter or a sort behind
        # lets it pass over values, which they can't see through an OFFSET. The rater's name they do see: for
        # some raters only theirs are read.
        return [
            f"SELECT * REPLACE ({_quoted(rater)} AS rater_id) FROM ("
            f"FROM read_parquet({_listed(own)}, {_HIVE}, "
            f"encryption_config = {{footer_key: {_quoted(rater)}}}) OFFSET 0)"
            for rater, own in viewed.by_rater(paths).items()
        ]
    kept = {"observation": kind.vector, "final_observation": kind.vector, "action": kind.number}
    columns = [
        f"{_quoted(kind.env_id)} AS env_id"
        if name == "env_id" and kind.env_id
        else f"{name if kept.get(name, True) else 'NULL'}::{sql_type} AS {name}"
        for name, sql_type in COLUMNS[kind.view].items()
    ]
    return [f"SELECT {', '.join(columns)} FROM {named or _plain(paths)}"]


def _sealed(log: Log, files: viewed.Files) -> list[str]:
    """Return the raters whose keys the views need."""
    found = (viewed.by_rater(paths) for kind, paths in files.items() if kind.view == "feedback_rows")
    return [rater for raters in found for rater in raters] if log.is_sealed else []


def _native(files: viewed.Files, named: Mapping[viewed.Kind, str]) -> list[str]:
    """Return views of each environment's steps in the types of its own spaces, as steps_of_CartPole_v1."""
    found = []
    for kind, paths in files.items():
        if kind.native:
            body = f"SELECT * FROM {named.get(kind) or _plain(paths)}"
            found.append(f'CREATE VIEW "{kind.native}" AS {body};')
    return found


def _plain(paths: Sequence[Path]) -> str:
    return f"read_parquet({_listed(paths)}, hive_partitioning = false)"


def _listed(paths: Sequence[Path]) -> str:
    return "[" + ",\n    ".join(_quoted(str(path.resolve())) for path in paths) + "]"


def connect(log: Log, as_of: datetime) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with the views, one thread, no outside access, configuration locked.

    Raises:
        LogError: A sealed file is not Parquet of this format.
    """
    while True:
        try:
            return _connected(log, as_of)
        except LogError:
            # What could not be read may have been merged into another file meanwhile.
            if not log.refreshed():
                raise


def _connected(log: Log, as_of: datetime) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1, "temp_directory": ""})
    try:
        # Only what the views read: the keys are not among it.
        allowed = ", ".join(_quoted(str(folder.resolve()) + "/") for folder in _readable(log))
        connection.execute(f"SET allowed_directories = [{allowed}]")
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute("SET autoload_known_extensions = false")
        connection.execute("LOAD json; LOAD parquet")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET TimeZone = 'UTC'")
        files = viewed.files(log)
        for rater_id in _sealed(log, files):
            cipher = encryption.of_rater(log.layout, rater_id)
            connection.execute(f"PRAGMA add_parquet_key('{rater_id}', '{cipher.name_in_sql}')")
        named = remote.register(connection, log, files) if isinstance(log, remote.RemoteLog) else {}
        # What is remote DuckDB can't read by itself: whoever has its query fail asks remote.py.
        paths = [] if named else [str(path.resolve()) for group in files.values() for path in group]
        connection.execute("SET VARIABLE sealed_files = ?", [paths])
        connection.execute("SET VARIABLE ledger_bytes = ?", [sum(len(line) + 1 for line in log.ledger.lines)])
        # The lines as they were checked, not the file, which another process may be writing to.
        connection.register("ledger_lines", pa.table({"json": [line.decode() for line in log.ledger.lines]}))
        connection.register("sealed_slices", _table(viewed.slices(log)))
        connection.execute(_views(log, files, as_of, consented_groups(log, as_of), named))
        connection.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        found = unreadable(connection, error)
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


def _map(pairs: Mapping[str, str]) -> str:
    inner = ", ".join(f"{_quoted(name)}: {_quoted(value)}" for name, value in sorted(pairs.items()))
    return f"MAP {{{inner}}}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
