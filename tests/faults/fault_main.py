"""Strikes acts, as a script under ``interpose.c``: prints one JSON line a series."""

import contextlib
import gc
import importlib
import io
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import beside  # noqa: F401 - says where the next ones are
import crash_rig
import fault_worlds
import pytest
import small_log
from fault_rig import KNOWN, Rig, Tally, forked
from interposed import Interposer

from rlhf_audit.cli import app
from rlhf_audit.log import checkpoint
from rlhf_audit.reports import html


def traced(name: str, work: Path, interposer: Interposer) -> Counter[str]:
    """Do an act once, as the only thing that is done below its home; return the calls by name."""
    act, base, home, trace = KNOWN[name], work / "base", work / "home", work / "trace"

    def build() -> None:
        act.prepare()
        act.build(base)

    def run() -> int:
        fault_worlds.small_parts()
        act.prepare()
        note = crash_rig.noting(work / "noted")
        interposer.arm(home, trace=trace)
        return act.run(home, note)

    assert crash_rig.waited(forked(build, work / "error")) == 0
    base.rename(home)
    assert crash_rig.waited(forked(run, work / "error", work / "said")) == 0, (work / "said").read_text()
    return Counter(line.split(" ")[0] for line in trace.read_text().splitlines())


def warm() -> None:
    """Import what takes long, and start no thread."""
    for name in ("log.compaction", "replay.retrain", "reports.html", "reports.publish", "recording.record"):
        importlib.import_module(f"rlhf_audit.{name}")
    importlib.import_module("duckdb")
    html._environment().get_template("receipt.html.j2")
    with contextlib.redirect_stderr(io.StringIO()):
        app.main(["withdraw", os.devnull, "r-00000000"])
    small_log.cheap_training(pytest.MonkeyPatch())
    # What the collector looks at in a child would be copied.
    gc.collect()
    gc.freeze()
    gc.disable()


def main(work: str, *series: str) -> None:
    """Run ``ACT:WHAT:EVERY`` after another; WHAT is a name in ``FAULTS``, or ``pairs``."""
    folder = Path(work).resolve()
    tempfile.tempdir = str(folder)  # a child that is killed sweeps nothing up
    os.environ[checkpoint.SIGNING_KEY_VARIABLE] = str(small_log.write_key(folder))
    interposer = Interposer()
    warm()
    rigs: dict[str, Rig] = {}
    for one in series:
        name, what, every = one.split(":")
        began = time.monotonic()
        if what == "trace":
            print(json.dumps(traced(name, folder, interposer)), flush=True)
            continue
        if name not in rigs:
            (folder / name).mkdir()
            rigs[name] = Rig(name, folder / name, interposer)
        rig = rigs[name]
        rig.tally = Tally(calls=rig.tally.calls)
        if what == "pairs":
            rig.pairs(int(every), seed=len(one))
        elif what == "cut":
            rig.cuts(int(every), seed=len(one))
        else:
            rig.series(what, int(every))
        rig.tally.seconds = round(time.monotonic() - began, 1)
        print(json.dumps(rig.tally.to_json()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Nothing is torn down: what was frozen can't be.
    os._exit(0)
