"""Audits on Spark: each is SQL that Spark has, and says what DuckDB says; here, and on a cluster."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import audit_cases
import audit_panel
import duckdb
import pytest

from rlhf_audit.audits import catalogue, dialect, prepared, runner, spark, spark_session
from rlhf_audit.errors import UsageError
from rlhf_audit.log import views
from rlhf_audit.log.store import Log, create
from rlhf_audit.types import AuditResult

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data" / "panel"
FEW = ["severity"]
ON_CLUSTER = ["consent_validity", "agreement", "severity"]

sqlglot = pytest.importorskip("sqlglot", reason="the extra spark is not installed")


def _runs() -> str:
    try:
        import pyspark  # noqa: F401
    except ImportError:
        return "the extra spark is not installed"
    return "" if shutil.which("java") else "there is no Java"


NEEDS_SPARK = pytest.mark.skipif(bool(_runs()), reason=_runs())


def agree(given: Sequence[AuditResult], expected: Sequence[AuditResult]) -> None:
    """Compare every number of every row to 1e-9."""
    assert [one.id for one in given] == [one.id for one in expected]
    for one, other in zip(given, expected, strict=True):
        assert len(one.rows) == len(other.rows), one.id
        for row, wanted in zip(one.rows, other.rows, strict=True):
            assert asdict(row) == {
                name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
                for name, value in asdict(wanted).items()
            }, one.id


def by_duckdb(log: Log, ids: Sequence[str] | None = None) -> tuple[AuditResult, ...]:
    with views.connect(log, log.clock.now()) as connection:
        return runner.run(connection, ids)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a handful of rows: what is compiled and parted for millions costs more than it saves."""
    own = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    own |= {"spark.sql.adaptive.enabled": "false"}
    monkeypatch.setattr(spark_session, "_SETTINGS", spark_session._SETTINGS | own)
    monkeypatch.setattr(spark_session, "_LEAST_PARTS", 1)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")


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


@NEEDS_SPARK
def test_the_sample_log_on_this_machine(quick: None) -> None:
    log = Log(SAMPLE)
    with spark.SparkEngine(log, log.clock.now(), "local[1]") as engine:
        agree(runner.run_on(engine, FEW), by_duckdb(log, FEW))


def test_a_sealed_log_is_refused(tmp_path: Path) -> None:
    log = create(tmp_path / "log", sealed=True)
    with pytest.raises(UsageError, match="sealed"):
        spark.SparkEngine(log, log.clock.now(), "local[1]")


def test_without_java_java_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark", reason="the extra spark is not installed")
    monkeypatch.setattr(spark_session.shutil, "which", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    log = Log(SAMPLE)
    with pytest.raises(UsageError, match="Java 17"):
        spark.SparkEngine(log, log.clock.now(), "local[1]")


def test_without_the_extra_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    log = Log(SAMPLE)
    with pytest.raises(UsageError, match=r"rlhf-audit\[spark\]"):
        spark.SparkEngine(log, log.clock.now(), "local[1]")


@pytest.mark.sweep
@NEEDS_SPARK
def test_every_audit_on_this_machine(quick: None) -> None:
    log = Log(SAMPLE)
    with spark.SparkEngine(log, log.clock.now(), "local[2]") as engine:
        found = runner.run_on(engine)
    agree(found, by_duckdb(log))


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


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _started(main: str, *arguments: str, home: Path) -> subprocess.Popen[bytes]:
    import pyspark

    program = Path(pyspark.__file__).parent / "bin" / "spark-class"
    settings = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_WORKER_DIR": str(home), "SPARK_LOCAL_DIRS": str(home)}
    # The same secret as the driver's: nobody else may join.
    options = "-Dspark.authenticate=true -Dspark.authenticate.secret=of-this-test"
    settings |= {"SPARK_MASTER_OPTS": options, "SPARK_WORKER_OPTS": options, "SPARK_DAEMON_MEMORY": "256m"}
    return subprocess.Popen(
        [str(program), main, *arguments],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=(home / f"{main}.{time.monotonic_ns()}").open("wb"),
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A master and two workers, each a process of its own."""
    port = _free_port()
    address = ("--host", "127.0.0.1", "--port")
    started = [
        _started(
            "org.apache.spark.deploy.master.Master", *address, str(port), "--webui-port", "0", home=tmp_path
        )
    ]
    try:
        _until(lambda: _listens(port))
        where = f"spark://127.0.0.1:{port}"
        size = ("--cores", "1", "--memory", "700m", "--webui-port", "0")
        started += [
            _started("org.apache.spark.deploy.worker.Worker", *address, "0", *size, where, home=tmp_path)
            for _ in range(2)
        ]
        _until(lambda: _said(tmp_path, "Registering worker") == 2)
        yield where
    finally:
        for process in started:
            process.kill()
            process.wait()


def _until(happened: object, within_s: float = 90) -> None:
    end = time.monotonic() + within_s
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end, "the cluster did not start"
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def _said(home: Path, text: str) -> int:
    return sum(path.read_text(errors="replace").count(text) for path in home.glob("*.Master.*"))


@pytest.mark.sweep
@NEEDS_SPARK
def test_a_cluster_of_a_master_and_two_workers(cluster: str, tmp_path: Path) -> None:
    log = Log(SAMPLE)
    settings = tmp_path / "conf"
    settings.mkdir()
    (settings / "spark-defaults.conf").write_text(
        "spark.authenticate true\nspark.authenticate.secret of-this-test\nspark.network.crypto.enabled true\n"
        "spark.executor.memory 512m\nspark.driver.memory 512m\n"
    )
    program = "from rlhf_audit.cli.app import main; raise SystemExit(main())"
    command = [
        "-c",
        program,
        "audit",
        str(SAMPLE),
        *ON_CLUSTER,
        "--engine",
        "spark",
        "--master",
        cluster,
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, *command, "--fail-on", "never"],
        capture_output=True,
        timeout=900,
        cwd=ROOT,
        env={
            **os.environ,
            "SPARK_CONF_DIR": str(settings),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
        },
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = json.loads(done.stdout)["result"]["audits"]
    expected = by_duckdb(log, ON_CLUSTER)
    assert [one["id"] for one in found] == [one.id for one in expected]
    for one, wanted in zip(found, expected, strict=True):
        assert len(one["rows"]) == len(wanted.rows)
        for row, other in zip(one["rows"], wanted.rows, strict=True):
            assert row == {
                name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
                for name, value in asdict(other).items()
            }
    # Both workers had a part in it.
    assert len({path.parent for path in tmp_path.glob("app-*/*/stderr")}) == 2
