"""The documents say what the program does."""

import re
import subprocess
import sys
from pathlib import Path

import rlhf_audit.errors as errors
from rlhf_audit.cli import app

ROOT = Path(__file__).parents[2]


def test_the_reference_is_current():
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_verb_has_one_example_and_fits_a_terminal(cli):
    for verb in app.VERBS:
        name = verb.__name__.rpartition(".")[2].removesuffix("_").replace("_", "-")
        text = cli(name, "--help").out
        assert text.count(f"rlhf-audit {name}") == 2, name  # the usage line and the example
        assert verb.EXAMPLE in text
        assert all(len(line) <= 80 or verb.EXAMPLE in line for line in text.splitlines()), name


def test_exit_codes_name_every_error():
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    rows = {int(m[1]): m[0] for m in re.finditer(r"^\| (\d+) \|.*$", text, re.MULTILINE)}
    assert set(rows) == {0, 1, 2, 3, 4, app.EXIT_BUG, app.EXIT_STOPPED}
    tree = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    named = [kind for kind in tree if issubclass(kind, errors.RlhfAuditError)][1:]
    assert len(named) == 12
    for kind in named:
        assert f"`{kind.__name__}`" in rows[kind.exit_code]


def test_constraints_pin_everything_and_name_no_host():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins and all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in pins)
    assert "://" not in "\n".join(lines)
    pyproject = (ROOT / "pyproject.toml").read_text()
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pins}
    for wanted in re.findall(
        r'^  ?"?([a-z0-9-]+)(?:\[[a-z0-9,]+\])?>=', pyproject.replace('["', '\n"'), re.M
    ):
        assert wanted in pinned
