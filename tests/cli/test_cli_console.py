"""What is printed, and what becomes of a stream that refuses it."""

import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlhf_audit.cli import _console, _tables, app

SAMPLE = Path(__file__).parents[2] / "sample_data" / "panel"


def test_a_table_is_aligned_and_harmless():
    text = _tables.table(["name", "n"], [["a\x1b[2J", 5], ["b\nc", None], [None, 123], ["\u6f22", 1]])
    assert text.splitlines() == [
        "name        n",
        "--------  ---",
        "a\\x1b[2J    5",
        "b\\nc",
        "          123",
        "\u6f22          1",
    ]
    assert _tables.table(["a"], []) == "a\n-"


def test_a_table_folds_what_is_too_wide():
    columns = ("rater_id", "empty", "asked_purposes", "at", "note")
    when = datetime(2026, 3, 4, 9, tzinfo=UTC)
    rows = [["r-0a3fa280", None, 3, when, "a long remark on this rater"], ["r-1", None, 44, when, "ok"]]
    whole = _tables.fitted(columns, rows, None)
    assert len(whole.splitlines()) == 4 and "empty" in whole and "on this rater" in whole
    assert _tables.fitted(columns, rows, 56).splitlines() == [
        "rater_id        asked_  at                    note",
        "              purposes",
        "----------  ----------  --------------------  ----------",
        "r-0a3fa280           3  2026-03-04 09:00 UTC  a long",
        "                                              remark on",
        "                                              this rater",
        "r-1                 44  2026-03-04 09:00 UTC  ok",
    ]


def test_a_table_that_does_not_fit_goes_on_below():
    columns = [f"column_{i}" for i in range(6)]
    rows = [[f"{row}{i}" * 6 for i in range(6)] for row in range(2)]
    text = _tables.fitted(columns, rows, 40)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("\n\n") == 2 and text.count("column_0") == 3
    for row in rows:
        for value in row:
            assert value in text


class Window(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self):
        return True


@pytest.fixture
def window(monkeypatch):
    """Run a command line with its results in a window."""

    def run(*args):
        stream = Window()
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        app.main([str(arg) for arg in args])
        return stream.getvalue()

    return run


LISTS = ("sessions", "raters", "consent", "episodes", "policies", "ledger", "feedback")


@pytest.mark.parametrize("what", LISTS)
def test_lists_fit_a_window_and_are_whole_elsewhere(cli, window, what):
    shown = window("show", SAMPLE, what)
    assert max(map(len, shown.splitlines())) <= 80
    rows = cli("show", SAMPLE, what, "--json").result["rows"]
    piped = cli("show", SAMPLE, what).out
    assert "…" not in piped and len(piped.splitlines()) == len(rows) + (4 if what == "feedback" else 2)
    for row in rows:
        for value in row.values():
            assert not isinstance(value, str) or value in piped or value.endswith("Z")
        if what != "feedback":
            assert all(value in shown for value in row.values() if isinstance(value, str) and len(value) < 20)


def test_feedback_in_a_window_names_each_session_once(cli, window):
    shown = window("show", SAMPLE, "feedback")
    assert shown.count("s-0002, by r-7dae0165") == 1 and shown.count("push left") > 400
    assert shown.rstrip().splitlines()[-1] == cli("show", SAMPLE, "feedback").out.rstrip().splitlines()[-1]


def test_audits_fit_a_window_and_end_with_what_was_found(cli, window):
    shown = window("audit", SAMPLE)
    drawn = shown.splitlines()
    assert max(map(len, drawn)) <= 80
    paragraph = " ".join(" ".join(drawn).rpartition("In all: ")[2].split())
    found = cli("audit", SAMPLE, "--json").result["findings"]
    assert paragraph.startswith(f"{len(found)} findings in ")
    for finding in found:
        assert finding["audit"] in paragraph
    # Findings come first in their table.
    table = cli("audit", SAMPLE, "drift", "random_rater").out.partition("random_rater (warning)")[2]
    flags = ["  yes  " in line for line in table.splitlines() if line.startswith("r-")]
    assert any(flags) and flags == sorted(flags, reverse=True)


def test_problems_fit_a_window(cli, window, study):
    for path in sorted((study.log / "feedback").rglob("*.parquet")):
        path.write_bytes(b"no Parquet")
    shown = window("verify", study.log)
    assert max(map(len, shown.splitlines())) <= 80
    problems = cli("verify", study.log, "--json").result["problems"]
    assert len(problems) >= 3 and any(len(one["file"] + one["problem"]) > 80 for one in problems)
    for one in problems:
        assert f"  {one['file']}: {one['problem']}\n" in cli("verify", study.log).out
        assert one["problem"] in " ".join(shown.split())


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
