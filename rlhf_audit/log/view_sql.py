"""The views' SQL: the same text for our own connection and for any DuckDB shell."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

from rlhf_audit.clock import to_text
from rlhf_audit.log import at_hand, policy_rows, returned, viewed
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
    entries = quoted(str(log.layout.entries.resolve()))
    lines = f"CREATE VIEW ledger_lines AS SELECT json FROM read_ndjson_objects({entries});"
    files = viewed.files(log)
    ciphers = [
        f"-- PRAGMA add_parquet_key('{name}', 'the key of {name}, in base64');"
        for name in sealed_raters(log, files)
    ]
    values = [f"({quoted(path)}, {quoted(session)}, {rows})" for path, session, rows in viewed.slices(log)]
    body = f"VALUES {', '.join(values)}" if values else "SELECT '', '', 0 WHERE false"
    slices = f"CREATE VIEW sealed_slices(path, session_id, rows) AS {body};"
    made = [
        f"CREATE VIEW {name} AS\n{select};"
        for each in (of_files(log, files, groups), of_ledger(as_of), of_rows())
        for name, select in each.items()
    ]
    return "\n".join(["SET TimeZone = 'UTC';", *ciphers, lines, slices, *made])


def of_files(
    log: Log,
    files: viewed.Files,
    groups: Mapping[str, Mapping[str, str]] | None,
    named: Mapping[viewed.Kind, str] | None = None,
) -> dict[str, str]:
    """Return the SELECTs, by view, that the others begin with: of files, groups and manifests.

    Args:
        log: Whose views.
        files: What they read.
        groups: Consented groups by pseudonym.
        named: Files that are read as the table of that name instead.
    """
    named = named or {}
    found = {}
    for view, columns in COLUMNS.items():
        parts = [
            select
            for kind, paths in files.items()
            if kind.view == view
            for select in selects(kind, paths, sealed=log.is_sealed, named=named.get(kind))
        ]
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items())
        found[view] = "\nUNION ALL ".join(parts) or f"SELECT {empty} WHERE false"
    for kind, paths in files.items():
        if kind.native:
            # Each environment's steps in the types of its own spaces, as steps_of_CartPole_v1.
            found[f'"{kind.native}"'] = f"SELECT * FROM {named.get(kind) or _plain(paths)}"
    rows = [f"({quoted(rater)}, {_map(own)})" for rater, own in sorted((groups or {}).items()) if own]
    values = f"VALUES {', '.join(rows)}" if rows else "SELECT NULL::VARCHAR, MAP {'': ''} WHERE false"
    found["consented_groups"] = f"SELECT * FROM ({values}) AS of_rater(rater_id, groups)"
    made = [f"({quoted(path)}, {quoted(rater_id)}, {rows})" for path, rater_id, rows in policy_rows.read(log)]
    values = f"VALUES {', '.join(made)}" if made else "SELECT '', '', 0 WHERE false"
    found["policy_manifests"] = f"SELECT * FROM ({values}) AS of_policy(path, rater_id, rows)"
    back = ", ".join(f"({quoted(kind)}, {n}::BIGINT)" for kind, n in returned.count(log).items())
    found["returned"] = f"SELECT * FROM (VALUES {back}) AS of_kind(kind, n)"
    return found


def of_ledger(as_of: datetime) -> dict[str, str]:
    """Return the SELECTs of ledger_views.sql by name, each after those that it reads."""
    return _named("ledger_views.sql", as_of)


def of_rows() -> dict[str, str]:
    """Return the SELECTs of row_views.sql by name, each after those that it reads."""
    return _named("row_views.sql")


def _named(file: str, as_of: datetime | None = None) -> dict[str, str]:
    text = resources.files("rlhf_audit.log").joinpath(file).read_text("utf-8")
    if as_of is not None:
        text = text.replace("$as_of", f"TIMESTAMPTZ {quoted(to_text(as_of))}")
    return dict(re.findall(r"CREATE VIEW (\w+) AS\n?(.*?);\n", text, re.S))


def selects(kind: viewed.Kind, paths: Sequence[Path], *, sealed: bool, named: str | None = None) -> list[str]:
    """Return SELECTs of the view's columns; what is no vector or no single number is NULL there."""
    if kind.view == "feedback_rows":
        if not sealed:
            return [f"SELECT * FROM {named or f'read_parquet({_listed(paths)}, {_HIVE})'}"]
        # Each key's files by themselves; and whole: DuckDB decrypts wrongly where a filter or a sort behind
        # lets it pass over values, which they can't see through an OFFSET. The rater's name they do see: for
        # some raters only theirs are read.
        return [
            f"SELECT * REPLACE ({quoted(rater)} AS rater_id) FROM ("
            f"FROM read_parquet({_listed(own)}, {_HIVE}, "
            f"encryption_config = {{footer_key: {quoted(rater)}}}) OFFSET 0)"
            for rater, own in viewed.by_rater(paths).items()
        ]
    kept = {"observation": kind.vector, "final_observation": kind.vector, "action": kind.number}
    columns = [
        f"{quoted(kind.env_id)} AS env_id"
        if name == "env_id" and kind.env_id
        else f"{name if kept.get(name, True) else 'NULL'}::{sql_type} AS {name}"
        for name, sql_type in COLUMNS[kind.view].items()
    ]
    return [f"SELECT {', '.join(columns)} FROM {named or _plain(paths)}"]


def pieces(log: Log, kind: viewed.Kind, paths: Sequence[Path], named: str | None) -> Iterator[str]:
    """Yield a SELECT for each piece of the answers; one that is remote asks for the rows of some raters."""
    rows = {log.layout.root / path: file.rows for path, file in log.whereabouts.files.items()}
    for piece in at_hand.pieces(paths, rows, whole_raters=named is not None):
        text = "\nUNION ALL ".join(selects(kind, piece, sealed=log.is_sealed, named=named))
        whose = ", ".join(quoted(rater) for rater in viewed.by_rater(piece)) if named else ""
        yield f"{text} WHERE rater_id IN ({whose})" if named else text


def sealed_raters(log: Log, files: viewed.Files) -> list[str]:
    """Return the raters whose keys the views need."""
    found = (viewed.by_rater(paths) for kind, paths in files.items() if kind.view == "feedback_rows")
    return [rater for raters in found for rater in raters] if log.is_sealed else []


def _plain(paths: Sequence[Path]) -> str:
    return f"read_parquet({_listed(paths)}, hive_partitioning = false)"


def _listed(paths: Sequence[Path]) -> str:
    return "[" + ",\n    ".join(quoted(path) for path in resolved(paths)) + "]"


def resolved(paths: Sequence[Path]) -> list[str]:
    """Return where files lie, with every link followed."""
    folders = {folder: str(folder.resolve()) for folder in {path.parent for path in paths}}
    return [
        str(path.resolve()) if path.is_symlink() else f"{folders[path.parent]}/{path.name}" for path in paths
    ]


def _map(pairs: Mapping[str, str]) -> str:
    inner = ", ".join(f"{quoted(name)}: {quoted(value)}" for name, value in sorted(pairs.items()))
    return f"MAP {{{inner}}}"


def quoted(text: str) -> str:
    """Return a text as SQL's."""
    return "'" + text.replace("'", "''") + "'"
