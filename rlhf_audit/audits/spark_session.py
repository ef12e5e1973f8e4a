"""How a session of Spark begins, and what a user is told where it does not, or where it ends too soon."""

import contextlib
import functools
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlhf_audit.errors import DamagedError, UsageError

_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    # A cast or a division that fails is NULL, as in DuckDB's TRY_CAST; `dialect` sees to infinities.
    "spark.sql.ansi.enabled": "false",
    # `rater_id` comes from the folders' names: a text, whatever it looks like.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # What is shuffled through temporary files is people's answers.
    "spark.io.encryption.enabled": "true",
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
}

_LEAST_PARTS = 4
"""Into how many parts rows are shuffled, at the least."""

_ADDRESS = r"(?:\[[0-9A-Fa-f:]+\]|[^:,\s\[\]]+):\d+"
_STANDALONE = re.compile(rf"spark://({_ADDRESS}(?:,{_ADDRESS})*)")
_MASTERS = re.compile(
    rf"local(\[(\*|\d+)(, *\d+)?\])?|local-cluster\[.+\]|yarn|k8s://.+|{_STANDALONE.pattern}"
)

_LEAST_JAVA = 17
_ANSWERS_WITHIN_S = 5.0
"""So long a master may take to be reached: Spark itself tries for a minute before it gives up."""
_WORKS_WITHIN_S = 60.0
"""So long a standalone cluster may be without a worker for us: Spark itself waits for ever."""
_LOOKS_EVERY_S = 2.0

_UNSEEN = ("FILE_NOT_EXIST", "PATH_NOT_FOUND", "FileNotFoundException", "AccessDeniedException")
_BROKEN = ("Job aborted", "SparkContext was shut down", "stopped SparkContext", "OutOfMemoryError")
_HERE = "--master 'local[*]', to run on this machine"
_LESS = "leave --engine spark out"


def check(master: str) -> None:
    """See to it that there is what Spark needs, before anything is begun.

    Raises:
        UsageError: The extra is not installed, there is no Java, or ``master`` is no name of one.
    """
    try:
        import pyspark
        import sqlglot  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the engine spark is not installed",
            seen=f"no module {error.name}",
            needed="the extra spark: PySpark and sqlglot",
            fix="pip install 'rlhf-audit[spark]'",
        ) from error
    del pyspark
    if not shutil.which(_java()):
        home = os.environ.get("JAVA_HOME")
        raise UsageError(
            "the engine spark needs Java",
            seen="JAVA_HOME, and no program bin/java in it" if home else "no program java, and no JAVA_HOME",
            needed=f"Java {_LEAST_JAVA}",
            fix="apt install openjdk-17-jre-headless" + (", and unset JAVA_HOME" if home else ""),
        )
    if not _MASTERS.fullmatch(master):
        raise UsageError(
            "that is no master of Spark's",
            seen=repr(master),
            needed="local[N], local[*], spark://HOST:PORT, yarn or k8s://…",
            fix=_HERE,
        )


def start(master: str) -> Any:
    """Return a session of Spark.

    Args:
        master: Spark's name of where to run, after ``check``.

    Raises:
        UsageError: This Java is too old.
        DamagedError: No cluster answers there, or it gives no worker.
    """
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    standalone = _STANDALONE.fullmatch(master)
    if standalone and not any(map(_is_reached, standalone[1].split(","))):
        raise _no_cluster(f"nothing that answers at {master}")
    gateway = _virtual_machine()
    settings = {**_SETTINGS, "spark.master": master, "spark.app.name": "rlhf-audit"}
    try:
        with _interrupted_as_before():
            context = SparkContext(conf=SparkConf().setAll([*settings.items()]), gateway=gateway)
        try:
            if standalone:
                _wait_for_workers(context)
            parallel = context.defaultParallelism
            spark = SparkSession(context)
        except BaseException:
            context.stop()
            raise
    except (PySparkException, Py4JError) as error:
        ended = "stopped SparkContext" in str(error)
        seen = f"whatever answers at {master} takes no application" if ended else _first(error)
        raise _no_cluster(seen) from error
    parts = max(_LEAST_PARTS, 2 * parallel if parallel > 1 else 1)
    spark.conf.set("spark.sql.shuffle.partitions", str(parts))
    return spark


@contextlib.contextmanager
def _interrupted_as_before() -> Iterator[None]:
    """Keep Ctrl-C as it is: PySpark's handler asks Java over a connection that is being read from."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def watched(spark: Any) -> Iterator[None]:
    """Stop a session whose standalone cluster has lost every worker: Spark itself would wait for ever."""
    done = threading.Event()

    def watch() -> None:
        from py4j.protocol import Py4JError

        without = 0.0
        while not done.wait(_LOOKS_EVERY_S):
            try:
                without = 0.0 if _has_workers(spark.sparkContext) else without + _LOOKS_EVERY_S
                if without >= _WORKS_WITHIN_S:
                    spark.stop()
                    done.set()
            except Py4JError:
                # It has stopped by itself: whoever waits for it is told.
                done.set()

    watching = threading.Thread(target=watch, name="rlhf-audit-spark", daemon=True)
    if _STANDALONE.fullmatch(spark.sparkContext.master):
        watching.start()
    try:
        yield
    finally:
        done.set()
        if watching.is_alive():
            watching.join()


def told(error: Exception) -> DamagedError | None:
    """Return what a user is told of an error that Spark met; None of one that is a bug in an audit."""
    text = str(error)
    if any(word in text for word in _UNSEEN):
        return DamagedError(
            "a worker of Spark's can't read the log",
            seen="a sealed file that can be read here, but not there",
            needed="the log's folder under the same path on each worker, for the user that Spark runs as",
            fix=_HERE,
        )
    if type(error).__name__ == "Py4JNetworkError" or any(word in text for word in _BROKEN):
        return DamagedError(
            "Spark stopped before it was done",
            seen=_first(error),
            needed="workers that go on to the end, with memory enough",
            fix=f"more spark.executor.memory in spark-defaults.conf; or {_LESS}",
        )
    return None


def _java() -> str:
    """Return the program that Spark's own scripts start."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


@functools.cache
def _virtual_machine() -> Any:
    """Return the Java process that all sessions of this one share; it ends when this one does.

    What it says goes nowhere: it is no error of ours, and standard output is for the audits.
    """
    from pyspark.errors import PySparkException
    from pyspark.java_gateway import launch_gateway

    # What breaks off when we are stopped is raised, and logged besides, by the root logger for the most part.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(lambda record: Path(record.pathname).parent.name != "py4j")
    with tempfile.TemporaryFile() as said:
        loud = os.environ.get("RLHF_AUDIT_DEBUG") == "1"
        where = 2 if loud else said.fileno()
        try:
            # Java that we leave before it could tell us its address would stay: Ctrl-C waits until then.
            with ThreadPoolExecutor(1) as beside:
                return beside.submit(launch_gateway, popen_kwargs={"stdout": where, "stderr": where}).result()
        except PySparkException as error:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().split("\n")
            # Spark's own scripts say where they lie.
            told = [line for line in lines if line and "spark-class" not in line]
            raise _no_java(told[-1] if told else _first(error)) from error


def _no_java(seen: str) -> UsageError | DamagedError:
    """Return what is told where Java ended at once."""
    try:
        shown = subprocess.run([_java(), "-version"], capture_output=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        shown = b""
    # 1.8 was 8.
    version = re.search(r'version "(?:1\.)?(\d+)', shown.decode(errors="replace"))
    if version and int(version[1]) < _LEAST_JAVA:
        return UsageError(
            "the engine spark needs a newer Java",
            seen=f"Java {version[1]}",
            needed=f"Java {_LEAST_JAVA}",
            fix="apt install openjdk-17-jre-headless; then JAVA_HOME must name it",
        )
    return DamagedError(
        "Java ended as soon as it was started",
        seen=seen[:160],
        needed=f"Java {_LEAST_JAVA}, and about 1 GiB of memory",
        fix=f"RLHF_AUDIT_DEBUG=1 shows all that it says; or {_LESS}",
    )


def _is_reached(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_WITHIN_S):
            return True
    except (OSError, OverflowError):
        return False


def _wait_for_workers(context: Any) -> None:
    end = time.monotonic() + _WORKS_WITHIN_S
    while not _has_workers(context):
        if time.monotonic() > end:
            memory = context.getConf().get("spark.executor.memory", "1g")
            raise DamagedError(
                "the Spark cluster gives us no worker",
                seen=f"none within {_WORKS_WITHIN_S:.0f} s",
                needed=f"a worker with a free core and {memory} of free memory, which can reach this machine",
                fix="spark.executor.memory, spark.driver.host in spark-defaults.conf; or leave --master out",
            )
        time.sleep(0.1)


def _has_workers(context: Any) -> bool:
    # The driver is one of them.
    return bool(context._jsc.sc().getExecutorMemoryStatus().size() > 1)


def _no_cluster(seen: str) -> DamagedError:
    from pyspark import __version__

    return DamagedError(
        "Spark could not be started",
        seen=seen,
        needed=f"a master that runs, of PySpark's version, {__version__}; and the same secret, if any",
        fix=_HERE,
    )


def _first(error: Exception) -> str:
    """Return the first line that says something: of an error in Java, what Java says."""
    lines = [line.strip() for line in str(error).strip().split("\n")]
    java = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
    return (java or lines)[0][:160]
