"""Where an audit's SQL is run: three methods."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from rlhf_audit.audits.prepared import BLOCK, Parts, Prepared
from rlhf_audit.log import views

_PIECE = 250_000
"""Rows that are prepared at a time: as a table they take 50 MB until they are compressed."""
_PIECES = 12
"""Most pieces by rater: for each all items are looked through."""


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

    What is prepared is kept in memory, compressed, and made some raters at a time: so neither the log nor a
    table of all its rows is ever in memory whole, and nothing is written to a temporary file.

    Args:
        connection: Holds the views that the headers name, and ``files``; may be locked, as nothing is set on
            it.

    Determinism:
        Threads are left as they are: every audit adds up its DOUBLEs with ``sum(x ORDER BY x)``, which DuckDB
        sorts and adds in one go, so that neither the order of the rows nor the threads change a bit.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._raters: tuple[str, ...] = ()
        self._n_items: int | None = None

    def prepare(self, one: Prepared) -> None:
        """Do as ``Engine`` says.

        Raises:
            LogError: A sealed file behind the views can't be read.
        """
        if not one.kept:
            self._run(f"CREATE OR REPLACE TEMP VIEW {one.name} AS\n{one.sql}")
            return
        self._run("ATTACH IF NOT EXISTS ':memory:' AS prepared (COMPRESS)")
        kept = f"prepared.{one.name}"
        self._run(f"CREATE OR REPLACE TABLE {kept} AS SELECT * FROM (\n{one.sql}\n) LIMIT 0")
        for piece in self._pieces(one.parts):
            self._run(f"INSERT INTO {kept} SELECT * FROM (\n{one.sql}\n) WHERE {piece}")
            # It is compressed by that, and only then.
            self._run("CHECKPOINT prepared")
        self._run(f"CREATE OR REPLACE TEMP VIEW {one.name} AS SELECT * FROM {kept}")
        for name in one.spends:
            self._run(f"DROP VIEW {name}")
            self._run(f"DROP TABLE prepared.{name}")

    def table(self, sql: str) -> pa.Table:
        """Do as ``Engine`` says, and raise as ``prepare`` does."""
        with self._telling():
            return self._connection.sql(sql).to_arrow_table()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Do as ``Engine`` says, and raise as ``prepare`` does."""
        cursor = self._run(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _pieces(self, parts: Parts) -> Sequence[str]:
        """Return conditions that part all rows into pieces of about as many."""
        if parts is Parts.RATERS:
            self._raters = self._raters or tuple(self._by_rater())
            return self._raters
        if parts is Parts.WHOLE:
            return ["TRUE"]
        if self._n_items is None:
            ((n_items,),) = self._run("SELECT count(*) FROM numbered").fetchall()
            self._n_items = int(n_items)
        starts = range(0, self._n_items, BLOCK)
        if parts is Parts.ITEMS:
            return [f"item > {start} AND item <= {start + BLOCK}" for start in starts]
        return [f"block = {start // BLOCK}" for start in starts]

    def _by_rater(self) -> Iterator[str]:
        found = self._run(
            "SELECT rater_id, CAST(sum(rows) AS BIGINT) FROM files WHERE rater_id IS NOT NULL "
            "GROUP BY rater_id ORDER BY rater_id"
        ).fetchall()
        most = max(_PIECE, sum(rows for _, rows in found) / _PIECES)
        first, held = [], 0
        for rater_id, rows in found:
            if held + rows > most and held:
                first.append(rater_id)
                held = 0
            held += rows
        # Open at both ends: whoever `files` does not name is in a piece as well.
        for start, end in itertools.pairwise([None, *first, None]):
            bounds = [f"rater_id >= '{start}'"] if start else []
            bounds += [f"rater_id < '{end}'"] if end else []
            yield " AND ".join(bounds) or "TRUE"

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        with self._telling():
            return self._connection.execute(sql)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException as error:
            raise KeyboardInterrupt from error
        except duckdb.Error as error:
            # Where all files are whole it is a bug in the audit.
            raise views.damaged_file(self._connection) or error from error
