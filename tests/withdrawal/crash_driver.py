"""Writers to kill and crash, and what must be true afterwards: run as a script, prints one JSON line."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))
sys.path.insert(0, str(Path(__file__).parents[1] / "kills"))

import crash_rig
import small_log
from crash_rig import Scenario

from rlhf_audit.consent import register
from rlhf_audit.log import checkpoint
from rlhf_audit.log.store import Log
from rlhf_audit.recording.record import Request, record
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, residue


def facts_of(home: Path) -> dict[str, Any]:
    return json.loads((home / "facts.json").read_text())


def _build_plain(home: Path) -> None:
    log, raters = small_log.plain(home / "log", 2)
    (home / "facts.json").write_text(json.dumps({"raters": raters, "entries": len(log.ledger.entries)}))


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


def _build_erase_linked(home: Path) -> None:
    """The same, and what holds the first rater lies behind links, or has other names."""
    _build_erase(home)
    layout, rater_id, away = Log(home / "log").layout, facts_of(home)["raters"][0], home / "away"
    away.mkdir()
    for number, path in enumerate((layout.key_file(rater_id), layout.rater_folder(rater_id))):
        path.rename(away / f"{number}")
        path.symlink_to(f"../../away/{number}")
    (home / "policies" / "offline").rename(away / "policy")
    (home / "policies" / "offline").symlink_to("../away/policy")


def _cheap_training() -> None:
    small_log.cheap_training(pytest.MonkeyPatch())


def _tensorflow() -> None:
    from rlhf_audit import determinism
    from rlhf_audit.replay import retrain  # noqa: F401 - what takes seconds to import

    determinism.tensorflow()


def _act_erase(home: Path, note: Callable[[Any], None]) -> None:
    erase.apply(Log(home / "log"), facts_of(home)["raters"][0])
    note("erased")


def _act_erase_linked(home: Path, note: Callable[[Any], None]) -> None:
    # Here, since a copy of a log has no other names.
    (home / "away" / "other name").hardlink_to(home / "policies" / "live" / "weights.npz")
    _act_erase(home, note)


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


def _check_erase_linked(home: Path, told: list[Any], complete: bool) -> None:
    _check_erase(home, told, complete)
    # The other name stays, without what it held; nothing else does, and nothing else is said to.
    assert [path.name for path in (home / "away").iterdir()] == ["other name"]
    assert not (home / "away" / "other name").read_bytes().startswith(b"PK")
    done = next(iter(Log(home / "log").ledger.of("erasure-done"))).body
    assert not [note for note in done["places"] if note["stays"]], done["places"]


SCENARIOS = {
    "append": Scenario(_build_plain, _act_append, _check_append),
    "withdraw": Scenario(_build_plain, _act_withdraw, _check_withdraw),
    "enrol": Scenario(_build_plain, _act_enrol, _check_enrol),
    "erase-plainly": Scenario(_build_plainly, _act_erase, _check_erase, _cheap_training),
    "erase": Scenario(_build_erase, _act_erase, _check_erase, _cheap_training),
    "erase-with-report": Scenario(_build_erase_with_report, _act_erase, _check_erase, _cheap_training),
    "erase-linked": Scenario(
        _build_erase_linked, _act_erase_linked, _check_erase_linked, _cheap_training, linked=True
    ),
    "erase-really": Scenario(_build_erase, _act_erase, _check_erase, _tensorflow),
}


def main(name: str, how: str, work: str, count: str) -> None:
    folder = Path(work)
    tempfile.tempdir = work  # a child that crashes sweeps nothing up
    os.environ[checkpoint.SIGNING_KEY_VARIABLE] = str(small_log.write_key(folder))
    rig = crash_rig.Rig(SCENARIOS[name], folder)
    crash_rig.told(rig.kills(int(count)) if how == "kill" else rig.faults(how, int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
