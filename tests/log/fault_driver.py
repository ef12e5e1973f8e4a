"""Writers that put files in place, crashed or refused at each change of the disk: prints one JSON line.

A crash ends the process before the n-th change below the writer's home. A full disk refuses the n-th change
that needs space, or that one and all after it. Then the log is opened again, as the next program would.
"""

import errno
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kills"))

import compact_world
import crash_points
import crash_rig
import small_log

from rlhf_audit.consent import codes, register, terms
from rlhf_audit.errors import RlhfAuditError
from rlhf_audit.log import artefacts, checkpoint, compaction, keys, placing, reader, store
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import MERGED
from rlhf_audit.policy import lineage
from rlhf_audit.recording.record import Request, record
from rlhf_audit.replay import retrain
from rlhf_audit.reports import publish
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

Note = Callable[[Any], None]
REFUSED = "refused"


@dataclass(frozen=True)
class Scenario:
    """Something that puts files in place.

    Attributes:
        build: Makes what is there before.
        act: Does it, and notes what a user was told.
        check: Asserts what must be true once the log was opened again; told what a user was.
    """

    build: Callable[[Path], None]
    act: Callable[[Path, Note], None]
    check: Callable[[Path, list[Any]], None]


def _raters(home: Path) -> None:
    small_log.plain(home / "log", 2)


def _policy(home: Path) -> None:
    _raters(home)
    retrain.retrain(Log(home / "log"), home / "policies" / "second")


def _taught(home: Path) -> None:
    log, raters = small_log.plain(home / "log", 2)
    record(log, Request(raters[0], "scripted:oracle", "CartPole-v1", max_feedback=3, learn="likelihood"))


def _report(home: Path) -> None:
    _raters(home)
    for folder in (home / "log" / "reports" / "one", home / "report"):
        publish.publish(Log(home / "log"), folder)
    small_log.join(Log(home / "log"), alias="Somebody New")
    (home / "report" / "notes.txt").write_text("mine")


def _retrain(home: Path, note: Note) -> None:
    made = retrain.retrain(Log(home / "log"), home / "policies" / "second", "article", seed=1)
    note(made.weights_sha256)


def _save_live(home: Path, note: Note) -> None:
    log = Log(home / "log")
    weights = (("w", small_log.np.float32([1, 2, 3])),)
    with log.writing():
        lineage.save_live(log, home / "policies" / "live", reader.session_ids(log)[-1], weights)
    note("saved")


def _publish(home: Path, note: Note, inside: bool) -> None:
    folder = home / "log" / "reports" / "one" if inside else home / "report"
    publish.publish(Log(home / "log"), folder)
    note("published")


def _enrol(home: Path, note: Note) -> None:
    note(register.enrol(Log(home / "log"), "Zebedee Unusual", {}, "oracle"))


def _init(home: Path, note: Note) -> None:
    store.create(home / "deep" / "log", signing_key=small_log.KEY, terms=terms.DEFAULT_TERMS.encode())
    note("created")


def _few(home: Path) -> None:
    compact_world.few(home / "log")
    (home / "read.json").write_text(json.dumps(_read(home)))


def _compact(home: Path, note: Note) -> None:
    compaction.compact(Log(home / "log"))
    note("compacted")


def _read(home: Path) -> dict[str, str]:
    log = Log(home / "log")
    return {name: compact_world.session(log, name) for name in reader.session_ids(log)}


def _merged(home: Path, told: list[Any]) -> None:
    """All of the old files or all of the new, and every row in them once."""
    log = Log(home / "log")
    assert set(compact_world.sealed(log)) == compact_world.named(log)
    assert _read(home) == json.loads((home / "read.json").read_text())
    entries = list(log.ledger.of(MERGED))
    assert len(entries) in (0, 1) and not log.layout.compacting.exists()
    assert len(entries) == 1 or told in ([], [REFUSED])
    done = compaction.compact(log)
    assert bool(done.files) == (not entries) and verify(home / "log").ok


def _in_place(home: Path, told: list[Any]) -> None:
    """The ledger names what is there, no more and no less; what was told holds."""
    log = Log(home / "log")
    named: set[Path] = set()
    for kind in ArtefactKind:
        for found in artefacts.current(log, kind):
            for name, digest in found.facts["files"].items():
                assert artefacts.wrong_file(found.folder / name, digest) is None, name
                named.add(found.folder / name)
    places = (home / "policies", home / "report", home / "log" / "reports")
    there = {path for place in places for path in place.rglob("*") if path.is_file()}
    assert there - {home / "report" / "notes.txt"} == named
    assert not any(place.is_dir() and not any(place.iterdir()) for place in home.glob("policies/*"))
    assert not (home / "report").is_dir() or (home / "report" / "notes.txt").read_text() == "mine"
    # Which of the two states it is, and that it is the new one where a user was told so.
    n_made = sum(1 for _ in log.ledger.of("training", "report"))
    base = json.loads((home / "facts.json").read_text())["made"]
    assert n_made in (base, base + 1)
    assert n_made == base + 1 or told in ([], [REFUSED])


def _enrolled(home: Path, told: list[Any]) -> None:
    log = Log(home / "log")
    enrolled = {entry.body["rater_id"] for entry in log.ledger.of("enrolled")}
    assert {path.stem for path in log.layout.keys.iterdir()} == enrolled, "a key of nobody"
    names = [keys.read(log.layout, rater_id).alias for rater_id in enrolled]
    assert (len(enrolled), names.count("Zebedee Unusual")) in ((2, 0), (3, 1))
    if told == [REFUSED]:
        assert len(enrolled) == 2, "who was told that it failed is enrolled after all"
    elif told:
        rater_id, code = told[0]
        assert codes.opened(log, code) == rater_id


def _created(home: Path, told: list[Any]) -> None:
    root = home / "deep" / "log"
    if told == [REFUSED]:
        assert not (home / "deep").exists(), "init has left something"
    if not (root / "log.json").exists():
        assert told != ["created"]
        store.create(root, signing_key=small_log.KEY, terms=terms.DEFAULT_TERMS.encode())
    assert verify(root).ok
    assert terms.current(Log(root))[2] == terms.DEFAULT_TERMS
    assert not [path for path in root.rglob("*.tmp")]


SCENARIOS = {
    "retrain": Scenario(_raters, _retrain, _in_place),
    "retrain-over": Scenario(_policy, _retrain, _in_place),
    "record-to": Scenario(_taught, _save_live, _in_place),
    "report-inside": Scenario(_report, functools.partial(_publish, inside=True), _in_place),
    "report-outside": Scenario(_report, functools.partial(_publish, inside=False), _in_place),
    "enroll": Scenario(_raters, _enrol, _enrolled),
    "compact": Scenario(_few, _compact, _merged),
    "init": Scenario(lambda home: None, _init, _created),
}


def refuse_at(n: int, home: Path, ever_after: bool) -> None:
    """Arrange for a full disk at the n-th change below ``home`` that needs space."""
    seen = 0
    plain_fsync, inside = os.fsync, str(home.resolve())

    def full(path: str) -> None:
        nonlocal seen
        seen += 1
        if seen == n or (ever_after and seen > n):
            (home.parent / "was_full").touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        needs = event in ("open", "os.rename", "os.mkdir")
        if needs and crash_points.changes_disk(event, args, inside):
            full(os.fspath(args[0]))

    def fsync(descriptor: int) -> None:
        full("")
        plain_fsync(descriptor)

    sys.addaudithook(hook)
    os.fsync = fsync  # type: ignore[assignment]


def _once(scenario: Scenario, work: Path, prepare: Callable[[Path], None]) -> tuple[bool, list[Any]]:
    """Run a writer on a copy, open the log again, check; say whether the disk struck, and what was told."""
    home, told, struck = work / "home", work / "told", work / "was_full"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(work / "base", home)
    told.write_text("")
    struck.unlink(missing_ok=True)

    def act() -> None:
        note = crash_rig.noting(told)
        prepare(home)
        try:
            scenario.act(home, note)
        except (OSError, RlhfAuditError) as error:
            if not struck.exists():
                raise
            assert isinstance(error, OSError) or error.exit_code == 4, error
            note(REFUSED)

    def check() -> None:
        if (home / "log").exists():
            erase.heal(Log(home / "log"))
            found = verify(home / "log")
            assert found.ok, found.problems
            assert erase.heal(Log(home / "log")) == []
            assert not (home / "log" / "placing.json").exists()
            assert not [path for path in home.rglob("*") if path.suffix in (placing.STAGED_SUFFIX, ".tmp")]
        scenario.check(home, [json.loads(line) for line in told.read_text().split("\n") if line])

    errors = work / "errors"
    code = crash_rig.waited(crash_rig.forked(act, errors))
    assert code in (0, crash_points.CRASHED), errors.read_text()
    assert crash_rig.waited(crash_rig.forked(check, errors)) == 0, errors.read_text()
    return code != 0 or struck.exists(), told.read_text().split()


def main(name: str, how: str, work: str, every: str) -> None:
    folder, scenario = Path(work), SCENARIOS[name]
    tempfile.tempdir = work
    os.environ[checkpoint.SIGNING_KEY_VARIABLE] = str(small_log.write_key(folder))
    small_log.cheap_training(pytest.MonkeyPatch())
    base = folder / "base"
    base.mkdir()
    scenario.build(base)
    if (base / "log").exists():
        made = sum(1 for _ in Log(base / "log").ledger.of("training", "report"))
        (base / "facts.json").write_text(json.dumps({"made": made}))
    n, tally = 1, {"struck": 0, "refused": 0, "told": 0}
    while True:
        if how == "crash":
            prepare = functools.partial(_crash, n)
        else:
            prepare = functools.partial(_fill, n, how == "full")
        try:
            struck, told = _once(scenario, folder, prepare)
        except AssertionError as error:
            raise AssertionError(f"{name}, {how} {n}: {error}") from error
        tally["struck"] += struck
        tally["refused"] += told == [json.dumps(REFUSED)]
        tally["told"] += bool(told) and told != [json.dumps(REFUSED)]
        if not struck:
            break
        n += int(every)
    print(json.dumps(tally | {"changes": n}))


def _crash(n: int, home: Path) -> None:
    crash_points.change(n, home)


def _fill(n: int, ever_after: bool, home: Path) -> None:
    refuse_at(n, home, ever_after)


if __name__ == "__main__":
    main(*sys.argv[1:])
