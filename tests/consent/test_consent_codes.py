"""Withdrawal codes: kept nowhere, one answer for all that open nothing, a lock-out that ends by itself."""

import itertools
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from session_world import START, SetClock, enrolled, new_log, opened

from rlhf_audit.consent import codes, people, register
from rlhf_audit.errors import RefusedError, RlhfAuditError, UsageError
from rlhf_audit.log import keys
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Purpose
from rlhf_audit.verification import verify

WRONG = "2222-2222-2222-2222-2222"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> Log:
    return new_log(tmp_path / "log", clock)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was hashed or MACed, in order: the work that a stopwatch would see."""
    done: list[str] = []
    slow, mac = codes.slow_hash, keys.RaterKey.mac

    def slow_hash(letters: str, salt: bytes) -> bytes:
        done.append(f"scrypt of {len(letters)} letters and {len(salt)} bytes")
        return slow(letters, salt)

    def counted(self: keys.RaterKey, purpose: str, data: bytes) -> str:
        done.append(f"HMAC of {len(data)} bytes")
        return mac(self, purpose, data)

    monkeypatch.setattr(codes, "slow_hash", slow_hash)
    monkeypatch.setattr(keys.RaterKey, "mac", counted)
    return done


def tried(log: Log, code: str) -> RlhfAuditError:
    with pytest.raises(RlhfAuditError) as refused:
        codes.opened(log, code)
    return refused.value


def test_a_code_opens_however_it_is_typed_and_is_kept_nowhere(log: Log) -> None:
    rater_id, code = register.enrol(log, "Ann", {"site": "north"})
    enrolled(log)
    assert len(code.replace("-", "")) == 20
    for typed in (code, code.lower(), code.replace("-", ""), f"  {code.replace('-', ' ')}\t"):
        assert codes.opened(log, typed) == rater_id
    secret = code.replace("-", "")[7:]
    for path in log.layout.files():
        data = path.read_bytes()
        for form in (code, secret, secret.lower()):
            assert form.encode() not in data and form.encode().hex().encode() not in data
    assert verify(log.layout.root).ok


def test_every_rater_has_a_code_of_their_own(log: Log) -> None:
    made = [register.enrol(log) for _ in range(12)]
    assert len({code for _, code in made}) == 12
    for rater_id, code in made:
        assert codes.opened(log, code) == rater_id


def test_the_cost_is_one_that_owasp_names(real_codes: None) -> None:
    table = {(2**17, 8, 1), (2**16, 8, 2), (2**15, 8, 3), (2**14, 8, 5), (2**13, 8, 10)}
    assert tuple(codes.SCRYPT[name] for name in "nrp") in table
    assert codes.slow_hash("A" * 20, bytes(16)) != codes.slow_hash("A" * 20, bytes(15) + b"\1")


def test_unknown_erased_and_wrong_are_one_answer_after_the_same_work(log: Log, work: list[str]) -> None:
    here, code = register.enrol(log)
    gone, erased = register.enrol(log)
    _, damaged = register.enrol(log)
    unknown, beyond = codes.make(log.entropy, "r-00000000"), "9999-999" + code[8:]
    log.append("erasure-intent", {"rater_id": gone})
    log.layout.key_file(list(log.ledger.of("enrolled"))[-1].body["rater_id"]).write_bytes(b"{}")
    wrong = code[:-1] + ("B" if code[-1] == "A" else "A")
    said, worked = set(), set()
    for number, attempt in enumerate((unknown, erased, wrong, damaged, beyond)):
        work.clear()
        error = tried(log, attempt)
        said.add((type(error), error.exit_code, str(error)))
        worked.add(tuple(work))
        assert len(list(log.ledger.of("code-tried"))) == number + 1
    assert len(said) == 1 and len(worked) == 1
    assert sum(step.startswith("scrypt") for step in worked.pop()) == 1
    assert said.pop()[:2] == (UsageError, 2)
    assert register.rater(log, here)


def test_one_hash_however_many_raters_there_are(log: Log, work: list[str]) -> None:
    made = [register.enrol(log) for _ in range(30)]
    work.clear()
    assert codes.opened(log, made[17][1]) == made[17][0]
    assert sum(step.startswith("scrypt") for step in work) == 1


@pytest.mark.parametrize(
    "typed", ["", "\n", "A" * 19, "A" * 21, "I" * 20, "0" * 20, "ä" * 20, "\x00" * 20, "A" * 9000]
)
def test_what_is_no_code_is_said_to_be_none_and_counts_for_nothing(
    log: Log, work: list[str], typed: str
) -> None:
    error = tried(log, typed)
    assert isinstance(error, UsageError) and "not a withdrawal code" in str(error)
    assert typed.strip() == "" or typed not in str(error)
    assert work == [] and not list(log.ledger.of("code-tried"))


def test_after_five_wrong_codes_none_is_heard_and_that_ends_by_itself(
    log: Log, clock: SetClock, work: list[str]
) -> None:
    rater_id, code = register.enrol(log)
    for _ in range(codes.TRIES):
        assert isinstance(tried(log, WRONG), UsageError)
        clock.move(seconds=60)
    work.clear()
    size = log.ledger.head.size
    for attempt in (WRONG, code):
        # Another process, after a restart: it is the ledger that remembers.
        error = tried(opened(log), attempt)
        assert isinstance(error, RefusedError) and error.exit_code == 3
        assert "until 2026-03-04 09:15:00 UTC" in str(error) and "withdraw LOG RATER" in str(error)
    assert work == [] and opened(log).ledger.head.size == size, "a locked door is not kept locked by knocking"
    # The operator needs no code.
    assert register.withdraw(log, rater_id)[0]
    clock.time = START + codes.WINDOW - timedelta(microseconds=1)
    assert isinstance(tried(log, code), RefusedError)
    clock.time = START + codes.WINDOW
    assert codes.opened(log, code) == rater_id


def test_a_clock_that_was_set_back_locks_for_no_longer(log: Log, clock: SetClock) -> None:
    rater_id, code = register.enrol(log)
    for _ in range(codes.TRIES):
        tried(log, WRONG)
    clock.move(days=-300)
    assert codes.opened(log, code) == rater_id


def test_what_was_killed_while_it_hashed_counts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    rater_id, code = register.enrol(log)

    def killed(_letters: str, _salt: bytes) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(codes, "slow_hash", killed)
        for _ in range(codes.TRIES):
            with pytest.raises(KeyboardInterrupt):
                codes.opened(log, WRONG)
    assert isinstance(tried(opened(log), code), RefusedError)
    assert register.rater(log, rater_id)


def test_right_codes_count_for_nothing(log: Log) -> None:
    made = [register.enrol(log) for _ in range(2 * codes.TRIES)]
    for rater_id, code in made:
        assert codes.opened(log, code) == rater_id
    # Nor do they hide wrong ones.
    for (rater_id, code), _ in zip(made, range(codes.TRIES), strict=False):
        assert isinstance(tried(log, WRONG), UsageError)
        if len(list(log.ledger.of("code-tried"))) < 3 * codes.TRIES:
            assert codes.opened(log, code) == rater_id
    assert isinstance(tried(log, made[0][1]), RefusedError)


def test_many_at_once_are_heard_no_oftener(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = itertools.count()
    slow = codes.slow_hash

    def counted(letters: str, salt: bytes) -> bytes:
        next(heard)
        return slow(letters, salt)

    monkeypatch.setattr(codes, "slow_hash", counted)
    errors: list[RlhfAuditError] = []
    handles = [opened(log) for _ in range(12)]
    start = threading.Barrier(len(handles))

    def one(handle: Log) -> None:
        start.wait()
        try:
            codes.opened(handle, WRONG)
        except RlhfAuditError as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert next(heard) <= codes.TRIES
    assert sum(isinstance(error, RefusedError) for error in errors) >= len(handles) - codes.TRIES


def test_a_new_code_voids_the_old_one(log: Log) -> None:
    rater_id, old = register.enrol(log)
    key = log.layout.key_file(rater_id).read_bytes()
    new = people.renew_code(log, rater_id)
    assert isinstance(tried(log, old), UsageError)
    assert codes.opened(opened(log), new) == rater_id
    assert log.layout.key_file(rater_id).read_bytes() == key, "a key is written once"
    assert verify(log.layout.root).ok


def test_nobody_who_is_erased_or_unknown_gets_a_new_code(log: Log) -> None:
    rater_id, _ = register.enrol(log)
    log.append("erasure-intent", {"rater_id": rater_id})
    never = f"{rater_id[:-1]}{'0' if rater_id[-1] != '0' else '1'}"
    texts = set()
    for who in (rater_id, never):
        with pytest.raises(UsageError) as refused:
            people.renew_code(log, who)
        texts.add(str(refused.value).replace(who, "X"))
    assert len(texts) == 1


def test_a_code_withdraws_as_the_rater_would_and_again_says_the_same(log: Log, clock: SetClock) -> None:
    rater_id, code = register.enrol(log)
    register.give(log, rater_id, [Purpose.TRAINING], "terminal")
    first = register.withdraw(log, codes.opened(log, code))
    clock.move(days=1)
    assert register.withdraw(log, codes.opened(log, code)) == first
    assert register.standings(log, clock.now(), rater_id)[0].state is ConsentState.WITHDRAWN


def _entries(log: Log) -> Iterator[str]:
    for entry in log.ledger.of("code-tried", "code-accepted"):
        yield str(dict(entry.body))


def test_the_list_of_tries_names_nobody(log: Log) -> None:
    rater_id, code = register.enrol(log, "Zebedee")
    codes.opened(log, code)
    tried(log, WRONG)
    assert all(word not in text for text in _entries(log) for word in (rater_id, "Zebedee", code))
