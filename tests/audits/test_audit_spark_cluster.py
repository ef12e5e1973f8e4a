"""Audits on a standalone cluster of Spark's: a master and two workers, each a process of its own."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import audit_rich_log
import pytest
from audit_spark import NEEDS_SPARK, cluster, environment, same, tasks_of_executors

from rlhf_audit.audits import runner
from rlhf_audit.clock import to_text
from rlhf_audit.log import views


@pytest.mark.sweep
@NEEDS_SPARK
def test_the_whole_catalogue_on_a_master_and_two_workers(tmp_path: Path) -> None:
    log = audit_rich_log.make(tmp_path / "log")
    moment = log.clock.now()
    home = tmp_path / "spark"
    home.mkdir()
    program = (
        "from rlhf_audit import clock\n"
        f"clock.SystemClock.now = lambda self: clock.from_text({to_text(moment)!r})\n"
        "from rlhf_audit.cli.app import main\n"
        "raise SystemExit(main())"
    )
    arguments = [str(log.layout.root), "--engine", "spark", "--json", "--fail-on", "never"]
    with cluster(home, 2) as master:
        done = subprocess.run(
            [sys.executable, "-c", program, "audit", *arguments, "--master", master],
            capture_output=True,
            timeout=900,
            env=environment(home),
        )
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)["result"]["audits"]
    with views.connect(log, moment) as connection:
        expected = runner.run(connection)
    assert [one["id"] for one in found] == [one.id for one in expected]
    for one, wanted in zip(found, expected, strict=True):
        assert len(one["rows"]) == len(wanted.rows), one["id"]
        for row, other in zip(one["rows"], wanted.rows, strict=True):
            assert same(row, asdict(other)), (one["id"], row, other)
    tasks = tasks_of_executors(home)
    assert len(tasks) == 2
    assert min(tasks) > 100, tasks
