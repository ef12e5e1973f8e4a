"""Two recorders, an eraser, a compactor and three readers at one log, each a process of its own.

Run as a script: ``crowd.py FOLDER SECONDS`` prints one JSON line. Writers take turns by the log's lock, whose
refusal (exit code 3) is told of and tried again; readers take no lock. What must never be: an acknowledged
answer or step that is not there, or twice; anything of a rater whose erasure was told of; a reader's answer
that is older than what was told before it asked; a traceback, or any other exit code.
"""

import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import beside  # noqa: F401 - says where the next ones are
import crash_rig
import fault_acts
import fault_main
import kill_driver
import small_log

from rlhf_audit.cli import app
from rlhf_audit.log import checkpoint, keys, reader, writer
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, residue

REFUSED = 3
CHANGED = "the log has changed while it was read"
"""What a reader is told whose files were merged or erased meanwhile: it may ask again."""
_PATIENCE_S = 120


@dataclass(frozen=True)
class Place:
    """Where a crowd is at work.

    Attributes:
        home: Holds the log, and policies.
        until: When it ends, by the monotonic clock.
    """

    home: Path
    until: float

    @property
    def root(self) -> str:
        return str(self.home / "log")

    def going_on(self) -> Iterator[int]:
        number = 0
        while time.monotonic() < self.until:
            yield number
            number += 1

    def told(self, name: str) -> list[Any]:
        """What a writer has told so far; whole lines only."""
        path = self.home.parent / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line]


class Worker:
    """One process of the crowd: runs verbs, tells of them, and stops at what may not be."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name
        self.counts: Counter[str] = Counter()
        self.tell = crash_rig.noting(place.home.parent / name)

    def verb(self, *words: str, allowed: tuple[int, ...] = (0,)) -> tuple[int, Any]:
        """Run a command line, again if the log changed meanwhile; return its code and result."""
        while (done := self._once(words, allowed)) is None:
            self.counts[f"{words[0]}: changed"] += 1
        return done

    def _once(self, words: tuple[str, ...], allowed: tuple[int, ...]) -> tuple[int, Any] | None:
        out, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            code = app.main([words[0], self.place.root, *words[1:], "--json"])
        if code == fault_acts.DAMAGED and CHANGED in said.getvalue():
            return None
        self.counts[f"{words[0]}: {code}"] += 1
        assert code in allowed, f"{words}: {code}: {said.getvalue()[-800:]} {out.getvalue()[-1500:]}"
        assert "Traceback" not in said.getvalue(), said.getvalue()
        return code, json.loads(out.getvalue())["result"] if out.getvalue() else None

    def turn(self, *words: str) -> Any:
        """Run a command line that writes, when its turn comes."""
        began, wait = time.monotonic(), random.Random(self.name)
        while time.monotonic() - began < _PATIENCE_S:
            code, result = self.verb(*words, allowed=(0, REFUSED))
            if code == 0:
                return result
            time.sleep(wait.uniform(0.005, 0.05))
        raise AssertionError(f"{words}: its turn never came")


def records(worker: Worker, rater_id: str) -> None:
    """Session after session; each answer is told of when the writer returns, then each session."""
    answer = writer.SessionWriter.feedback

    def answered(self: writer.SessionWriter, row: Any) -> None:
        answer(self, row)
        worker.tell(["rating", self.session_id, row.episode_id, row.step, row.value])

    writer.SessionWriter.feedback = answered  # type: ignore[method-assign]
    for number in worker.place.going_on():
        words = (
            "--env",
            "CartPole-v1",
            "--rater",
            rater_id,
            "--source",
            "scripted:oracle",
            "--seed",
            str(number),
        )
        made = worker.turn("record", *words, "--ask", "every:3", "--max-feedback", "5")
        worker.tell(["sealed", rater_id, made["session_id"], made["feedback"], made["steps"]])


def erases(worker: Worker) -> None:
    """Somebody comes, agrees, rates, teaches a policy, and leaves again."""
    place = worker.place
    for number in place.going_on():
        rater_id = worker.turn("enroll", "--alias", f"Zebedee Unusual {number}", "--scripted", "flip-20")[
            "rater_id"
        ]
        worker.turn("consent", rater_id, "--purpose", "training", "--purpose", "audit", "--yes")
        words = (
            "--env",
            "CartPole-v1",
            "--rater",
            rater_id,
            "--source",
            "scripted:flip-20",
            "--seed",
            str(number),
        )
        worker.turn("record", *words, "--ask", "every:3", "--max-feedback", "4")
        if number % 3 == 0:
            worker.turn("retrain", "--to", str(place.home / "policies" / "all"))
        key = keys.read(Log(Path(place.root)).layout, rater_id)
        worker.turn("withdraw", rater_id)
        worker.turn("erase", rater_id, "--apply")
        worker.tell(["erased", rater_id, key.alias, key.mac_key.hex()])


def compacts(worker: Worker) -> None:
    for _ in worker.place.going_on():
        worker.turn("compact")
        time.sleep(0.1)


def verifies(worker: Worker) -> None:
    """All is well at any moment; an erasure that is under way has not ended, and that is said."""
    for _ in worker.place.going_on():
        gone = {fact[1] for fact in worker.place.told("eraser")}
        _, found = worker.verb("verify", allowed=(0, 1))
        entries = Log(Path(worker.place.root)).ledger.entries
        for problem in found["problems"]:
            words = problem["problem"].split(" ", 2)
            assert words[2].startswith("begins an erasure that never ended"), found
            assert entries[int(words[1]) - 1].body["rater_id"] not in gone, found


def queries(worker: Worker) -> None:
    """Counts answers and steps; never fewer than were told of, never anybody who was told to be gone."""
    place = worker.place
    for _ in place.going_on():
        sealed = [
            fact for name in ("recorder-0", "recorder-1") for fact in place.told(name) if fact[0] == "sealed"
        ]
        gone = {fact[1] for fact in place.told("eraser")}
        _, result = worker.verb(
            "sql", "SELECT rater_id, session_id, count(*) AS n FROM feedback GROUP BY ALL"
        )
        rows = {(row["rater_id"], row["session_id"]): row["n"] for row in result["rows"]}
        for _, rater_id, session_id, n_feedback, _ in sealed:
            assert rows.get((rater_id, session_id)) == n_feedback, (rater_id, session_id, rows)
        assert not gone & {rater_id for rater_id, _ in rows}, "an erased rater is back"
        _, result = worker.verb("sql", "SELECT session_id, count(*) AS n FROM steps GROUP BY ALL")
        steps = {row["session_id"]: row["n"] for row in result["rows"]}
        assert all(steps.get(session_id) == n for _, _, session_id, _, n in sealed), "steps are missing"


def looks(worker: Worker) -> None:
    """Audits and lists."""
    for _ in worker.place.going_on():
        worker.verb("audit", allowed=(0, 1))
        gone = {fact[1] for fact in worker.place.told("eraser")}
        for what in ("sessions", "raters"):
            _, result = worker.verb("show", what)
            here = {row["rater_id"] for row in result["rows"] if what == "raters"}
            assert not gone & here, "an erased rater is back"


def crowd(work: Path, seconds: float) -> dict[str, Any]:
    """Let all of them work for a while; return what they did, and what was wrong."""
    home = work / "home"
    home.mkdir()
    built = crash_rig.forked(lambda: _build(home), work / "error")
    assert crash_rig.waited(built) == 0, (work / "error").read_text()
    raters = json.loads((work / "raters").read_text())
    place = Place(home, time.monotonic() + seconds)
    work_of: dict[str, Callable[[Worker], None]] = {
        "recorder-0": lambda worker: records(worker, raters[0]),
        "recorder-1": lambda worker: records(worker, raters[1]),
        "eraser": erases,
        "compactor": compacts,
        "verifier": verifies,
        "queries": queries,
        "looks": looks,
    }
    pids = {name: _started(place, name, act) for name, act in work_of.items()}
    codes = {name: crash_rig.waited(pid) for name, pid in pids.items()}
    failures = [f"{name}: {code}: {_said(work / f'{name}.error')}" for name, code in codes.items() if code]
    counts = {name: json.loads((work / f"{name}.counts").read_text()) for name in work_of if not codes[name]}
    code = crash_rig.waited(crash_rig.forked(lambda: _look(place, work), work / "error"))
    failures += [f"in the end: {code}: {_said(work / 'error')}"] * bool(code)
    after = {} if code else json.loads((work / "after").read_text())
    return {"seconds": seconds, "verbs": counts, **after, "failures": failures}


def _said(error: Path) -> str:
    return error.read_text()[-2500:] if error.exists() else "nothing said"


def _build(home: Path) -> None:
    log = small_log.empty(home / "log")
    raters = [small_log.join(log, alias=f"Person Number {number}") for number in range(2)]
    (home.parent / "raters").write_text(json.dumps(raters))


def _started(place: Place, name: str, act: Callable[[Worker], None]) -> int:
    def work() -> None:
        signal.alarm(int(place.until - time.monotonic()) + 2 * _PATIENCE_S)
        worker = Worker(place, name)
        act(worker)
        (place.home.parent / f"{name}.counts").write_text(json.dumps(worker.counts))

    return crash_rig.forked(work, place.home.parent / f"{name}.error")


def _look(place: Place, work: Path) -> None:
    """Account for everything that was told."""
    log = Log(Path(place.root))
    assert erase.heal(log) == []
    found = verify(log.layout.root)
    assert found.ok, found.problems
    told = [fact for name in ("recorder-0", "recorder-1") for fact in place.told(name) if fact[0] == "rating"]
    held = [fault_acts.said(fact) for name in reader.session_ids(log) for fact in kill_driver.held(log, name)]
    lost = {fault_acts.said(fact) for fact in told} - set(held)
    assert not lost, f"lost: {sorted(lost)[:3]}"
    assert len(held) == len(set(held)), "something is there twice"
    gone = place.told("eraser")
    for path in place.home.rglob("*"):
        name = path.relative_to(place.home).as_posix()
        known = name.startswith(("log/ledger/", "log/receipts/"))
        data = path.read_bytes() if path.is_file() else b""
        for _, rater_id, alias, mac_key in gone:
            needles = [alias.encode(), bytes.fromhex(mac_key), *([] if known else [rater_id.encode()])]
            assert not residue.holds(data, needles) and not residue.holds(name.encode(), needles), name
    counts = {"answers": len(told), "rows": len(held), "erased": len(gone)}
    (work / "after").write_text(json.dumps(counts | {"entries": len(log.ledger.entries)}))


def main(folder: str, seconds: str) -> None:
    work = Path(folder).resolve()
    tempfile.tempdir = str(work)
    os.environ[checkpoint.SIGNING_KEY_VARIABLE] = str(small_log.write_key(work))
    fault_main.warm()
    try:
        result = crowd(work, float(seconds))
    except AssertionError:
        result = {"failures": [traceback.format_exc()]}
    print(json.dumps(result), flush=True)
    # Nothing is torn down: what was frozen can't be.
    os._exit(bool(result["failures"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
