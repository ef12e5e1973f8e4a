"""``sql``: one read-only query on a log's views."""

from pathlib import Path
from typing import Annotated

import duckdb
import typer

from rlhf_audit.cli import _console, _tables
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import UsageError

EXAMPLE = 'rlhf-audit sql study "SELECT rater_id, avg(value) FROM usable_for_audit GROUP BY ALL"'


def run(
    log_path: LogPath,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", show_default=False, help="One SELECT, in DuckDB's SQL.")
    ],
    as_json: AsJson = False,
) -> None:
    """Ask a read-only DuckDB one question.

    The views are feedback, steps, episodes, sessions, raters, grants, withdrawals, policies and
    more: SHOW TABLES names them. Only usable_for_training and usable_for_audit leave out what may
    not be used.
    """
    from rlhf_audit.cli._query import NotOneSelectError, fetch

    log = open_log(log_path)
    try:
        rows = fetch(log, query, only_select=True)
    except NotOneSelectError as error:
        raise UsageError(
            "that is not one SELECT",
            seen=str(error),
            needed="one query that only reads",
            fix="rlhf-audit sql LOG 'SHOW TABLES'",
        ) from error
    except duckdb.Error as error:
        raise UsageError(
            "DuckDB refuses that query",
            seen=_without_paths(str(error), log.layout.root),
            needed="a query on the log's views",
            fix="rlhf-audit sql LOG 'SHOW TABLES'",
        ) from error
    result = {"columns": rows.columns, "rows": rows.mappings()}
    _console.emit("sql", log.ledger.head, result, _tables.table(rows.columns, rows.values), as_json)


def _without_paths(message: str, root: Path) -> str:
    first = message.strip().split("\n")[0]
    return first.replace(str(root.resolve()), "LOG").replace(str(Path.home()), "~")[:240]
