"""A log whose signing key changes: everything that signs goes on, and a lost key is never silent."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))
sys.path.insert(0, str(Path(__file__).parent))

import small_log
import tampering
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical, verification
from rlhf_audit.errors import DamagedError, LedgerError, UsageError
from rlhf_audit.log import anchors, checkpoint, compaction, durable, keyring, ledger, placing, rotation
from rlhf_audit.log.store import Log
from rlhf_audit.verification import Beliefs, verify
from rlhf_audit.withdrawal import erase, receipt


@pytest.fixture(autouse=True)
def _nobody_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_PAUSE_S", 0.0)
    monkeypatch.setattr(ledger, "_LOOKS", 1)


def forget(key_of: Log) -> None:
    """The operator's machine is gone, and every key with it."""
    for path in checkpoint.signing_key_path().parent.glob("*.key"):
        path.unlink()


def independent(log: Log, *more: bytes) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = tampering.independent().check(log.layout.root, *more)
    return found


def test_everything_goes_on_with_a_new_key(tmp_path: Path) -> None:
    """Sessions, intents, placing, compaction, erasure and receipts, in this handle and in a new one."""
    log, raters = small_log.plain(tmp_path / "log", 3)
    old = log.public_key
    erase.apply(log, raters[2])
    rotation.rotate(log)
    assert log.public_key != old and log.header["public_key"] == old.hex()
    assert Log(log.layout.root).public_key == log.public_key
    log = Log(log.layout.root)
    small_log.rates(log, raters[1], "s-0001")
    log.place(log.layout.reports / "one", {"report.json": b"{}"}, "report", {"rater_ids": []})
    compaction.compact(log)
    done = erase.apply(log, raters[1])
    rotation.rotate(log)
    log.append("export", {"path": "../x", "rater_ids": []})
    assert verify(log.layout.root).problems == ()
    signers = [
        canonical.parse_object(path.read_bytes()) for path in sorted(log.layout.receipts.glob("*.json"))
    ]
    keys = [key.public_key.hex() for key in log.ledger.keys]
    assert [one["signature"]["public_key"] for one in signers] == keys[:2]
    for path, key in zip(sorted(log.layout.receipts.glob("*.json")), keys, strict=False):
        assert receipt.signature_holds(path, bytes.fromhex(key))
        assert independent(log, path.read_bytes()) == []
    assert done.receipt.exists()


def test_an_old_handle_learns_of_the_new_key(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    other = Log(log.layout.root)
    rotation.rotate(log)
    with other.writing():
        other.append("export", {"path": "../x", "rater_ids": []})
    assert verify(log.layout.root).ok


def test_an_intent_of_the_old_key_is_carried_out_before_the_new_one_comes(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    files = {"report.json": b"{}"}
    intent = placing.intend(log.layout, log.log_id, log.layout.reports / "one", files, "report")
    placing.begin(log.layout, log.signing_key, intent)
    placing.stage(log.layout.reports / "one", files)
    rotation.rotate(Log(log.layout.root))
    assert not log.layout.placing.exists() and verify(log.layout.root).ok


def test_the_old_key_signs_nothing_more(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    rotation.rotate(log)
    with pytest.raises(DamagedError, match="not this log's"):
        log.ledger.append(small_log.KEY, log.clock, [("export", {"path": "../x", "rater_ids": []})])
    head = log.ledger.head
    body = checkpoint.Checkpoint(log.ledger.origin, head.size, bytes.fromhex(head.root))
    durable.write(log.layout.checkpoint, checkpoint.sign(body, small_log.KEY))
    assert {one.file for one in verify(log.layout.root).problems} == {"ledger/checkpoint"}
    assert "ledger/checkpoint" in {name for name, _ in independent(log)}


def test_a_rotation_that_the_old_key_did_not_sign_is_refused(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log")
    thief = Ed25519PrivateKey.generate()
    event, body = keyring.facts(small_log.KEY, log.public_key, thief, b"")
    entry = keyring.signed(ledger._entry(log.ledger.lines, log.clock, event, body), thief)
    with pytest.raises(LedgerError, match="is not signed for it"):
        log.ledger._commit([*log.ledger.lines, canonical.json_bytes(entry)], thief)
    assert verify(log.layout.root).ok


def test_a_rotation_that_a_crash_cuts_short_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = small_log.plain(tmp_path / "log")

    with monkeypatch.context() as patched:
        patched.setattr(ledger.Ledger, "_roll_forward", lambda self: False)
        new = rotation.rotate(log)
    assert log.layout.pending.exists()
    again = Log(log.layout.root)
    assert again.public_key == log.public_key and again.ledger.recover()
    assert again.ledger.entries[-1] == new and verify(log.layout.root).ok and independent(again) == []


def test_a_lost_key_is_named_until_somebody_vouches(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log")
    anchors.write(log, tmp_path / "before")
    with pytest.raises(UsageError, match="not lost"):
        rotation.rotate(log, is_lost=True)
    forget(log)
    log = Log(log.layout.root)
    with pytest.raises(DamagedError):
        rotation.rotate(log)
    rotation.rotate(log, is_lost=True)
    log = Log(log.layout.root)
    small_log.rates(log, raters[1], "s-0001")
    root, key = log.layout.root, log.public_key
    for beliefs in (Beliefs(), Beliefs(since=tmp_path / "before"), Beliefs(trusted=[bytes(32)])):
        (problem,) = verify(root, beliefs).problems
        assert problem.file == "ledger/entries.jsonl" and key.hex() in problem.problem
    assert verify(root, Beliefs(trusted=[key])).ok
    anchors.write(log, tmp_path / "after")
    assert verify(root, Beliefs(since=tmp_path / "after")).ok
    before, after = (tmp_path / "before").read_bytes(), (tmp_path / "after").read_bytes()
    assert [name for name, _ in independent(log)] == ["ledger/entries.jsonl"]
    assert [name for name, _ in independent(log, before)] == ["ledger/entries.jsonl"]
    assert independent(log, after) == [] and independent(log, key.hex().encode()) == []


def test_what_the_lost_key_signed_stays_proved(tmp_path: Path) -> None:
    """Nobody without it can rewrite what came before, and only enter a new key after it."""
    log, _ = small_log.plain(tmp_path / "log")
    forget(log)
    log = Log(log.layout.root)
    rotation.rotate(log, is_lost=True)
    lines = list(log.ledger.lines)
    entry = canonical.parse_object(lines[-1])
    for wrong in (entry["checkpoint"].replace("\n5\n", "\n4\n"), "", entry["checkpoint"] + "x"):
        body = {**entry, "checkpoint": wrong}
        body.pop("signature")
        new = keyring.signed(body, log.signing_key)
        if wrong != entry["checkpoint"]:
            with pytest.raises(LedgerError, match="not signed for it"):
                keyring.fold(log.ledger.origin, log.ledger.keys[:1], [*lines[:-1], canonical.json_bytes(new)])
