"""Where an audit's SQL is run. One engine so far; another needs three methods."""

from typing import Any, Protocol

import duckdb
import pyarrow as pa

from rlhf_audit.audits.prepared import Prepared
from rlhf_audit.log import views


class Engine(Protocol):
    """Runs SELECTs on the consented views."""

    def prepare(self, one: Prepared) -> None:
        """Make what several audits read, before the first of them."""
        ...

    def table(self, sql: str) -> pa.Table:
        """Return the rows of one SELECT as columns."""
        ...

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows in the SELECT's order, by column name, as Python numbers, strings and booleans."""
        ...


class DuckDBEngine:
    """The views of a log in DuckDB.

    Args:
        connection: Holds the views that the headers name; may be locked, as nothing is set on it.

    Determinism:
        Threads are left as they are: every audit adds up its DOUBLEs with ``sum(x ORDER BY x)``, which DuckDB
        sorts and adds in one go, so that neither the order of the rows nor the threads change a bit.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def prepare(self, one: Prepared) -> None:
        """Do as ``Engine`` says.

        Raises:
            LogError: A sealed file behind the views can't be read.
        """
        what = "TEMP TABLE" if one.kept else "TEMP VIEW"
        self._run(f"CREATE OR REPLACE {what} {one.name} AS\n{one.sql}")

    def table(self, sql: str) -> pa.Table:
        """Do as ``Engine`` says, and raise as ``prepare`` does."""
        return self._run(sql).to_arrow_table()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Do as ``Engine`` says, and raise as ``prepare`` does."""
        cursor = self._run(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(sql)
        except duckdb.InterruptException as error:
            raise KeyboardInterrupt from error
        except duckdb.Error as error:
            # Where all files are whole it is a bug in the audit.
            raise views.damaged_file(self._connection) or error from error
