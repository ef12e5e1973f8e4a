"""What the tests of Spark share: whether it is here, a quick session, a cluster, how rows are compared."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlhf_audit.audits import runner, spark_session
from rlhf_audit.log import views
from rlhf_audit.log.store import Log
from rlhf_audit.types import AuditResult

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data" / "panel"
_SECRET = "of-this-test"


def _lacks() -> str:
    try:
        import pyspark  # noqa: F401
        import sqlglot  # noqa: F401
    except ImportError:
        return "the extra spark is not installed"
    return "" if shutil.which("java") else "there is no Java"


NEEDS_SPARK = pytest.mark.skipif(bool(_lacks()), reason=_lacks())


def same(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Compare every number to 1e-9, and all else exactly."""
    return row == {
        name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
        for name, value in expected.items()
    }


def agree(given: Sequence[AuditResult], expected: Sequence[AuditResult]) -> None:
    """Compare all rows of all audits."""
    assert [one.id for one in given] == [one.id for one in expected]
    for one, other in zip(given, expected, strict=True):
        assert len(one.rows) == len(other.rows), one.id
        wrong = [
            (row, wanted)
            for row, wanted in zip(one.rows, other.rows, strict=True)
            if not same(asdict(row), asdict(wanted))
        ]
        assert not wrong, f"{one.id}: {wrong[:3]}"


def by_duckdb(log: Log, ids: Sequence[str] | None = None) -> tuple[AuditResult, ...]:
    with views.connect(log, log.clock.now()) as connection:
        return runner.run(connection, ids)


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a handful of rows: what is compiled and parted for millions costs more than it saves."""
    own = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    own |= {"spark.sql.adaptive.enabled": "false"}
    monkeypatch.setattr(spark_session, "_SETTINGS", spark_session._SETTINGS | own)
    monkeypatch.setattr(spark_session, "_LEAST_PARTS", 1)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--driver-java-options '{QUICK_JAVA}' pyspark-shell")


QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Java's own way to say the same."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def cluster(home: Path, n_workers: int, around: Sequence[str] = ()) -> Iterator[str]:
    """Start a master and workers, each a process of its own; what they do lies in ``home``.

    Args:
        home: An empty folder.
        n_workers: Of one core each.
        around: The command that runs a worker's.
    """
    port = free_port()
    address = ("--host", "127.0.0.1", "--webui-port", "0", "--port")
    where = f"spark://127.0.0.1:{port}"
    size = ("--cores", "1", "--memory", "700m")
    started = [_started("master.Master", *address, str(port), home=home)]
    try:
        _until(lambda: _listens(port))
        for _ in range(n_workers):
            started.append(_started("worker.Worker", *address, "0", *size, where, home=home, around=around))
        _until(lambda: _registered(home) == n_workers)
        yield where
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def environment(home: Path) -> dict[str, str]:
    """Return that of a driver that may join such a cluster."""
    folder = home / "conf"
    folder.mkdir(exist_ok=True)
    (folder / "spark-defaults.conf").write_text(
        f"spark.authenticate true\nspark.authenticate.secret {_SECRET}\nspark.network.crypto.enabled true\n"
        "spark.executor.memory 512m\nspark.driver.memory 512m\n"
        f"spark.driver.extraJavaOptions {QUICK_JAVA}\nspark.executor.extraJavaOptions {QUICK_JAVA}\n"
    )
    own = {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own}


def tasks_of_executors(home: Path) -> list[int]:
    """Return how many tasks each worker's executors have ended, as they themselves tell."""
    told = sorted(home.glob("app-*/*/stderr"))
    return [path.read_text(errors="replace").count("Finished task ") for path in told]


def _started(main: str, *arguments: str, home: Path, around: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    import pyspark

    program = Path(pyspark.__file__).parent / "bin" / "spark-class"
    settings = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_WORKER_DIR": str(home), "SPARK_LOCAL_DIRS": str(home)}
    # The same secret as the driver's: nobody else may join.
    options = f"-Dspark.authenticate=true -Dspark.authenticate.secret={_SECRET}"
    settings |= {"SPARK_MASTER_OPTS": options, "SPARK_WORKER_OPTS": options, "SPARK_DAEMON_MEMORY": "256m"}
    with (home / f"{main}.{time.monotonic_ns()}").open("wb") as told:
        return subprocess.Popen(
            [*around, str(program), f"org.apache.spark.deploy.{main}", *arguments],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=told,
        )


def _until(happened: Callable[[], bool], within_s: float = 120) -> None:
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end, "the cluster did not start"
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def _registered(home: Path) -> int:
    logs = home.glob("master.Master.*")
    return sum(path.read_text(errors="replace").count("Registering worker") for path in logs)
