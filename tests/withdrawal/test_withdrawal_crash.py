"""Writers that are killed or crash at any moment: see ``crash_driver``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("crash_driver.py")


def driven(work: Path, name: str, how: str, count: int) -> dict[str, Any]:
    command = [sys.executable, str(DRIVER), name, how, str(work), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    tally: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert tally["failures"] == [], "\n".join(tally["failures"][:3])
    return tally


@pytest.mark.parametrize(
    ("name", "how", "every"),
    [
        ("append", "change", 4),
        ("append", "tear", 3),
        ("withdraw", "change", 3),
        ("enrol", "change", 6),
        ("erase-plainly", "change", 37),
        ("erase-plainly", "tear", 19),
        ("erase-linked", "change", 29),
    ],
)
def test_a_crash_before_any_change_of_the_disk_is_healed(
    name: str, how: str, every: int, tmp_path: Path
) -> None:
    assert driven(tmp_path, name, how, every)["crashed"] >= 3


def test_a_few_kills(tmp_path: Path) -> None:
    assert driven(tmp_path, "erase-plainly", "kill", 4)["crashed"] == 4


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["change", "tear"])
@pytest.mark.parametrize(
    "name", ["append", "withdraw", "enrol", "erase", "erase-linked", "erase-with-report"]
)
def test_a_crash_before_every_change_of_the_disk(name: str, how: str, tmp_path: Path) -> None:
    every = 5 if name == "erase-with-report" else 1
    tally = driven(tmp_path, name, how, every)
    print(f"{name}: {tally['crashed']} crashes ({how}) over {tally['points']} changes: all healed")


@pytest.mark.sweep
def test_50_kills_of_an_erasure(tmp_path: Path) -> None:
    tally = driven(tmp_path, "erase-really", "kill", 50)
    print(f"{tally['runs']} kills of erase: {tally['runs']} erasures complete; {tally['counts']}")
