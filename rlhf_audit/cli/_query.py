"""Rows out of a log's views, as ``show`` and ``sql`` print them."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb

from rlhf_audit.errors import UsageError
from rlhf_audit.log import views
from rlhf_audit.log.store import Log


@dataclass(frozen=True)
class Rows:
    """What a query gave; a name that comes twice is numbered, so that a row can be a mapping."""

    columns: Sequence[str]
    values: Sequence[Sequence[Any]]

    def mappings(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.values]


def fetch(log: Log, sql: str, values: Mapping[str, object] | None = None, only_select: bool = False) -> Rows:
    """Return a query's rows.

    Args:
        log: Whose views.
        sql: DuckDB's SQL.
        values: For its ``$names``.
        only_select: Refuse all but one SELECT.

    Raises:
        NotOneSelectError: It is something else.
        duckdb.Error: DuckDB refuses it.
        LogError: A sealed file that it read is damaged.
    """
    with closing(views.connect(log, log.clock.now())) as connection:
        if only_select:
            statements = connection.extract_statements(sql)
            # COPY would write into the log's own folders, which the views have to read.
            if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
                raise NotOneSelectError([one.type.name for one in statements])
        try:
            # By way of Arrow: DuckDB itself gives times with a zone only where pytz is installed.
            found = connection.sql(sql, params=dict(values or {})).to_arrow_table()
        except duckdb.InterruptException as error:
            raise KeyboardInterrupt from error
        except (duckdb.ParserException, duckdb.CatalogException, duckdb.PermissionException):
            raise
        except duckdb.Error as error:
            if log.refreshed():
                # Files that it read may have been merged into others meanwhile.
                return fetch(log, sql, values, only_select)
            # The query's fault, unless a file that it read is damaged.
            raise views.damaged_file(connection) or error from error
        except (TypeError, UnicodeError) as error:
            raise UsageError(
                "the query is not text in UTF-8", seen="half a character", needed="one query in UTF-8"
            ) from error
    names = list(found.column_names)
    columns = [name if name not in names[:i] else f"{name}_{i}" for i, name in enumerate(names)]
    try:
        lists = [column.to_pylist(maps_as_pydicts="lossy") for column in found.columns]
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UsageError(
            "the answer holds a value that can't be shown",
            seen="a date, a number or a key beyond what Python can hold",
            needed="a value of another type",
            fix="cast it in the query: CAST(… AS VARCHAR)",
        ) from error
    return Rows(columns, list(zip(*lists, strict=True)))


class NotOneSelectError(ValueError):
    """A query that is not one SELECT; ``kinds`` says what it is."""

    def __init__(self, kinds: list[str]) -> None:
        super().__init__(", ".join(kinds) or "nothing")
