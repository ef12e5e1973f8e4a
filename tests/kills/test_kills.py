"""A sample of ``make sweep-kill``: see ``kill_driver`` for what is killed, and what must be true then."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")
SERIES = (
    "library:kill:3",
    "library:change:250",
    "library:line:2100",
    "vector:kill:2",
    "varying:change:310",
    "hashed:kill:1",
    "record:tear:20",
    "learn-cheaply:change:100",
    "seal:change:51",
)


@pytest.fixture(scope="module")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of every series: one process for all, since a start takes longer than many kills."""
    work = tmp_path_factory.mktemp("kills")
    command = [sys.executable, str(DRIVER), str(work), *SERIES, "boasting:change:500"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(command[3:], map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("series", SERIES)
def test_what_was_acknowledged_is_there_once(series: str, tallies: dict[str, dict[str, Any]]) -> None:
    tally = tallies[series]
    assert tally["failures"] == [], "\n".join(tally["failures"][:3])
    assert tally["crashed"] >= 1
    assert tally["counts"]["verified"] == tally["runs"]
    assert tally["counts"]["acknowledged"] > 0


def test_a_recorder_that_acknowledges_too_early_is_found_out(tallies: dict[str, dict[str, Any]]) -> None:
    tally = tallies["boasting:change:500"]
    assert tally["counts"]["lost"] > 0
    assert tally["failures"]
