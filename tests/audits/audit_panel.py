"""A small DuckDB with the columns of rlhf_audit/log/row_views.sql, filled from plain rows."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

FEEDBACK = {
    "rater_id": "VARCHAR", "session_id": "VARCHAR", "session_n": "BIGINT", '"row"': "BIGINT",
    "episode_id": "VARCHAR", "step": "BIGINT", "item": "VARCHAR", "kind": "VARCHAR", "value": "DOUBLE",
    "objective": "VARCHAR", "other_episode_id": "VARCHAR", "other_step": "BIGINT", "n_steps": "BIGINT",
    "action": "BIGINT", "consent": "BOOLEAN", "grant_id": "VARCHAR", "shown_at": "TIMESTAMPTZ",
    "answered_at": "TIMESTAMPTZ", "latency_s": "DOUBLE", '"position"': "BIGINT", "supersedes": "BIGINT",
}  # fmt: skip
TABLES = {
    "feedback": FEEDBACK,
    "usable_for_audit": FEEDBACK,
    "usable_for_training": FEEDBACK,
    "skips_for_audit": FEEDBACK,
    "steps": {
        "session_id": "VARCHAR", "episode_id": "VARCHAR", "step": "BIGINT", "observation": "DOUBLE[]",
        "action": "BIGINT", "action_probability": "FLOAT", "env_reward": "DOUBLE", "terminated": "BOOLEAN",
        "truncated": "BOOLEAN", "env_id": "VARCHAR",
    },
    "gold": {"episode_id": "VARCHAR", "step": "BIGINT", "value": "DOUBLE"},
    "raters": {
        "rater_id": "VARCHAR", "scripted": "VARCHAR", "enrolled_at": "TIMESTAMPTZ",
        "groups": "MAP(VARCHAR, VARCHAR)",
    },
    "grants": {
        "grant_id": "VARCHAR", "rater_id": "VARCHAR", "state": "VARCHAR", "terms_sha256": "VARCHAR",
        "purposes": "VARCHAR[]", "asked_purposes": "VARCHAR[]", '"method"': "VARCHAR",
        "given_by": "VARCHAR", "given_at": "TIMESTAMPTZ", "expires_at": "TIMESTAMPTZ",
    },
    "withdrawals": {
        "rater_id": "VARCHAR", "purposes": "VARCHAR[]", "withdrawn_at": "TIMESTAMPTZ",
        "erase_by": "TIMESTAMPTZ", "erased_at": "TIMESTAMPTZ", "overdue": "BOOLEAN",
        "held": "BOOLEAN",
    },
    "policies": {
        "name": "VARCHAR", "weights_sha256": "VARCHAR", "algorithm": "VARCHAR", "rows": "BIGINT",
        "rater_ids": "VARCHAR[]", "trained_at": "TIMESTAMPTZ", "state": "VARCHAR",
    },
    "terms": {
        "terms_sha256": "VARCHAR", "version": "BIGINT", "added_at": "TIMESTAMPTZ", "newest": "BOOLEAN",
    },
    "returned": {"kind": "VARCHAR", "n": "BIGINT"},
    "policy_rows": {"name": "VARCHAR", "path": "VARCHAR", "rater_id": "VARCHAR", '"rows"': "BIGINT"},
    "reports": {"path": "VARCHAR", "rater_ids": "VARCHAR[]", "made_at": "TIMESTAMPTZ", "state": "VARCHAR"},
    "exports": {
        "path": "VARCHAR", "purpose": "VARCHAR", "recipient": "VARCHAR", "rater_ids": "VARCHAR[]",
        "made_at": "TIMESTAMPTZ", "told_at": "TIMESTAMPTZ", "state": "VARCHAR",
    },
    "erasures": {
        "rater_id": "VARCHAR", "begun_at": "TIMESTAMPTZ", "erased_at": "TIMESTAMPTZ", "halted": "BOOLEAN",
    },
    "files": {"path": "VARCHAR", "session_id": "VARCHAR", "rater_id": "VARCHAR", '"rows"': "BIGINT"},
}  # fmt: skip

Rows = Iterable[Mapping[str, Any]]


def connect(ratings: Rows = (), *, threads: int = 1, **tables: Rows) -> duckdb.DuckDBPyConnection:
    """Return the views.

    Args:
        ratings: Compact rows: ``rater, item, value`` and, if wanted, ``latency_s``, ``session_n``, ``row``
            and any other column of feedback; and of the step ``action``, ``env_id``, ``env_reward`` and, of
            the segment compared with, ``other_env_reward``. They fill ``feedback`` and ``usable_for_audit``
            alike, skips ``skips_for_audit``.
        tables: Rows of the other views, by their own column names.
    """
    connection = duckdb.connect(config={"threads": threads})
    connection.execute("SET TimeZone = 'UTC'")
    for name, columns in TABLES.items():
        listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        connection.execute(f"CREATE TABLE {name} ({listed})")
    full, steps = _expand(ratings)
    _fill(connection, "feedback", full)
    _fill(connection, "usable_for_audit", [row for row in full if row["kind"] != "skip"])
    _fill(connection, "skips_for_audit", [row for row in full if row["kind"] == "skip"])
    _fill(connection, "steps", steps)
    for name, rows in tables.items():
        _fill(connection, name, list(rows))
    return connection


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Return rows; empty cells are left out, so that defaults hold."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if value != ""} for row in csv.DictReader(stream)]


def _expand(ratings: Rows) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    full: list[dict[str, Any]] = []
    steps: dict[Any, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    for given in ratings:
        own = dict(given)
        rater, item = str(own.pop("rater")), str(own.pop("item"))
        episode, _, number = item.rpartition(":")
        step = int(number) if episode and number.isdigit() else 0
        episode = episode or item
        other = {"env_id": own.get("env_id"), "env_reward": own.pop("other_env_reward", None)}
        _note_step(steps, (episode, step), own, "action", "env_id", "env_reward")
        if "other_episode_id" in own:
            _note_step(
                steps, (own["other_episode_id"], int(own["other_step"])), other, "env_id", "env_reward"
            )
        position = seen[rater] = seen.get(rater, -1) + 1
        defaults = {
            "rater_id": rater, "session_id": f"s-{rater}", "session_n": 1, "row": position,
            "episode_id": episode, "step": step, "item": f"{episode}:{step}", "kind": "rating",
            "objective": "correct", "n_steps": 1, "consent": True, "grant_id": f"g-{rater}",
            "shown_at": "2026-03-04T10:00:00Z", "answered_at": "2026-03-04T10:00:01Z", "latency_s": 1.0,
            "position": position,
        }  # fmt: skip
        full.append({**defaults, **own})
    return full, list(steps.values())


def _note_step(steps: dict[Any, Any], place: Any, own: dict[str, Any], *columns: str) -> None:
    """Move what a row says of its step to the steps."""
    said = {name: own.pop(name) for name in columns if own.get(name) is not None}
    if said:
        known = steps.setdefault(place, {"episode_id": place[0], "step": place[1]})
        known.update({name: int(value) if name == "action" else value for name, value in said.items()})


def _fill(connection: duckdb.DuckDBPyConnection, name: str, rows: list[Mapping[str, Any]]) -> None:
    if not rows:
        return
    kinds = {column.strip('"'): kind for column, kind in TABLES[name].items()}
    used = [column for column in kinds if any(column in row for row in rows)]
    unknown = {column for row in rows for column in row} - set(kinds)
    assert not unknown, f"{name} has no column {unknown}"
    # one list a column: far quicker than executemany
    listed = ", ".join(f'"{column}"' for column in used)
    unnested = ", ".join(f"unnest(?::VARCHAR[])::{kinds[column]}" for column in used)
    values = [[_text(row.get(column)) for row in rows] for column in used]
    connection.execute(f"INSERT INTO {name} ({listed}) SELECT {unnested}", values)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return repr(value)
