"""``sql``: one read-only query on a log's views."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import duckdb
import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import UsageError
from rlhf_audit.log.store import Log

EXAMPLE = 'rlhf-audit sql study "SELECT rater_id, avg(value) FROM usable_for_audit GROUP BY ALL"'


def run(
    log_path: LogPath,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", show_default=False, help="One SELECT, in DuckDB's SQL.")
    ],
    as_json: AsJson = False,
) -> None:
    """Ask a read-only DuckDB: feedback, steps, episodes, sessions, raters, grants, withdrawals, policies, …

    Only usable_for_training and usable_for_audit leave out what may not be used. SHOW TABLES names all.
    """
    log = open_log(log_path)
    columns, rows = select(log, query)
    result = {"columns": columns, "rows": [dict(zip(columns, row, strict=True)) for row in rows]}
    _console.emit("sql", log.ledger.head, result, _console.table(columns, rows), as_json)


def select(log: Log, query: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    """Return the column names and rows of one SELECT.

    Raises:
        UsageError: It is not one SELECT, or DuckDB refuses it.
    """
    from rlhf_audit.log import views

    connection = views.connect(log, log.clock.now())
    try:
        statements = connection.extract_statements(query)
        # COPY would write into the log's own folders, which the views have to read.
        if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
            raise UsageError(
                "that is not one SELECT",
                seen=", ".join(one.type.name for one in statements) or "nothing",
                needed="one query that only reads",
                fix=f"rlhf-audit sql LOG 'SHOW TABLES'",
            )
        cursor = connection.execute(statements[0])
        return _unique([column[0] for column in cursor.description]), cursor.fetchall()
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        raise UsageError(
            "DuckDB refuses that query",
            seen=_without_paths(str(error), log.layout.root),
            needed="a query on the log's views",
            fix="rlhf-audit sql LOG 'SHOW TABLES'",
        ) from error
    finally:
        connection.close()


def _without_paths(message: str, root: Path) -> str:
    first = message.strip().split("\n")[0]
    return first.replace(str(root.resolve()), "LOG").replace(str(Path.home()), "~")[:240]


def _unique(names: list[str]) -> list[str]:
    """Number the columns that have a name twice, so that a row can be a mapping."""
    return [name if name not in names[:i] else f"{name}_{i}" for i, name in enumerate(names)]
