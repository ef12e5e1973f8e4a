"""Who agreed to what: states, edges of time, and answers that give nothing away."""

import ast
import json
from datetime import timedelta
from pathlib import Path

import pytest
from session_world import BOTH, START, SetClock, enrolled, new_log, opened

import rlhf_audit
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, DamagedError, RefusedError, UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Grant, Purpose, issue_grant

PACKAGE = Path(rlhf_audit.__file__).parent
T, A, P = Purpose.TRAINING, Purpose.AUDIT, Purpose.PUBLICATION


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> Log:
    return new_log(tmp_path / "log", clock)


def test_only_the_register_makes_grants() -> None:
    callers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None)}
            if names & {"issue_grant", "_GRANT_SEAL"}:
                callers.add(path.relative_to(PACKAGE).as_posix())
    assert callers == {"types.py", "consent/register.py"}


def test_a_grant_can_not_be_forged_or_altered(log: Log) -> None:
    rater_id = enrolled(log)
    real = register.grant_for(log, rater_id, START)
    values = [real.grant_id, rater_id, real.terms_sha256, real.purposes, real.given_at, real.expires_at]
    for seal in ((), (object(),), (None,), (True,)):
        with pytest.raises(TypeError, match=r"consent\.register only"):
            Grant(*values, *seal)
    with pytest.raises(AttributeError):
        real.rater_id = "r-00000000"  # type: ignore[misc]


@pytest.mark.parametrize("purposes", [(T,), (A,), (P,), (T, A), (T, A, P)])
def test_a_grant_covers_what_was_named_and_no_more(log: Log, purposes: tuple[Purpose, ...]) -> None:
    rater_id = enrolled(log, purposes=purposes)
    assert register.grant_for(log, rater_id, START).purposes == set(purposes)
    for purpose in Purpose:
        if purpose in purposes:
            assert register.grant_for(log, rater_id, START, purpose).rater_id == rater_id
        else:
            with pytest.raises(ConsentError) as refused:
                register.grant_for(log, rater_id, START, purpose)
            assert f"may not be recorded for {purpose}" in str(refused.value)
            assert f"consent for {', '.join(sorted(purposes))}" in str(refused.value)


def test_no_purpose_is_no_consent(log: Log) -> None:
    rater_id = enrolled(log, purposes=())
    size = log.ledger.head.size
    with pytest.raises(UsageError, match="no purpose was named"):
        register.give(log, rater_id, [], "terminal")
    assert log.ledger.head.size == size


def test_never_asked_refused_and_withdrawn_are_refused_each_in_its_words(log: Log) -> None:
    rater_id = enrolled(log, purposes=())
    for act, seen in (
        (lambda: None, "no consent was ever given"),
        (lambda: register.refuse(log, rater_id, BOTH, "terminal"), "consent refused"),
        (lambda: register.withdraw(log, rater_id), "consent refused"),
    ):
        act()
        with pytest.raises(ConsentError) as refused:
            register.grant_for(log, rater_id, START)
        assert refused.value.exit_code == 3
        assert seen in str(refused.value)
    register.give(log, rater_id, BOTH, "terminal")
    register.withdraw(log, rater_id)
    with pytest.raises(ConsentError, match="consent withdrawn"):
        register.grant_for(log, rater_id, START)


def test_a_refusal_does_not_take_an_earlier_consent_back_but_a_withdrawal_does(log: Log) -> None:
    rater_id = enrolled(log, purposes=[T])
    register.refuse(log, rater_id, [A], "terminal")
    assert register.grant_for(log, rater_id, START).purposes == {T}


def test_consent_ends_at_the_second_that_was_shown(log: Log, clock: SetClock) -> None:
    rater_id = enrolled(log)
    end = START + timedelta(days=register.GRANT_DAYS)
    grant = register.grant_for(log, rater_id, end - timedelta(microseconds=1))
    assert (grant.given_at, grant.expires_at) == (START, end)
    for late in (end, end + timedelta(microseconds=1), end + timedelta(days=400)):
        with pytest.raises(ConsentError, match="consent expired"):
            register.grant_for(log, rater_id, late)
        assert register.standings(log, late, rater_id)[0].state is ConsentState.EXPIRED


def test_consent_does_not_reach_back_before_it_was_given(log: Log, clock: SetClock) -> None:
    rater_id = enrolled(log)
    assert register.grant_for(log, rater_id, START)
    with pytest.raises(ConsentError):
        register.grant_for(log, rater_id, START - timedelta(microseconds=1))


def test_a_withdrawal_may_name_one_purpose(log: Log) -> None:
    rater_id = enrolled(log, purposes=[T, A])
    purposes, due = register.withdraw(log, rater_id, [T])
    assert purposes == [T]
    assert due == START + timedelta(days=register.ERASE_WITHIN_DAYS)
    assert register.grant_for(log, rater_id, START).purposes == {A}
    with pytest.raises(ConsentError):
        register.grant_for(log, rater_id, START, T)
    register.withdraw(log, rater_id, [A])
    assert register.standings(log, START, rater_id)[0].state is ConsentState.WITHDRAWN


def test_a_withdrawal_said_again_is_one_withdrawal(log: Log, clock: SetClock) -> None:
    rater_id = enrolled(log)
    first = register.withdraw(log, rater_id)
    size = log.ledger.head.size
    clock.move(days=3)
    assert register.withdraw(log, rater_id) == first
    assert register.withdraw(log, rater_id, [T])[1] == first[1]
    assert log.ledger.head.size == size


def test_a_withdrawal_that_names_no_purpose_takes_back_all(log: Log) -> None:
    rater_id = enrolled(log)
    purposes, _ = register.withdraw(log, rater_id, iter(()))
    assert purposes == sorted(Purpose)
    assert register.standings(log, START, rater_id)[0].state is ConsentState.WITHDRAWN


def test_a_withdrawal_needs_no_lock_and_is_seen_by_the_writer(log: Log) -> None:
    rater_id = enrolled(log)
    with log.writing():
        register.withdraw(opened(log), rater_id)
        assert log.ledger.changed_on_disk()
        log.ledger.load()
        with pytest.raises(ConsentError):
            register.grant_for(log, rater_id, START)


def test_consent_given_again_is_another_grant(log: Log, clock: SetClock) -> None:
    rater_id = enrolled(log)
    register.withdraw(log, rater_id)
    clock.move(seconds=1)
    again = register.give(log, rater_id, [A], "terminal")
    assert again.grant_id == "g-0002"
    states = [(s.grant_id, s.state, s.purposes) for s in register.standings(log, clock.now(), rater_id)]
    assert states == [("g-0001", "withdrawn", frozenset()), ("g-0002", "given", {A})]
    # A withdrawal after the new consent is a new one.
    register.withdraw(log, rater_id)
    assert [s.state for s in register.standings(log, clock.now(), rater_id)] == ["withdrawn", "withdrawn"]


def test_a_certain_grant_is_not_replaced_by_another(log: Log) -> None:
    rater_id = enrolled(log)
    register.withdraw(log, rater_id)
    register.give(log, rater_id, BOTH, "terminal")
    assert register.grant_for(log, rater_id, START).grant_id == "g-0002"
    with pytest.raises(ConsentError):
        register.grant_for(log, rater_id, START, grant_id="g-0001")
    other = enrolled(log)
    with pytest.raises(ConsentError):
        register.grant_for(log, other, START, grant_id="g-0002")


def test_a_script_agrees_by_script_and_a_person_in_person(log: Log) -> None:
    person, script = enrolled(log, purposes=()), enrolled(log, "oracle", purposes=())
    size = log.ledger.head.size
    for rater_id, method in ((person, "scripted"), (script, "terminal"), (script, "web")):
        with pytest.raises(RefusedError, match="scripted raters only"):
            register.give(log, rater_id, BOTH, method)
    assert log.ledger.head.size == size
    register.give(log, person, BOTH, "terminal")
    register.give(log, script, BOTH, "scripted")
    assert [register.rater(log, r)["scripted"] for r in (person, script)] == [None, "oracle"]


HOSTILE = [
    "",
    "../x",
    "r-../../..",
    "/etc/passwd",
    "r-1234567",
    "r-123456789",
    "r-1234567G",
    "R-12345678",
    "r-12345678\n",
    "r-1234\x005678",
    "\x00",
    "r-１２３４５６７８",
    "r-" + "0" * 100_000,
    "r-12345678/../../keys",
    "\x1b[2J",
    "\ud800",
]


@pytest.mark.parametrize("rater_id", HOSTILE)
def test_a_hostile_rater_id_is_refused_before_any_file_is_touched(log: Log, rater_id: str) -> None:
    for act in (
        lambda: register.rater(log, rater_id),
        lambda: register.grant_for(log, rater_id, START),
        lambda: register.give(log, rater_id, BOTH, "terminal"),
        lambda: register.refuse(log, rater_id, BOTH, "terminal"),
        lambda: register.withdraw(log, rater_id),
    ):
        with pytest.raises(UsageError, match="that is not a rater id") as refused:
            act()
        text = str(refused.value)
        assert text.isascii() and all(line.isprintable() for line in text.splitlines())
        assert len(text) < 300


def test_a_rater_who_is_unknown_and_one_who_is_erased_are_one_answer(log: Log) -> None:
    here = enrolled(log, alias="Ann")
    gone = enrolled(log, alias="Bob")
    log.append("erasure-intent", {"rater_id": gone})
    never = f"{gone[:-1]}{'0' if gone[-1] != '0' else '1'}"
    texts = []
    for rater_id in (gone, never):
        for act in (
            lambda: register.rater(log, rater_id),  # noqa: B023
            lambda: register.withdraw(log, rater_id),  # noqa: B023
            lambda: register.give(log, rater_id, BOTH, "terminal"),  # noqa: B023
            lambda: register.grant_for(log, rater_id, START),  # noqa: B023
        ):
            with pytest.raises(UsageError) as refused:
                act()
            # What is suggested depends on the word asked for; all else is the same.
            assert refused.value.seen in (f"did you mean {here}?", "1 enrolled, none of that name")
            texts.append((refused.value.what.replace(rater_id, "X"), refused.value.needed, refused.value.fix))
    assert len(set(texts)) == 1


def test_a_misspelt_rater_is_suggested_by_pseudonym_and_never_by_name(log: Log) -> None:
    rater_id = enrolled(log, alias="Ann Example")
    misspelt = rater_id[:-1] + ("0" if rater_id[-1] != "0" else "1")
    with pytest.raises(UsageError) as refused:
        register.rater(log, misspelt)
    assert f"did you mean {rater_id}?" in str(refused.value)
    assert "Ann" not in str(refused.value)


def test_alias_and_groups_are_in_the_key_file_alone(log: Log) -> None:
    rater_id = enrolled(log, alias="Zoë Quixote", groups={"clinic": "Umbrella"})
    for needle in ("Quixote", "Umbrella", "clinic"):
        holding = [path for path in log.layout.files() if needle.encode() in path.read_bytes()]
        assert holding == [log.layout.key_file(rater_id)]
    assert log.layout.key_file(rater_id).stat().st_mode & 0o077 == 0
    assert log.layout.keys.stat().st_mode & 0o077 == 0


def test_codes_and_pseudonyms_are_not_repeated(log: Log) -> None:
    made = [register.enrol(log, "same name") for _ in range(8)]
    assert len({rater_id for rater_id, _ in made}) == 8
    assert len({code for _, code in made}) == 8


def test_without_the_signing_key_nothing_is_written(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "nowhere"))
    keyless = Log(log.layout.root)
    before = {path: path.read_bytes() for path in log.layout.files()}
    with pytest.raises(DamagedError, match="signing key"):
        register.enrol(keyless, "Ann")
    with pytest.raises(DamagedError, match="signing key"):
        from rlhf_audit.consent import terms

        terms.add(keyless, "Other terms")
    assert {path: path.read_bytes() for path in log.layout.files()} == before


def test_the_ledger_holds_the_consent_as_it_was_given(log: Log) -> None:
    rater_id = enrolled(log, purposes=[P, T])
    body = next(iter(log.ledger.of("consent"))).body
    assert json.loads(json.dumps(body)) == {
        "grant_id": "g-0001",
        "rater_id": rater_id,
        "state": "given",
        "terms_sha256": next(iter(log.ledger.of("terms"))).body["terms_sha256"],
        "terms_version": 1,
        "purposes": ["publication", "training"],
        "method": "terminal",
        "given_by": "rater",
        "given_at": "2026-03-04T09:00:00.000000Z",
        "expires_at": "2027-03-04T09:00:00.000000Z",
    }
    made = issue_grant("g", rater_id, "t", frozenset({T}), START, START)
    assert made == issue_grant("g", rater_id, "t", frozenset({T}), START, START)
