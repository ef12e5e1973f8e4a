"""The package runs as a module, as the command does."""

import subprocess
import sys


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "rlhf_audit", "verfy"], capture_output=True, text=True)
    assert done.returncode == 2 and "verify" in done.stderr and "Traceback" not in done.stderr
