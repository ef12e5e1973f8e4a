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
        ("append", "crash", 4),
        ("append", "tear", 3),
        ("withdraw", "crash", 3),
        ("enrol", "crash", 6),
        ("record", "crash", 5),
        ("record", "tear", 4),
        ("erase-plainly", "crash", 37),
        ("erase-plainly", "tear", 19),
        ("erase-linked", "crash", 29),
    ],
)
def test_a_crash_before_any_change_of_the_disk_is_healed(
    name: str, how: str, every: int, tmp_path: Path
) -> None:
    assert driven(tmp_path, name, how, every)["crashed"] >= 3


@pytest.mark.parametrize(("name", "count"), [("record", 8), ("erase-plainly", 4)])
def test_a_few_kills(name: str, count: int, tmp_path: Path) -> None:
    assert driven(tmp_path, name, "kill", count)["runs"] == count


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["crash", "tear"])
@pytest.mark.parametrize(
    "name", ["append", "withdraw", "enrol", "record", "erase", "erase-linked", "erase-with-report"]
)
def test_a_crash_before_every_change_of_the_disk(name: str, how: str, tmp_path: Path) -> None:
    every = 5 if name == "erase-with-report" else 1
    tally = driven(tmp_path, name, how, every)
    print(f"{name}: {tally['crashed']} crashes ({how}) over {tally['extra']['changes']} changes: all healed")


@pytest.mark.sweep
def test_100_kills_of_a_recorder(tmp_path: Path) -> None:
    tally = driven(tmp_path, "record", "kill", 100)
    print(f"{tally['runs']} kills of record: 0 lost, 0 duplicated; {tally['extra']}")


@pytest.mark.sweep
def test_50_kills_of_an_erasure(tmp_path: Path) -> None:
    tally = driven(tmp_path, "erase-really", "kill", 50)
    print(f"{tally['runs']} kills of erase: {tally['runs']} erasures complete; {tally['extra']}")
