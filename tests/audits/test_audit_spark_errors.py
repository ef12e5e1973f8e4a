"""What a user is told where Spark can't run: three lines, the right code, in a bounded time, no traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from audit_spark import NEEDS_SPARK, SAMPLE, cluster, environment, free_port

from rlhf_audit.audits import spark_session
from rlhf_audit.cli.app import main
from rlhf_audit.errors import DamagedError
from rlhf_audit.log.store import create

AUDIT = ["audit", str(SAMPLE), "severity", "--engine", "spark", "--fail-on", "never"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and the three lines."""
    code = main([*AUDIT, *arguments])
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith("error: ") and len(told.rstrip().split("\n")) == 3, told
    return code, told


def java(folder: Path, version: str) -> str:
    """Make a Java that says its version, and ends whenever it is to do something."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n"
        "[ \"$1\" = -version ] || { echo 'no room for the heap' >&2; exit 1; }\n"
    )
    program.chmod(0o755)
    return str(folder)


def test_a_sealed_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(tmp_path / "log", sealed=True)
    assert main(["audit", str(tmp_path / "log"), "--engine", "spark"]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.split("\n")[0] == "error: a sealed log can't be read by Spark"
    assert "keys never leave this machine" in told and "leave --engine spark out" in told


def test_without_the_extra_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    code, told = refused(capsys)
    assert code == 2 and "rlhf-audit[spark]" in told


class TestBeforeItBegins:
    @pytest.fixture(autouse=True)
    def _there(self) -> None:
        pytest.importorskip("pyspark", reason="the extra spark is not installed")

    def test_without_java_java_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(spark_session.shutil, "which", lambda name: None)
        monkeypatch.delenv("JAVA_HOME", raising=False)
        code, told = refused(capsys)
        assert code == 2 and "no program java" in told and "openjdk-17" in told

    def test_a_java_home_without_java(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        code, told = refused(capsys)
        assert code == 2 and "unset JAVA_HOME" in told and str(tmp_path) not in told

    @pytest.mark.parametrize(
        ("version", "code", "seen"),
        [("11.0.2", 2, "Java 11"), ("1.8.0", 2, "Java 8"), ("17.0.9", 4, "no room")],
    )
    def test_a_java_that_ends_at_once(
        self,
        version: str,
        code: int,
        seen: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        spark_session._virtual_machine.cache_clear()
        monkeypatch.setenv("JAVA_HOME", java(tmp_path, version))
        given, told = refused(capsys)
        assert given == code and seen in told and str(tmp_path) not in told

    @pytest.mark.parametrize("master", ["somewhere", "local[many]", "spark://host", "sc://host:1", ""])
    def test_what_is_no_master(
        self, master: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(spark_session.shutil, "which", lambda name: name)
        code, told = refused(capsys, "--master", master)
        assert code == 2 and repr(master) in told

    def test_a_master_that_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(spark_session.shutil, "which", lambda name: name)
        monkeypatch.setattr(spark_session, "_virtual_machine", lambda: pytest.fail("Java was started"))
        masters = f"spark://127.0.0.1:{free_port()},[::1]:{free_port()}"
        code, told = refused(capsys, "--master", masters)
        assert code == 4 and masters in told and "local[*]" in told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error", "a worker of Spark's can't read the log"),
        (
            "x\n: java.io.FileNotFoundException: y (Permission denied)",
            "a worker of Spark's can't read the log",
        ),
        ("Job 3 cancelled because SparkContext was shut down", "Spark stopped before it was done"),
        ("x\n: org.apache.spark.SparkException: Job aborted due to stage failure", "Spark stopped before"),
    ],
)
def test_what_spark_met(message: str, told: str) -> None:
    found = spark_session.told(RuntimeError(message))
    assert isinstance(found, DamagedError) and str(found).startswith(told)
    assert len(str(found).split("\n")) == 3


def test_a_bug_in_an_audit_stays_one() -> None:
    assert spark_session.told(ValueError("[UNRESOLVED_COLUMN] no such column")) is None


@pytest.mark.sweep
@NEEDS_SPARK
def test_a_cluster_without_workers(tmp_path: Path) -> None:
    with cluster(tmp_path, 0) as master:
        done = on(master, environment(tmp_path), waits=3)
    assert done.returncode == 4 and done.stdout == ""
    assert done.stderr.startswith("error: the Spark cluster gives us no worker\n  seen: none within 3 s;")
    assert "512m" in done.stderr and done.stderr.count("\n") == 3


@pytest.mark.sweep
@NEEDS_SPARK
@pytest.mark.skipif(
    not shutil.which("unshare") or os.geteuid() != 0, reason="only root can hide a folder from a worker"
)
def test_workers_that_do_not_see_the_log(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "hidden" / "log")
    hide = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none "$0" && exec "$@"',
        str(tmp_path / "hidden"),
    ]
    if subprocess.run([*hide, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace here")
    with cluster(tmp_path, 1, hide) as master:
        done = on(master, environment(tmp_path), log=tmp_path / "hidden" / "log")
    assert done.returncode == 4 and done.stdout == ""
    assert done.stderr.startswith("error: a worker of Spark's can't read the log\n")
    assert done.stderr.count("\n") == 3


def on(
    master: str, environment: dict[str, str], log: Path = SAMPLE, waits: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run an audit there as a user does, who has less patience."""
    program = (
        "from rlhf_audit.audits import spark_session\n"
        "from rlhf_audit.cli.app import main\n"
        f"spark_session._WORKS_WITHIN_S = {waits!r}\n"
        "raise SystemExit(main())"
    )
    arguments = [*AUDIT[:1], str(log), *AUDIT[2:], "--master", master, "--json"]
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
