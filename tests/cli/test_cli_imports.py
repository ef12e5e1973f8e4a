"""What is not imported: nobody waits for TensorFlow who does not train."""

import json
import subprocess
import sys

_PROGRAM = """
import json, sys
from rlhf_audit.cli.app import main
for args in json.loads(sys.argv[1]):
    assert main(args) in (0, 1, 3), args
    heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
    assert not heavy, (args, heavy)
sys.stderr.write("matplotlib" if "matplotlib" in sys.modules else "light")
"""


def run(*lines: list[object]) -> str:
    """Run command lines in one fresh process, none of which may import TensorFlow."""
    given = json.dumps([[str(arg) for arg in line] for line in lines])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, given], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


def test_no_tensorflow(study, tmp_path):
    run(
        ["init", tmp_path / "new"],
        ["enroll", study.log],
        ["consent", study.log, study.person, "--purpose", "audit"],
        ["audit", study.log],
        ["audit", study.log, "--print-sql"],
        ["show", study.log, "feedback"],
        ["sql", study.log, "FROM raters"],
        ["erase", study.log, study.person],
        ["withdraw", study.log, study.person],
        ["verify", study.log],
    )


def test_help_imports_next_to_nothing():
    assert run(["--help"], ["--version"], ["record", "--help"], ["retrain", "--help"]) == "light"
