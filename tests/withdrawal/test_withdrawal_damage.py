"""What is damaged, lost or copied elsewhere keeps nobody from being erased."""

import json
import shutil
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical
from rlhf_audit.consent import register
from rlhf_audit.log import keys
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not matter what is learnt."""
    small_log.cheap_training(monkeypatch)


def copied(taught: tuple[Path, list[str]], tmp_path: Path) -> tuple[Log, list[str]]:
    shutil.copytree(taught[0], tmp_path / "home")
    return Log(tmp_path / "home" / "log"), taught[1]


def test_a_damaged_key_keeps_nobody_from_being_erased(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 3)
    log.layout.key_file(raters[0]).write_bytes(b"damaged")
    log.layout.key_file(raters[1]).unlink()
    for rater_id in raters[:2]:
        done = erase.apply(log, rater_id)
        assert not json.loads(done.receipt.read_bytes())["residue_scan"]["alias_and_key_searched"]
        assert not log.layout.rater_folder(rater_id).exists()
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("how", ["missing", "damaged"])
@pytest.mark.usefixtures("cheap")
def test_damaged_steps_of_a_live_session_keep_nobody_from_being_erased(how: str, tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    log = Log(full.root)
    live = next(entry.body for entry in log.ledger.of("session") if entry.body["learn"])
    path = log.layout.steps_file("CartPole-v1", live["session_id"])
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30])
    erase.apply(log, full.raters[1])
    assert not path.exists(), "what can't be blanked can't stay"
    problems = verify(full.root).problems
    assert [one.file for one in problems] == [f"steps/env=CartPole-v1/{live['session_id']}.parquet"]
    assert erase.heal(Log(full.root)) == []


@pytest.mark.usefixtures("cheap")
def test_what_can_not_be_finished_keeps_nobody_from_reading_or_withdrawing(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    log = Log(full.root)
    path = log.layout.feedback_file(full.raters[0], "s-0001")
    raw = path.read_bytes()
    path.write_bytes(raw[:-30])
    with pytest.raises(Exception, match="can't be read"):
        erase.apply(log, full.raters[1])
    assert not log.layout.key_file(full.raters[1]).exists(), "their own rows are gone all the same"
    said = erase.heal(Log(full.root))
    assert len(said) == 1 and "is not finished" in said[0] and log.layout.relative(path) in said[0]
    register.withdraw(Log(full.root), full.raters[0])
    path.write_bytes(raw)
    assert erase.heal(Log(full.root)) == ["completed an erasure that had been cut short"]
    assert verify(full.root).ok


@pytest.mark.usefixtures("cheap")
def test_another_logs_policy_in_the_same_place_is_left_alone(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    folder = full.home / "policies" / "offline"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"log_id": "0" * 16}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log = Log(full.root)
    assert [dict(p)["found"] for p in plan.make(log, full.raters[0]).policies] == [False]
    done = erase.apply(log, full.raters[0])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    told = json.loads(done.receipt.read_bytes())
    assert [policy["outcome"] for policy in told["deleted"]["policies"]] == ["not found"]
    assert verify(full.root).ok


@pytest.mark.usefixtures("cheap")
def test_a_copy_of_a_policy_made_by_hand_is_told_of(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    shutil.copytree(full.home / "policies" / "offline", full.home / "policies" / "my copy")
    done = erase.apply(Log(full.root), full.raters[0])
    told = json.loads(done.receipt.read_bytes())
    assert told["residue_scan"]["places"] == [
        "../policies/my copy/CARD.md",
        "../policies/my copy/manifest.json",
    ]


def test_an_enrolment_cut_short_leaves_nobody(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    key = replace(keys.read(log.layout, raters[0]), rater_id="r-0000abcd", alias="Half Enrolled")
    keys.write(log.layout, key)
    assert [one.file for one in verify(log.layout.root).problems] == ["keys/r-0000abcd.key"]
    erase.heal(Log(log.layout.root))
    assert not log.layout.key_file("r-0000abcd").exists()
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("what", ["a key", "terms"])
def test_the_healing_of_a_cut_may_be_cut_short_itself(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between overwriting and unlinking: what is left is known for what it is, not by its content."""
    log, raters = small_log.plain(tmp_path / "log", 2)
    if what == "a key":
        keys.write(log.layout, replace(keys.read(log.layout, raters[0]), rater_id="r-0000abcd"))
    else:
        text = b"# Terms that nobody came to name\n"
        (log.layout.terms / f"{canonical.sha256_hex(text)}.md").write_bytes(text)
    real = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise SystemExit(9)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(SystemExit):
        erase.heal(Log(log.layout.root))
    monkeypatch.setattr(Path, "unlink", real)
    assert not verify(log.layout.root).ok
    erase.heal(Log(log.layout.root))
    assert verify(log.layout.root).problems == ()


def test_folders_and_reports_that_end_like_half_made_files_are_left_alone(tmp_path: Path) -> None:
    from rlhf_audit.reports import publish

    log, _ = small_log.plain(tmp_path / "log", 2)
    publish.publish(log, log.layout.reports / "one.tmp")
    (log.layout.episodes / "half.parquet.tmp").write_bytes(b"half")
    assert erase.heal(Log(log.layout.root)) == []
    assert verify(log.layout.root).ok
    assert (log.layout.reports / "one.tmp" / "report.json").exists()


def test_a_journal_from_a_backup_seals_nothing_of_an_erased_rater(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    journal = log.layout.journal / "s-0009"
    facts = dict(log.ledger.entries[-1].body) | {
        "rater_id": raters[1],
        "grant_id": "g-0002",
        "event": "session",
    }
    lines = [facts, {"event": "feedback"}]
    raw = [canonical.json_bytes(line) for line in lines]
    data = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in raw)
    erase.apply(log, raters[1])
    journal.mkdir()
    (journal / "events.jsonl").write_bytes(data)
    erase.heal(Log(log.layout.root))
    assert not any(log.layout.journal.iterdir())
    assert [e.body["session_id"] for e in Log(log.layout.root).ledger.of("session")] == ["s-0001", "s-0002"]
    assert verify(log.layout.root).ok
