"""One measurement of ``benchmarks.auditing``, alone in its process: prints what each part took, as JSON."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.erasers.generated import KEY
from rlhf_audit.audits import runner
from rlhf_audit.audits.engines import DuckDBEngine
from rlhf_audit.log import views
from rlhf_audit.log.store import Log
from rlhf_audit.reports import publish


class Laps:
    """Seconds and peak memory at the end of each part."""

    def __init__(self) -> None:
        self._last, self._name = time.perf_counter(), ""
        self.found: list[tuple[str, float, float]] = []

    def next(self, name: str) -> None:
        """End a part and begin another."""
        now = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if self._name:
            self.found.append((self._name, now - self._last, peak))
        self._last, self._name = now, name


def main(root: str, what: str) -> None:
    laps = Laps()
    laps.next("the log" if what == "parts" else "whole report")
    log = Log(Path(root), signing_key=KEY)
    if what == "parts":
        laps.next("the views")
        with views.connect(log, log.clock.now(), read_once=True) as connection:
            runner.run_on(DuckDBEngine(connection), progress=laps.next)
    else:
        with tempfile.TemporaryDirectory() as folder:
            publish.publish(log, Path(folder) / "report")
    laps.next("")
    print(json.dumps(laps.found))


if __name__ == "__main__":
    main(*sys.argv[1:])
