"""The same audits on Spark: on this machine, or on a cluster that sees the log's files under the same path.

What the ledger says (grants, sessions, withdrawals …) is small: DuckDB makes those views from the lines that
were checked, and Spark is handed their rows. Feedback, steps and episodes Spark reads itself, from the sealed
Parquet files that the ledger names, through the very text of log/row_views.sql: one definition of consent.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlhf_audit.audits import dialect, spark_session
from rlhf_audit.audits.prepared import Prepared
from rlhf_audit.errors import UsageError
from rlhf_audit.log import view_sql, viewed, views
from rlhf_audit.log.store import Log

_BY_SPARK = (
    "episodes",
    "steps",
    "feedback",
    "superseded",
    "granted",
    "consented",
    "usable",
    "usable_for_training",
    "usable_for_audit",
    "skips_for_audit",
)
"""Views of log/row_views.sql that read sealed files, each after those that it reads."""

_TYPES = {"VARCHAR": "string", "TIMESTAMPTZ": "timestamp", "DOUBLE[]": "array<double>"}
"""Spark's names of DuckDB's types, where they differ."""


class SparkEngine:
    """The views of a log in Spark.

    Args:
        log: Not sealed: Spark has none of the raters' keys.
        as_of: Consent, expiry and deadlines are judged at this moment.
        master: Spark's name of where to run.

    Raises:
        UsageError: The log is sealed, the extra or Java is not installed, or ``master`` is no name of one.
        DamagedError: No cluster answers there, or it gives no worker.
        LogError: The log can't be read.

    Determinism:
        Sums are not sorted: rows agree with DuckDB's to 1e-9, not to the bit.
    """

    def __init__(self, log: Log, as_of: datetime, master: str) -> None:
        _check(log)
        spark_session.check(master)
        self._connection = views.connect(log, as_of)
        try:
            self._spark = spark_session.start(master)
        except BaseException:
            self._connection.close()
            raise
        self._made: set[str] = set()
        self._asked = 0
        self._files = viewed.files(log)
        self._feedback = log.layout.feedback
        self._texts = {
            name: body
            for name, body in {**view_sql.of_ledger(as_of), **view_sql.of_rows()}.items()
            if name in _BY_SPARK
        }

    def __enter__(self) -> "SparkEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the cluster back."""
        with warnings.catch_warnings(action="ignore"):
            # Of a Java process that was stopped together with this one.
            self._spark.stop()
        self._connection.close()

    def prepare(self, one: Prepared) -> None:
        """Make what several audits read.

        Raises:
            LogError: A sealed file can't be read.
        """
        with self._told():
            self._kept(self._frame(one.sql)).createOrReplaceTempView(one.name)
        self._made.add(one.name)
        for name in one.spends:
            self._spark.catalog.dropTempView(name)
            self._made.discard(name)

    def table(self, sql: str) -> pa.Table:
        """Return the rows of one SELECT as columns, and raise as ``prepare`` does."""
        with self._told():
            return self._frame(sql).toArrow()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows, by column name, and raise as ``table`` does."""
        rows: list[dict[str, Any]] = self.table(sql).to_pylist()
        return rows

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            with spark_session.watched(self._spark):
                yield
        except (PySparkException, Py4JError) as error:
            # Where all files are whole, and Spark goes on, it is a bug in the audit.
            raise views.damaged_file(self._connection) or spark_session.told(error) or error from error

    def _frame(self, sql: str) -> Any:
        for name in sorted(dialect.tables(sql) - self._made):
            self._make(name)
        self._asked += 1
        *before, last = dialect.parts(sql, f"part_{self._asked}_")
        for part in before:
            frame = self._spark.sql(part.sql)
            (self._kept(frame) if part.shared else frame).createOrReplaceTempView(part.name)
        frame = self._spark.sql(last.sql)
        for part in before:
            self._spark.catalog.dropTempView(part.name)
        return frame

    def _kept(self, frame: Any) -> Any:
        """Make a frame's rows now, and keep them in the executors.

        A frame that is merely cached is still planned anew, with all that it reads, wherever it is read: of
        parts that read each other twice, in ever so many copies.
        """
        return frame.localCheckpoint()

    def _make(self, name: str) -> None:
        """Make a view of the log, after those that it reads; other names are the SELECT's own."""
        if name in self._made:
            return
        if name in self._texts:
            self._made.add(name)
            self._frame(self._texts[name]).createOrReplaceTempView(name)
        elif name in view_sql.COLUMNS:
            self._made.add(name)
            self._read(name)
        elif name in _small(self._connection):
            self._made.add(name)
            rows = _plain(views.query(self._connection, f"SELECT * FROM {name}"))
            self._handed_over(rows).createOrReplaceTempView(name)

    def _handed_over(self, rows: pa.Table) -> Any:
        from pyspark.sql.pandas.types import from_arrow_schema

        # PySpark makes no frame of an Arrow table without rows.
        return self._spark.createDataFrame(*((rows,) if len(rows) else ([], from_arrow_schema(rows.schema))))

    def _read(self, view: str) -> None:
        """Make one of the three views that read files."""
        columns = view_sql.COLUMNS[view]
        frames = [
            self._parquet(kind, paths).selectExpr(*_selected(kind, columns))
            for kind, paths in self._files.items()
            if kind.view == view
        ]
        if not frames:
            shape = ", ".join(f"`{name}` {_type(kind)}" for name, kind in columns.items())
            frames = [self._spark.createDataFrame([], shape)]
        whole = frames[0]
        for frame in frames[1:]:
            whole = whole.unionAll(frame)
        whole.createOrReplaceTempView(view)

    def _parquet(self, kind: viewed.Kind, paths: Sequence[Path]) -> Any:
        reader = self._spark.read
        if kind.view == "feedback_rows":
            reader = reader.option("basePath", f"file://{self._feedback.resolve()}")
        return reader.parquet(*map(_address, paths))


def _selected(kind: viewed.Kind, columns: Mapping[str, str]) -> list[str]:
    """Return the view's columns; what is no vector or no single number is NULL there, as in views.py."""
    kept = {"observation": kind.vector, "final_observation": kind.vector, "action": kind.number}
    if kind.view == "feedback_rows":
        kept = {}
    found = []
    for name, sql_type in columns.items():
        value = f"`{name}`" if kept.get(name, True) else "NULL"
        if name == "env_id" and kind.env_id:
            value = "'" + kind.env_id.replace("'", "\\'") + "'"
        found.append(f"CAST({value} AS {_type(sql_type)}) AS `{name}`")
    return found


def _address(path: Path) -> str:
    """Return a path as Spark takes it: nothing in it is a pattern, or stands for another character."""
    return "file://" + re.sub(r"([\\*?\[\]{}])", r"\\\1", str(path.resolve()))


def _type(sql_type: str) -> str:
    return _TYPES.get(sql_type, sql_type)


def _small(connection: Any) -> set[str]:
    found = connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
    return {name for (name,) in found} - {"ledger_lines", "sealed_slices"}


def _plain(rows: pa.Table) -> pa.Table:
    """Return rows without types that Spark does not know (DuckDB's JSON)."""
    fields = [
        pa.field(
            field.name,
            field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type,
        )
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def _check(log: Log) -> None:
    if log.is_sealed:
        raise UsageError(
            "a sealed log can't be read by Spark",
            seen="answers that are encrypted under each rater's key",
            needed="a log that `init` made without --sealed; keys never leave this machine",
            fix="leave --engine spark out",
        )
