"""What faults are put into, each act as a user does it, and what must be true of the log in the end.

To add an act: a function that makes the log beforehand, the command line, and what is looked at afterwards;
then one line in ``ACTS``.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import beside  # noqa: F401 - says where the next ones are
import compact_world
import fault_worlds as world
import kill_acts
import kill_driver
import kill_worlds
import pytest

from rlhf_audit.cli import app
from rlhf_audit.consent import register, terms
from rlhf_audit.errors import RlhfAuditError
from rlhf_audit.log import anchors, artefacts, keys, reader, writer
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.withdrawal import erase, residue

Note = Callable[[Any], None]
NOBODY = "Zebedee Unusual"
DAMAGED, UNFINISHED = 4, 1


@dataclass(frozen=True)
class Act:
    """Something that writes.

    Attributes:
        build: Makes what is there before, below a home.
        run: Does it; notes what was acknowledged; returns an exit code.
        facts: What must be as in the reference, however it was done; asserts what must be true besides.
        codes: With which it may end when it met an error.
        again: With which it may end when it is done again.
        prepare: Run in each child first.
        records: It notes steps and answers; otherwise that it is done.
        event: The ledger's, which must not be there if it said that it failed.
    """

    build: Callable[[Path], None]
    run: Callable[[Path, Note], int]
    facts: Callable[[Path, Sequence[Any]], Any]
    codes: frozenset[int] = frozenset({DAMAGED})
    again: frozenset[int] = frozenset({0})
    prepare: Callable[[], None] = lambda: None
    records: bool = False
    event: str = ""


def verb(*words: str) -> Callable[[Path, Note], int]:
    """Return a command line; in it LOG and RATER stand for this world's."""

    def run(home: Path, note: Note) -> int:
        known = {"LOG": str(home / "log"), "RATER": world.told(home).get("rater", "")}
        code = app.main([known.get(word, word.replace("HOME", str(home))) for word in words])
        if code == 0:
            note("done")
        return code

    return run


def opens(home: Path) -> int:
    """What every other verb does first."""
    return _given_up(lambda: print(*erase.heal(Log(home / "log")), sep="\n"))


# --- recorders ---


def by_library(home: Path, note: Note) -> int:
    """A script of a user's, who gives up at the first error."""
    return _given_up(lambda: kill_acts.by_library(home, note, sessions=1, n_steps=24))


def by_library_telling(home: Path, note: Note) -> int:
    """The same with values of varying size."""
    make = kill_worlds.Telling
    act = kill_acts.by_library
    return _given_up(lambda: act(home, note, make=make, info="left", sessions=1, n_steps=12))


def by_library_ticking(home: Path, note: Note) -> int:
    world.ticking()
    return by_library(home, note)


def by_command(home: Path, note: Note) -> int:
    """``record`` with a scripted rater, each answer told of."""
    patched, answer = pytest.MonkeyPatch(), writer.SessionWriter.feedback

    def answered(self: writer.SessionWriter, row: Any) -> None:
        answer(self, row)
        note(["rating", self.session_id, row.episode_id, row.step, row.value])

    patched.setattr(writer.SessionWriter, "feedback", answered)
    words = ("--env", "CartPole-v1", "--rater", "RATER", "--source", "scripted:oracle", "--max-feedback", "4")
    done: list[Any] = []
    return verb("record", "LOG", *words, "--ask", "every:5", "--seed", "9")(home, done.append)


def _given_up(act: Callable[[], None]) -> int:
    try:
        act()
    except (OSError, RlhfAuditError) as error:
        code = error.exit_code if isinstance(error, RlhfAuditError) else DAMAGED
        print(f"error: {error}", file=sys.stderr)
        return code
    return 0


# --- what must be true ---


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def others(home: Path) -> dict[str, str]:
    """The bytes of everything that another rater gave."""
    layout = Log(home / "log").layout
    found = [layout.key_file(rater_id) for rater_id in world.told(home).get("others", ())]
    for rater_id in world.told(home).get("others", ()):
        found += sorted(layout.rater_folder(rater_id).glob("*"))
    return {layout.relative(path): digest(path) for path in found}


def enrolled(home: Path, noted: Sequence[Any]) -> Any:
    log = Log(home / "log")
    ids = {entry.body["rater_id"] for entry in log.ledger.of("enrolled")}
    assert {path.stem for path in log.layout.keys.iterdir()} == ids, "a key of nobody"
    names = [keys.read(log.layout, rater_id).alias for rater_id in ids]
    # Who is killed after it was decided, and enrols again, has two; who is killed then, three.
    assert names.count(NOBODY) in (1, 2, 3) and len(ids) == 2 + names.count(NOBODY)
    return [sorted(set(names)), others(home)]


def agreed(home: Path, noted: Sequence[Any]) -> Any:
    log, rater_id = Log(home / "log"), world.told(home)["rater"]
    found = register.standings(log, log.clock.now(), rater_id)
    assert len(found) in (2, 3, 4)
    return [found[-1].state, sorted(found[-1].purposes), others(home)]


def withdrawn(home: Path, noted: Sequence[Any]) -> Any:
    log, rater_id = Log(home / "log"), world.told(home)["rater"]
    n_entries = sum(1 for _ in log.ledger.of("withdrawal"))
    states = [standing.state for standing in register.standings(log, log.clock.now(), rater_id)]
    return [n_entries, states, others(home)]


def erased(home: Path, noted: Sequence[Any]) -> Any:
    log, facts = Log(home / "log"), world.told(home)
    rater_id, secrets = facts["rater"], json.loads(facts["key"])
    assert not log.layout.key_file(rater_id).exists()
    assert not log.layout.rater_folder(rater_id).exists()
    receipts = [entry.body for entry in log.ledger.of("receipt") if entry.body["rater_id"] == rater_id]
    assert len(receipts) == 1
    path = min(name for name in receipts[0]["files"] if name.endswith(".json"))
    receipt = json.loads((home / "log" / path).read_text())
    assert receipt["residue_scan"]["found"] == 0, receipt["residue_scan"]
    needles = [rater_id.encode(), secrets["alias"].encode(), bytes.fromhex(secrets["mac_key"])]
    for place in home.rglob("*"):
        name = place.relative_to(home).as_posix()
        looked = needles[1:] if name.startswith(("log/ledger/", "log/receipts/")) else needles
        assert not residue.holds(place.read_bytes() if place.is_file() else b"", looked), name
        assert not residue.holds(name.encode(), looked), name
    policies = {policy["name"]: policy["after"] for policy in receipt["deleted"]["policies"]}
    return [policies, receipt["deleted"]["rows"], artefacts_of(home), others(home)]


def artefacts_of(home: Path) -> list[str]:
    """Which policies and reports there are: just those that the ledger names, as it names them."""
    log = Log(home / "log")
    named: set[Path] = set()
    for kind in ArtefactKind:
        for found in artefacts.current(log, kind):
            for name, sha256 in found.facts["files"].items():
                assert artefacts.wrong_file(found.folder / name, sha256) is None, name
                named.add(found.folder / name)
    places = (home / "policies", home / "report", home / "log" / "reports")
    there = {path for place in places for path in place.rglob("*") if path.is_file()}
    assert there == named, sorted(there ^ named)
    assert not [place for place in home.glob("policies/*") if not any(place.iterdir())], "an empty folder"
    return sorted(path.relative_to(home).as_posix() for path in there)


def trained(home: Path, noted: Sequence[Any]) -> Any:
    made = {found.path: found.facts["weights_sha256"] for found in current(home, ArtefactKind.POLICY)}
    return [made, artefacts_of(home), others(home)]


def reported(home: Path, noted: Sequence[Any]) -> Any:
    raters = {found.path: sorted(found.facts["rater_ids"]) for found in current(home, ArtefactKind.REPORT)}
    return [raters, artefacts_of(home), others(home)]


def current(home: Path, kind: ArtefactKind) -> list[artefacts.Artefact]:
    return artefacts.current(Log(home / "log"), kind)


def sealed(home: Path, noted: Sequence[Any]) -> Any:
    """Every byte of every sealed file, and every row of every session."""
    log = Log(home / "log")
    files = {name: hashlib.sha256(data).hexdigest() for name, data in compact_world.sealed(log).items()}
    assert set(files) == compact_world.named(log)
    rows = {name: compact_world.session(log, name) for name in reader.session_ids(log)}
    return [files, hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest(), others(home)]


def recorded(home: Path, noted: Sequence[Any]) -> Any:
    """What was acknowledged is there once; the last session is what an undisturbed one is."""
    log = Log(home / "log")
    held = {name: [said(fact) for fact in kill_driver.held(log, name)] for name in reader.session_ids(log)}
    there = [fact for facts in held.values() for fact in facts]
    assert len(there) == len(set(there)), "something is there twice"
    lost = [fact for fact in map(said, noted) if fact not in set(there)]
    assert not lost, f"acknowledged, and lost: {lost[:3]} of {len(lost)}"
    plain = {name: {fact.replace(name, "s") for fact in facts} for name, facts in held.items()}
    last = max(plain)
    assert all(facts <= plain[last] for facts in plain.values()), "a row that nobody recorded"
    return [sorted(plain[last]), others(home)]


def said(fact: list[Any]) -> str:
    """Return a step or an answer as text; an answer's number is the same, whole or not."""
    return json.dumps([*fact[:4], float(fact[4])] if fact[0] == "rating" else fact)


def founded(home: Path, noted: Sequence[Any]) -> Any:
    return terms.current(Log(home / "log"))[2]


def anchored(home: Path, noted: Sequence[Any]) -> Any:
    ledger = Log(home / "log").ledger
    (anchor,) = anchors.read(home / "anchor", ledger.origin)
    (found,) = anchors.compare(ledger, [anchor])
    assert found.problem is None, found.problem
    return [anchor.checkpoint.size, others(home)]


ACTS: Mapping[str, Act] = {
    "init": Act(world.nothing, verb("init", "LOG"), founded, again=frozenset({0, 2})),
    "enroll": Act(world.two, verb("enroll", "LOG", "--alias", NOBODY), enrolled, event="enrolled"),
    "consent": Act(
        world.two,
        verb("consent", "LOG", "RATER", "--purpose", "publication", "--yes"),
        agreed,
        event="consent",
    ),
    "withdraw": Act(world.two, verb("withdraw", "LOG", "RATER"), withdrawn, event="withdrawal"),
    "record": Act(world.nobody_recorded, by_command, recorded, records=True),
    "library": Act(world.nobody_recorded, by_library, recorded, records=True),
    "varying": Act(world.nobody_recorded, by_library_telling, recorded, records=True),
    "ticking": Act(world.nobody_recorded, by_library_ticking, recorded, records=True),
    "seal": Act(world.left_open, lambda home, note: opens(home), sealed, frozenset({0, DAMAGED})),
    "compact": Act(world.few, verb("compact", "LOG"), sealed),
    "retrain": Act(world.two, verb("retrain", "LOG", "--to", "HOME/policies/second"), trained),
    "retrain-over": Act(
        world.two_with_report, verb("retrain", "LOG", "--to", "HOME/policies/first"), trained
    ),
    "report": Act(world.two_with_report, verb("report", "LOG", "--to", "HOME/log/reports/one"), reported),
    "erase": Act(
        world.taught,
        verb("erase", "LOG", "RATER", "--apply"),
        erased,
        frozenset({DAMAGED, UNFINISHED}),
        frozenset({0, 2}),
        world.cheaply,
    ),
    "anchor": Act(world.two, verb("anchor", "LOG", "--to", "HOME/anchor"), anchored),
}
"""What is struck."""


# --- what is there to be found out ---


def forgets(home: Path, note: Note) -> int:
    """Writes the ledger anew in its place."""
    entries = Log(home / "log").layout.entries
    data = entries.read_bytes()
    with entries.open("wb", buffering=0) as stream:
        stream.write(data[:99])
        stream.write(data[99:])
    return verb("withdraw", "LOG", "RATER")(home, note)


def boasts(home: Path, note: Note) -> int:
    """Says that it is done when nothing was synced."""
    pytest.MonkeyPatch().setattr(os, "fsync", lambda descriptor: None)
    return verb("withdraw", "LOG", "RATER")(home, note)


CONTROLS: Mapping[str, Act] = {
    "forgets": Act(world.two, forgets, withdrawn),
    "boasts": Act(world.two, boasts, withdrawn),
}
