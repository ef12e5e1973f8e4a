"""Kill and crash writers at every moment, reopen, and look: run as a script, prints one JSON line.

A process without threads forks one child that writes and dies, and another that reopens and checks. A crash
comes before the n-th call of the writer that changes the disk (``sys.addaudithook`` sees every open for
writing, rename, removal and mkdir; fsync is wrapped), or, with ``tear``, at the n-th fsync, half of what was
not yet synced being lost. A kill is SIGKILL at a random moment.
"""

import functools
import json
import os
import random
import shutil
import signal
import stat
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log

from rlhf_audit.consent import register
from rlhf_audit.log import checkpoint, reader, writer
from rlhf_audit.log.store import Log
from rlhf_audit.recording import Request, record
from rlhf_audit.types import Feedback
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, residue

CRASHED, ANSWERS, BEGUN = 77, 8, "begun"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Scenario:
    """Something that writes.

    Attributes:
        build: Makes the log beforehand.
        act: Writes; may note lines in the file of acknowledgements.
        check: Asserts, on a healed and verified log; told what was acknowledged and whether all was done.
        prepare: Run in each child first.
    """

    build: Callable[[Path], None]
    act: Callable[[Path, Callable[[Any], None]], None]
    check: Callable[[Path, list[Any], bool], None]
    prepare: Callable[[], None] = lambda: None


@dataclass
class Tally:
    runs: int = 0
    crashed: int = 0
    failures: list[str] = field(default_factory=list)
    extra: dict[str, int] = field(default_factory=dict)


def facts_of(home: Path) -> dict[str, Any]:
    return json.loads((home / "facts.json").read_text())


def forked(act: Callable[[], None], errors: Path) -> int:
    """Run ``act`` in a child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 - the parent is told
        errors.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash_at(n: int, home: Path, tear: bool) -> None:
    """Arrange for this process to end at the n-th change to the disk below ``home``."""
    seen = 0
    synced: dict[int, int] = {}
    plain_fsync, inside = os.fsync, str(home.resolve())

    def count() -> bool:
        nonlocal seen
        seen += 1
        return seen == n

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if tear or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        path, mode, flags = args if event == "open" else (args[0], "w", 0)
        writes = any(letter in mode for letter in "wax+") if mode else bool(flags & _WRITES)
        named = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(inside)
        if writes and named and count():
            os._exit(CRASHED)

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if count():
            old = synced.get(status.st_ino, 0)
            if tear and stat.S_ISREG(status.st_mode):
                os.truncate(f"/proc/self/fd/{descriptor}", old + max(0, status.st_size - old) // 2)
            os._exit(CRASHED)
        plain_fsync(descriptor)
        synced[status.st_ino] = os.fstat(descriptor).st_size

    for path in home.rglob("*"):
        if path.is_file():
            synced[path.stat().st_ino] = path.stat().st_size
    sys.addaudithook(hook)
    os.fsync = fsync  # type: ignore[assignment]


def noting(acknowledged: Path) -> Callable[[Any], None]:
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda fact: (os.write(descriptor, json.dumps(fact).encode() + b"\n"), None)[1]


def reopened(scenario: Scenario, home: Path, acknowledged: Path, complete: bool) -> None:
    """What the next program does, and what must be true then."""
    scenario.prepare()
    root = home / "log"
    told = [json.loads(line) for line in acknowledged.read_text().split("\n") if line]
    told = [fact for fact in told if fact != BEGUN]
    intents = len(list(Log(root).ledger.of("erasure-intent")))
    healed = erase.heal(Log(root))
    with (home.parent / "healed").open("a") as stream:
        when = "after the intent" if intents else "no intent"
        stream.write(f"{when}, {'healed' if healed else 'nothing to heal'}\n")
    found = verify(root)
    assert found.ok, found.problems
    assert erase.heal(Log(root)) == []
    scenario.check(home, told, complete)


class Rig:
    """Runs a scenario again and again on copies of one log."""

    def __init__(self, name: str, work: Path) -> None:
        self.scenario = SCENARIOS[name]
        self.base, self.home = work / "base", work / "home"
        self.told, self.errors = work / "acknowledged", work / "error"
        self.tally = Tally()
        self.base.mkdir()

        def build() -> None:
            self.scenario.prepare()
            self.scenario.build(self.base)

        code = waited(forked(build, self.errors))
        assert code == 0, self.errors.read_text()

    def begin(self, prepare: Callable[[], None]) -> int:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.base, self.home)
        self.told.write_text("")

        def act() -> None:
            note = noting(self.told)
            self.scenario.prepare()
            note(BEGUN)
            prepare()
            self.scenario.act(self.home, note)

        return forked(act, self.errors)

    def end(self, pid: int, label: str) -> int:
        code = waited(pid)
        self.tally.runs += 1
        if code == 1:
            self.tally.failures.append(f"{label}: the writer failed: {self.errors.read_text()[-900:]}")
            return code
        self.tally.crashed += code != 0
        check = functools.partial(reopened, self.scenario, self.home, self.told, code == 0)
        if waited(forked(check, self.errors)):
            self.tally.failures.append(f"{label}: {self.errors.read_text()[-1500:]}")
        return code

    def faults(self, every: int, tear: bool) -> None:
        """Crash at each n-th change, n = 1, 1 + every, …, until the writer comes to its end."""
        n, code = 1, CRASHED
        while code == CRASHED:
            pid = self.begin(functools.partial(crash_at, n, self.home, tear))
            code = self.end(pid, f"{'tear' if tear else 'crash'} {n}")
            n += every
        self.tally.extra["changes"] = n - every

    def kills(self, count: int, seed: int) -> None:
        """SIGKILL at random moments between start and end, measured on one run that is left alone."""
        times = random.Random(seed)
        pid = self.begin(lambda: None)
        began = self.begun()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        lasts = time.monotonic() - began
        assert self.end(pid, "undisturbed") == 0, self.tally.failures
        self.tally.runs = 0
        for number in range(count):
            pid = self.begin(lambda: None)
            self.begun()
            time.sleep(times.uniform(0, lasts))
            os.kill(pid, signal.SIGKILL)
            self.end(pid, f"kill {number}")

    def begun(self) -> float:
        """Wait until the writer is prepared; return when that was."""
        while BEGUN not in self.told.read_text():
            time.sleep(0.001)
        return time.monotonic()


# --- the scenarios -----------------------------------------------------------------------------------------


def _noted_feedback(note: Callable[[Any], None]) -> None:
    plain = writer.SessionWriter.feedback

    def feedback(self: writer.SessionWriter, row: Feedback) -> None:
        plain(self, row)
        note([row.episode_id, row.step, row.kind.value, row.value, row.position])

    writer.SessionWriter.feedback = feedback  # type: ignore[method-assign]


def _build_plain(home: Path) -> None:
    log, raters = small_log.plain(home / "log", 2)
    (home / "facts.json").write_text(json.dumps({"raters": raters, "entries": len(log.ledger.entries)}))


def _act_record(home: Path, note: Callable[[Any], None]) -> None:
    _noted_feedback(note)
    rater_id = facts_of(home)["raters"][0]
    request = Request(rater_id, "scripted:oracle", "CartPole-v1", ask_every=5, max_feedback=ANSWERS, seed=9)
    record(Log(home / "log"), request)


def _check_record(home: Path, told: list[Any], complete: bool) -> None:
    log = Log(home / "log")
    sessions = reader.session_ids(log)
    assert sessions[:2] == ["s-0001", "s-0002"]
    rows = reader.session(log, "s-0003").feedback if "s-0003" in sessions else ()
    kept = [[row.episode_id, row.step, row.kind.value, row.value, row.position] for row in rows or ()]
    assert kept[: len(told)] == told, "an acknowledged answer is lost"
    # One more may be on the disk: it was synced, and the kill came before the word of it.
    assert len(kept) <= len(told) + 1
    assert len({tuple(row[:2]) for row in kept}) == len(kept), "an answer is there twice"
    assert not complete or len(kept) == ANSWERS
    assert not any(log.layout.journal.iterdir())


def _act_append(home: Path, note: Callable[[Any], None]) -> None:
    log = Log(home / "log")
    for n in range(3):
        log.append("export", {"path": f"../out-{n}", "rater_ids": []})
        note(n)


def _check_append(home: Path, told: list[Any], complete: bool) -> None:
    log = Log(home / "log")
    paths = [entry.body["path"] for entry in log.ledger.of("export")]
    assert paths == [f"../out-{n}" for n in range(len(paths))]
    assert len(told) <= len(paths) <= len(told) + 1
    assert not log.layout.pending.exists()


def _act_withdraw(home: Path, note: Callable[[Any], None]) -> None:
    register.withdraw(Log(home / "log"), facts_of(home)["raters"][0])
    note("withdrawn")


def _check_withdraw(home: Path, told: list[Any], complete: bool) -> None:
    log, facts = Log(home / "log"), facts_of(home)
    n_entries = sum(1 for _ in log.ledger.of("withdrawal"))
    assert len(told) <= n_entries <= 1
    states = {s.state.value for s in register.standings(log, log.clock.now(), facts["raters"][0])}
    assert states == ({"withdrawn"} if n_entries else {"given"})


def _act_enrol(home: Path, note: Callable[[Any], None]) -> None:
    log = Log(home / "log")
    rater_id, _ = register.enrol(log, "Somebody New", {}, "oracle")
    note(rater_id)
    register.give(log, rater_id, small_log.BOTH, "scripted")
    note("grant")


def _check_enrol(home: Path, told: list[Any], complete: bool) -> None:
    log = Log(home / "log")
    enrolled = [entry.body["rater_id"] for entry in log.ledger.of("enrolled")]
    assert 2 <= len(enrolled) <= 3
    assert sorted(path.stem for path in log.layout.keys.iterdir()) == sorted(enrolled)
    if told:
        assert register.rater(log, told[0])
    if len(told) == 2:
        assert register.grant_for(log, told[0], log.clock.now())


def _build_plainly(home: Path) -> None:
    """Three raters, and a policy that holds all."""
    from rlhf_audit.replay import retrain

    log, raters = small_log.plain(home / "log", 3)
    retrain.retrain(log, home / "policies" / "offline")
    key = log.layout.key_file(raters[0]).read_text()
    (home / "facts.json").write_text(json.dumps({"raters": raters, "key": key, "policies": ["offline"]}))


def _build_erase(home: Path) -> None:
    """The same, and the first rater also taught a live policy."""
    _build_plainly(home)
    facts, folder = facts_of(home), home / "policies" / "live"
    request = Request(facts["raters"][0], "scripted:oracle", "CartPole-v1", max_feedback=3, seed=5)
    record(Log(home / "log"), replace(request, learn="likelihood", to=folder))
    (home / "facts.json").write_text(json.dumps(facts | {"policies": ["offline", "live"]}))


def _build_erase_with_report(home: Path) -> None:
    from rlhf_audit.reports import publish

    _build_erase(home)
    publish.publish(Log(home / "log"), home / "log" / "reports" / "one")


def _cheap_training() -> None:
    small_log.cheap_training(pytest.MonkeyPatch())


def _tensorflow() -> None:
    from rlhf_audit import determinism
    from rlhf_audit.replay import retrain  # noqa: F401 - what takes seconds to import

    determinism.tensorflow()


def _act_erase(home: Path, note: Callable[[Any], None]) -> None:
    erase.apply(Log(home / "log"), facts_of(home)["raters"][0])
    note("erased")


def _check_erase(home: Path, told: list[Any], complete: bool) -> None:
    log, facts = Log(home / "log"), facts_of(home)
    rater_id = facts["raters"][0]
    if not list(log.ledger.of("erasure-intent")):
        # The crash came before anything was promised: nothing may be gone, and the same command works.
        assert not told and log.layout.key_file(rater_id).read_text() == facts["key"]
        assert all((home / "policies" / name / "weights.npz").exists() for name in facts["policies"])
        erase.apply(log, rater_id)
        assert verify(home / "log").ok
    assert not log.layout.key_file(rater_id).exists()
    assert not log.layout.rater_folder(rater_id).exists()
    assert not (home / "policies" / "live").exists()
    receipts = [entry for entry in log.ledger.of("receipt") if entry.body["rater_id"] == rater_id]
    assert len(receipts) == 1
    path = min(name for name in receipts[0].body["files"] if name.endswith(".json"))
    receipt = json.loads((home / "log" / path).read_text())
    assert receipt["residue_scan"]["found"] == 0, receipt["residue_scan"]
    after = {policy["name"]: policy["after"] for policy in receipt["deleted"]["policies"]}
    manifest = json.loads((home / "policies/offline/manifest.json").read_text())
    made_again = {name: None for name in facts["policies"]} | {"offline": manifest["weights_sha256"]}
    assert after == made_again
    assert [share["rater_id"] for share in manifest["raters"]] == facts["raters"][1:]
    secrets = json.loads(facts["key"])
    needles = [rater_id.encode(), secrets["alias"].encode(), bytes.fromhex(secrets["mac_key"])]
    for path in [*home.rglob("*")]:
        name = path.relative_to(home).as_posix()
        if name == "facts.json":
            continue
        allowed = name.startswith(("log/ledger/", "log/receipts/"))
        looked = needles[1:] if allowed else needles
        assert not residue.holds(path.read_bytes() if path.is_file() else b"", looked), name
        assert not residue.holds(name.encode(), looked), name
    # What an undisturbed run gives is what every run gives.
    digest = home.parent / "digest"
    if not digest.exists():
        digest.write_text(after["offline"])
    assert digest.read_text() == after["offline"]


SCENARIOS = {
    "append": Scenario(_build_plain, _act_append, _check_append),
    "withdraw": Scenario(_build_plain, _act_withdraw, _check_withdraw),
    "enrol": Scenario(_build_plain, _act_enrol, _check_enrol),
    "record": Scenario(_build_plain, _act_record, _check_record),
    "erase-plainly": Scenario(_build_plainly, _act_erase, _check_erase, _cheap_training),
    "erase": Scenario(_build_erase, _act_erase, _check_erase, _cheap_training),
    "erase-with-report": Scenario(_build_erase_with_report, _act_erase, _check_erase, _cheap_training),
    "erase-really": Scenario(_build_erase, _act_erase, _check_erase, _tensorflow),
}


def main(name: str, how: str, work: str, count: str) -> None:
    folder = Path(work)
    os.environ[checkpoint.SIGNING_KEY_VARIABLE] = str(small_log.write_key(folder))
    rig = Rig(name, folder)
    if how == "kill":
        rig.kills(int(count), seed=7)
    else:
        rig.faults(int(count), tear=how == "tear")
    rig.tally.extra |= Counter((folder / "healed").read_text().splitlines())
    print(json.dumps(rig.tally.__dict__))


if __name__ == "__main__":
    main(*sys.argv[1:])
