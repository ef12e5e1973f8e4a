"""A locked DuckDB over one log: consent-aware views, no file outside the log, no setting changed.

The same text (``script``) can be pasted into any DuckDB shell; a test does so. DuckDB lets nobody read a
folder without letting them write there, so a stranger's SQL may only be passed on if it is a single SELECT.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

import duckdb
import pyarrow as pa

from rlhf_audit.clock import to_text
from rlhf_audit.errors import LogError
from rlhf_audit.log import keys, reader
from rlhf_audit.log.store import Log

_SEALED = re.compile(r"(?:episodes|steps/env=[^/'\"]+|feedback/rater_id=[^/'\"]+)/s-[0-9]+\.parquet")

# Read when there is no file yet: the same columns, no row.
_EMPTY = {
    "episode_rows": """SELECT NULL::VARCHAR AS session_id, NULL::VARCHAR AS episode_id,
    NULL::BIGINT AS episode, NULL::VARCHAR AS env_id, NULL::VARCHAR AS env_spec,
    NULL::BIGINT AS reset_seed, NULL::BIGINT AS n_steps,
    NULL::FLOAT[] AS final_observation, NULL::VARCHAR AS behaviour_policy_sha256 WHERE false""",
    "step_rows": """SELECT NULL::VARCHAR AS session_id, NULL::VARCHAR AS episode_id, NULL::BIGINT AS step,
    NULL::FLOAT[] AS observation, NULL::BIGINT AS action, NULL::FLOAT AS action_probability,
    NULL::DOUBLE AS env_reward, NULL::BOOLEAN AS terminated, NULL::BOOLEAN AS truncated,
    NULL::VARCHAR AS env_id WHERE false""",
    "feedback_rows": """SELECT NULL::VARCHAR AS session_id, NULL::BIGINT AS row, NULL::VARCHAR AS episode_id,
    NULL::BIGINT AS step, NULL::VARCHAR AS kind, NULL::DOUBLE AS value, NULL::VARCHAR AS objective,
    NULL::VARCHAR AS other_episode_id, NULL::BIGINT AS other_step, NULL::BIGINT AS n_steps,
    NULL::BIGINT AS action, NULL::BOOLEAN AS consent, NULL::VARCHAR AS grant_id,
    NULL::TIMESTAMPTZ AS shown_at, NULL::TIMESTAMPTZ AS answered_at, NULL::DOUBLE AS latency_s,
    NULL::BIGINT AS position, NULL::BIGINT AS supersedes, NULL::VARCHAR AS rater_id WHERE false""",
}
_READ = {
    "episode_rows": "SELECT * FROM read_parquet({files}, union_by_name = true)",
    "step_rows": "SELECT * RENAME (env AS env_id) FROM read_parquet({files}, union_by_name = true, "
    "hive_partitioning = true, hive_types = {{'env': VARCHAR}})",
    "feedback_rows": "SELECT * FROM read_parquet({files}, hive_partitioning = true, "
    "hive_types = {{'rater_id': VARCHAR}})",
}


def script(log: Log, as_of: datetime, groups: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return the SQL that makes every view.

    Args:
        log: Whose views.
        as_of: Consent, expiry and deadlines are judged at this moment.
        groups: Consented groups by pseudonym; none in a text that is to be printed.
    """
    entries = _quoted(str(log.layout.entries.resolve()))
    lines = f"CREATE VIEW ledger_lines AS SELECT json FROM read_ndjson_objects({entries});"
    return "\n".join(["SET TimeZone = 'UTC';", lines, _views(log, as_of, groups)])


def _views(log: Log, as_of: datetime, groups: Mapping[str, Mapping[str, str]] | None) -> str:
    parts = []
    for view, files in _sealed_files(log).items():
        listed = "[" + ",\n    ".join(_quoted(str(path.resolve())) for path in files) + "]"
        body = _READ[view].format(files=listed) if files else _EMPTY[view]
        parts.append(f"CREATE VIEW {view} AS\n{body};")
    rows = [f"({_quoted(rater)}, {_map(own)})" for rater, own in sorted((groups or {}).items()) if own]
    values = f"VALUES {', '.join(rows)}" if rows else "SELECT NULL::VARCHAR, MAP {'': ''} WHERE false"
    parts.append(f"CREATE VIEW consented_groups(rater_id, groups) AS {values};")
    text = resources.files("rlhf_audit.log").joinpath("views.sql").read_text("utf-8")
    text = text.replace("$as_of", f"TIMESTAMPTZ {_quoted(to_text(as_of))}")
    return "\n".join([*parts, text])


def _sealed_files(log: Log) -> dict[str, list[Path]]:
    """Return the files that the ledger names and that are there: none of a rater whose erasure has begun."""
    erased = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    found: dict[str, list[Path]] = {view: [] for view in _READ}
    folders = {"episodes": "episode_rows", "steps": "step_rows", "feedback": "feedback_rows"}
    for entry in log.ledger.of("session"):
        for file in entry.body["files"]:
            path = log.layout.root / file["path"]
            if path.is_file() and not ("rows_mac" in file and entry.body["rater_id"] in erased):
                found[folders[file["path"].partition("/")[0]]].append(path)
    return {view: sorted(files) for view, files in found.items()}


def connect(log: Log, as_of: datetime) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with the views, one thread, no outside access, configuration locked.

    Raises:
        LogError: A sealed file is not Parquet of this format.
    """
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
        files = [path for listed in _sealed_files(log).values() for path in listed]
        connection.execute("SET VARIABLE sealed_files = ?", [[str(path.resolve()) for path in files]])
        # The lines as they were checked, not the file, which another process may be writing to.
        connection.register("ledger_lines", pa.table({"json": [line.decode() for line in log.ledger.lines]}))
        connection.execute(_views(log, as_of, consented_groups(log, as_of)))
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
        row = connection.execute("SELECT getvariable('sealed_files')").fetchone()
    except duckdb.Error:
        # What broke the query may have broken the connection.
        return None
    for text in (row and row[0]) or ():
        try:
            reader.check_file(Path(text), _name(text))
        except LogError as error:
            return error
    return None


def unreadable(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> LogError:
    """Return what a user is told of an error that DuckDB met in the log's own files, by name if known."""
    return damaged_file(connection) or told(error)


def told(error: duckdb.Error) -> LogError:
    """Return what a user is told of DuckDB's error when there is no connection to ask any more."""
    first = str(error).strip().split("\n")[0]
    match = _SEALED.search(first)
    return LogError(
        f"{_name(match[0]) if match else 'a file of this log'} can't be read",
        # Without the way to the log: a home folder may be in it.
        seen=re.sub(r"[^\s'\"]*/(?=(?:episodes|steps|feedback)/)", "", first)[:160],
        needed="sealed Parquet files as record wrote them",
        fix="rlhf-audit verify LOG",
    )


def _name(path: str) -> str:
    """Return a sealed file's path as the ledger names it."""
    folders = [*_SEALED.finditer(path)]
    return folders[-1][0] if folders else path.rpartition("/")[2]


def consented_groups(log: Log, as_of: datetime) -> dict[str, dict[str, str]]:
    """Return the groups of every rater with a grant for audits that stands at ``as_of``."""
    covered = {
        entry.body["rater_id"]
        for entry in log.ledger.of("consent")
        if entry.body["state"] == "given"
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
    return layout.episodes, layout.steps, layout.feedback


def _map(pairs: Mapping[str, str]) -> str:
    inner = ", ".join(f"{_quoted(name)}: {_quoted(value)}" for name, value in sorted(pairs.items()))
    return f"MAP {{{inner}}}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
