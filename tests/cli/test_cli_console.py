"""What is printed, and what becomes of a stream that refuses it."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from rlhf_audit.cli import _console


def test_a_table_is_aligned_and_harmless():
    text = _console.table(["name", "n"], [["a\x1b[2J", 5], ["b\nc", None], [None, 123]])
    assert text.splitlines() == [
        "name        n",
        "--------  ---",
        "a\\x1b[2J    5",
        "b\\nc",
        "          123",
    ]
    assert _console.table(["a"], []) == "a\n-"


def test_values_become_json():
    when = datetime(2026, 3, 4, tzinfo=UTC)
    given = {
        "a": (1, float("inf")),
        "b": when,
        "c": b"\x01",
        "d": None,
        "e": {2: True},
        "f": frozenset({"x"}),
    }
    assert _console.jsonable(given) == {
        "a": [1, "inf"],
        "b": "2026-03-04T00:00:00.000000Z",
        "c": "01",
        "d": None,
        "e": {"2": True},
        "f": ["x"],
    }


def _run(stdout: object) -> subprocess.CompletedProcess:
    program = "import sys; from rlhf_audit.cli.app import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "--version"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def test_a_full_standard_output():
    with Path("/dev/full").open("w") as full:
        done = _run(full)
    assert done.returncode == 4
    assert done.stderr.startswith("error: the operating system refused: the disk is full\n")
    assert len(done.stderr.splitlines()) == 3


def test_a_reader_that_has_gone_away():
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = _run(reader.stdin)
    assert (done.returncode, done.stderr) == (0, "")


def test_progress_is_for_terminals_only(capsys):
    with _console.Progress() as progress:
        progress.count("fit", 1, 3)
    assert capsys.readouterr().err == ""
