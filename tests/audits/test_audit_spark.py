"""Audits on Spark: each is SQL that Spark has, and says what DuckDB says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audit_cases
import audit_panel
import audit_rich_log
import duckdb
import pytest
from audit_spark import NEEDS_SPARK, SAMPLE, agree, by_duckdb, quickly

from rlhf_audit.audits import catalogue, dialect, prepared, runner, spark, spark_session
from rlhf_audit.log.store import Log

sqlglot = pytest.importorskip("sqlglot", reason="the extra spark is not installed")


@pytest.mark.parametrize("name", [*catalogue.load(), *prepared.load()])
def test_each_select_is_one_for_spark_too(name: str) -> None:
    one = prepared.load().get(name)
    sql = one.sql if one else runner.printable_sql(catalogue.find(name))
    parts = dialect.parts(sql, "part_")
    for part in parts:
        (statement,) = sqlglot.parse(part.sql, read="spark")
        assert isinstance(statement, sqlglot.exp.Query)
        # No aggregate there takes an order.
        assert not [node for node in statement.find_all(sqlglot.exp.Sum) if node.find(sqlglot.exp.Order)]
    made = {part.name for part in parts}
    assert "" in made
    assert len(made) == len(parts)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sum(x ORDER BY x)", "SUM(x)"),
        ("list(x ORDER BY x DESC, y)", "SORT_ARRAY(COLLECT_LIST(x), FALSE)"),
        ("max_by(v, (a, b))", "MAX_BY(v, STRUCT(a, b))"),
        ("groups[name]", "TRY_ELEMENT_AT(groups, name)"),
        ("times[2]", "TRY_ELEMENT_AT(times, 2)"),
        ("groups['site']", "TRY_ELEMENT_AT(groups, 'site')"),
        ("a / nullif(b, 0)", "a / NULLIF(b, 0)"),
        ("quantile_cont(x, 0.5)", "PERCENTILE(x, CAST(0.5 AS DOUBLE))"),
        ("concat(n, 'x')", "CONCAT(COALESCE(CAST(n AS STRING), ''), 'x')"),
        ("a / b", "(CASE WHEN b = 0 THEN (a) * CAST('Infinity' AS DOUBLE) ELSE a / b END)"),
        ("a / 2", "a / 2"),
    ],
)
def test_what_sqlglot_leaves_behind(given: str, expected: str) -> None:
    assert dialect.to_spark(f"SELECT {given} FROM t") == f"SELECT {expected} FROM t"


def test_what_stands_behind_with_is_run_apart_and_may_hide_a_view() -> None:
    behind = "items AS (SELECT a FROM items), b AS (SELECT a FROM items)"
    sql = f"WITH {behind} SELECT items.a FROM items JOIN b USING (a)"
    first, second, last = dialect.parts(sql, "p_")
    assert (first.name, first.sql, first.shared) == ("p_items", "SELECT a FROM items", True)
    assert (second.name, second.sql, second.shared) == ("p_b", "SELECT a FROM p_items AS items", False)
    assert last.sql == "SELECT items.a FROM p_items AS items JOIN p_b AS b USING (a)"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@NEEDS_SPARK
def test_the_sample_log_on_this_machine(quick: None) -> None:
    log = Log(SAMPLE)
    with spark.SparkEngine(log, log.clock.now(), "local[1]") as engine:
        agree(runner.run_on(engine, ["severity"]), by_duckdb(log, ["severity"]))
        # What is prepared is read from where it is kept: no audit makes it again, nor reads the files for it.
        plan = engine._spark.table("ratings")._jdf.queryExecution().toString()
        assert "ExistingRDD" in plan and "FileScan" not in plan and "Join" not in plan


@pytest.mark.sweep
@NEEDS_SPARK
def test_every_audit_on_a_log_that_has_something_for_each(quick: None, tmp_path: Path) -> None:
    log = audit_rich_log.make(tmp_path / "log")
    expected = by_duckdb(log)
    for one in expected:
        assert any(row.value is not None and row.note != "insufficient" for row in one.rows), one.id
    with spark.SparkEngine(log, log.clock.now(), "local[2]") as engine:
        agree(runner.run_on(engine), expected)


class OnRows(spark.SparkEngine):
    """Reads what a case folder holds, and no log."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, session: Any) -> None:
        self._connection, self._spark = connection, session
        self._made: set[str] = set()
        self._asked = 0
        self._texts, self._files = {}, {}


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        quickly(patch)
        made = spark_session.start("local[1]")
    yield made
    made.stop()


@pytest.mark.sweep
@NEEDS_SPARK
@pytest.mark.parametrize("case", audit_cases.CASES, ids=audit_cases.name)
def test_every_case_folder(case: Path, session: Any) -> None:
    tables = {
        path.stem: audit_panel.read_csv(path)
        for path in sorted(case.glob("*.csv"))
        if path.stem not in ("given", "expected")
    }
    with audit_panel.connect(audit_panel.read_csv(case / "given.csv"), **tables) as connection:
        found = runner.run_on(OnRows(connection, session), [case.parent.name])
    agree(found, [audit_cases.run_case(case)])
