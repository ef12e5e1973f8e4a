"""A ledger that is read on from where it was checked sees every change that a first reading sees."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[0]))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.errors import LedgerError
from rlhf_audit.log import merkle
from rlhf_audit.log.store import Log


def test_a_changed_byte_is_refused_by_a_handle_that_had_checked_it(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log", 2)
    whole = log.layout.entries.read_bytes()
    head, entries = log.ledger.head, list(log.ledger.entries)
    for place in range(0, len(whole), len(whole) // 23):
        changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        log.layout.entries.write_bytes(changed)
        with pytest.raises(LedgerError):
            log.ledger._load()
        with pytest.raises(LedgerError):
            Log(log.layout.root).ledger._load()
        assert log.ledger.head == head and list(log.ledger.entries) == entries
    for shorter in (whole[: whole.rindex(b"\n", 0, -1) + 1], b"", whole + whole[:10], whole * 2):
        log.layout.entries.write_bytes(shorter)
        with pytest.raises(LedgerError):
            log.ledger._load()
    log.layout.entries.write_bytes(whole)
    log.append("report-removed", {"path": "reports/none"})
    assert log.ledger.head == Log(log.layout.root).ledger.head != head


def test_heads_events_and_places_are_those_of_a_first_reading(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    assert log.whereabouts.sessions
    for number in range(5):
        where = log.whereabouts
        log.append("report-removed", {"path": str(number)})
        assert log.whereabouts is where
        again = Log(log.layout.root)
        leaves = [merkle.leaf_hash(line) for line in again.ledger.lines]
        for size in range(len(leaves) + 1):
            assert log.ledger.head_at(size) == again.ledger.head_at(size)
            assert log.ledger.head_at(size).root == merkle.root(leaves[:size]).hex()
        for events in (("session",), ("consent", "enrolled"), ("nothing",)):
            expected = [entry for entry in again.ledger.entries if entry.event in events]
            assert list(log.ledger.of(*events)) == list(again.ledger.of(*events)) == expected
    small_log.rates(Log(log.layout.root), raters[1], "s-0001", seed=9)
    log.ledger.load()
    assert log.whereabouts.files == Log(log.layout.root).whereabouts.files
    assert log.whereabouts is not where
