"""The terms: named by digest, never shown altered."""

from pathlib import Path

import pytest
from session_world import BOTH, enrolled, new_log

from rlhf_audit.canonical import sha256_hex
from rlhf_audit.consent import register, terms
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import store
from rlhf_audit.log.ledger import Ledger
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log")


def test_terms_are_kept_exactly_and_named_by_their_digest(log: Log) -> None:
    text = "Ünicode, tabs\tand no last newline"
    digest = terms.add(log, text)
    assert digest == sha256_hex(text.encode())
    assert log.layout.terms_file(digest).read_bytes() == text.encode()
    assert terms.current(log) == (digest, 2, text)


def test_the_same_text_twice_is_one_version(log: Log) -> None:
    size = log.ledger.head.size
    assert terms.add(log) == terms.add(log, terms.DEFAULT_TERMS) == terms.current(log)[0]
    assert log.ledger.head.size == size


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_empty_terms_are_refused(log: Log, text: str) -> None:
    with pytest.raises(UsageError, match="the terms are empty"):
        terms.add(log, text)


def test_each_grant_names_the_terms_that_were_shown(log: Log) -> None:
    first = terms.current(log)[0]
    early = enrolled(log)
    second = terms.add(log, "Second version")
    late = enrolled(log)
    named = {one.rater_id: one.terms_sha256 for one in register.standings(log, log.clock.now())}
    assert named == {early: first, late: second}


def test_terms_that_could_not_be_entered_leave_no_file(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(28, "full")

    before = sorted(log.layout.files())
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", refused)
        with pytest.raises(OSError, match="full"):
            terms.add(log, "Second version")
    assert sorted(log.layout.files()) == before and verify(log.layout.root).ok
    terms.add(log, "Second version")
    assert verify(log.layout.root).ok


def _one_byte_more(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [_one_byte_more, _flipped, Path.unlink, _folder])
def test_nobody_can_agree_to_altered_terms(log: Log, harm) -> None:
    rater_id = enrolled(log, purposes=())
    digest = terms.current(log)[0]
    harm(log.layout.terms_file(digest))
    size = log.ledger.head.size
    for act in (
        lambda: terms.current(log),
        lambda: register.give(log, rater_id, BOTH, "terminal"),
        lambda: register.refuse(log, rater_id, BOTH, "terminal"),
    ):
        with pytest.raises(LogError, match="is not the text that the ledger names"):
            act()
    assert log.ledger.head.size == size


def test_a_log_without_terms_can_not_ask(tmp_path: Path) -> None:
    from session_world import KEY

    log = store.create(tmp_path / "log", signing_key=KEY)
    rater_id, _ = register.enrol(log)
    with pytest.raises(LogError, match="no terms"):
        register.give(log, rater_id, BOTH, "terminal")
