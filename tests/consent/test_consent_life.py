"""Consent's whole life: new terms, forms on paper, who agrees for whom, invalid grants, edges of expiry."""

import contextlib
import os
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from session_world import BOTH, KEY, START, Presses, SetClock, enrolled, new_log, opened, rate, script

from rlhf_audit.consent import forms, people, register, standings, terms
from rlhf_audit.consent.forms import Form
from rlhf_audit.consent.people import Giver
from rlhf_audit.errors import ConsentError, LogError, RefusedError, UsageError
from rlhf_audit.log import store, views
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Purpose

T, A, P = Purpose.TRAINING, Purpose.AUDIT, Purpose.PUBLICATION
YEAR = timedelta(days=register.GRANT_DAYS)
TICK = timedelta(microseconds=1)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> Log:
    return new_log(tmp_path / "log", clock)


def usable(log: Log, as_of: datetime, view: str = "usable_for_training") -> int:
    with contextlib.closing(views.connect(log, as_of)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {view}").fetchall()[0][0])


def states(log: Log, as_of: datetime) -> list[str]:
    """Return the states of all grants; the views and the register say the same."""
    said = [one.state.value for one in standings.standings(log, as_of)]
    with contextlib.closing(views.connect(log, as_of)) as connection:
        rows = connection.execute("SELECT state FROM grants ORDER BY grant_id").fetchall()
    assert [state for (state,) in rows] == said
    return said


def test_new_terms_need_a_new_grant_and_old_rows_stay_usable(log: Log, clock: SetClock) -> None:
    robot = enrolled(log, "oracle")
    script(log, robot, max_feedback=5)
    before = usable(log, clock.now())
    terms.add(log, "New terms")
    with pytest.raises(ConsentError) as refused:
        script(log, robot, max_feedback=5)
    assert "older terms" in str(refused.value) and "newest terms" in str(refused.value)
    assert usable(log, clock.now()) == before == 5
    assert states(log, clock.now()) == ["given"]
    register.give(log, robot, BOTH, "scripted")
    assert script(log, robot, max_feedback=5).feedback == 5
    assert usable(log, clock.now()) == 10


def test_a_session_that_runs_goes_on_under_its_own_terms(log: Log) -> None:
    person = enrolled(log)

    def changed(_question: object) -> object:
        terms.add(log, "New terms")
        return Presses(["1"]).ask(_question)  # type: ignore[arg-type]

    done = rate(log, person, Presses(["1", changed, "1", "q"]))
    assert done.feedback == 3
    with pytest.raises(ConsentError, match="may not be recorded"):
        rate(log, person, Presses(["1"]))


def test_going_back_to_an_earlier_text_is_a_new_version_that_was_agreed_to(log: Log) -> None:
    person = enrolled(log)
    first = terms.current(log)[:2]
    terms.add(log, "Second")
    with pytest.raises(ConsentError):
        register.grant_for(log, person, START)
    terms.add(log)
    assert terms.current(log)[:2] == (first[0], 3)
    assert register.grant_for(log, person, START).terms_sha256 == first[0]


@pytest.mark.parametrize("act", [register.refuse, register.give])
def test_an_answer_to_other_terms_than_the_newest_is_none(log: Log, act) -> None:
    person = enrolled(log, purposes=())
    shown = terms.current(log)[0]
    terms.add(log, "Second")
    size = log.ledger.head.size
    with pytest.raises(RefusedError, match="terms have changed"):
        act(log, person, BOTH, "terminal", shown)
    assert log.ledger.head.size == size


def test_what_was_invalidated_is_used_for_nothing_and_stops_a_session(log: Log, clock: SetClock) -> None:
    robot, other = enrolled(log, "oracle", groups={"hand": "left"}), enrolled(log, "oracle")
    script(log, robot, max_feedback=5)
    assert views.consented_groups(log, clock.now())[robot] == {"hand": "left"}
    assert register.invalidate(log, robot, " not signed ") == ["g-0001"]
    assert states(log, clock.now()) == ["invalidated", "given"]
    assert usable(log, clock.now()) == usable(log, clock.now(), "usable_for_audit") == 0
    assert robot not in views.consented_groups(log, clock.now())
    for grant_id in (None, "g-0001"):
        with pytest.raises(ConsentError, match="consent invalidated"):
            register.grant_for(log, robot, START, grant_id=grant_id)
    size = log.ledger.head.size
    assert register.invalidate(log, robot, "again") == ["g-0001"] and log.ledger.head.size == size
    assert next(log.ledger.of("consent-invalidated")).body["reason"] == "not signed"
    # A consent that is given after it counts.
    register.give(log, robot, [A], "scripted")
    assert states(log, clock.now()) == ["invalidated", "given", "given"]
    assert register.grant_for(log, other, START)


def test_a_session_stops_when_its_grant_is_invalidated(log: Log) -> None:
    person = enrolled(log)

    def found(_question: object) -> object:
        register.invalidate(opened(log), person, "another person's")
        return Presses(["1"]).ask(_question)  # type: ignore[arg-type]

    with pytest.raises(ConsentError, match="consent invalidated"):
        rate(log, person, Presses(["1", found, "1"]))
    assert usable(log, START) == 0


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_nothing_is_invalidated_without_a_reason_or_a_grant(log: Log, reason: str) -> None:
    with pytest.raises(UsageError, match="nothing can be invalidated"):
        register.invalidate(log, enrolled(log), reason)
    with pytest.raises(UsageError, match="nothing can be invalidated"):
        register.invalidate(log, enrolled(log, purposes=()), "why")


@pytest.mark.parametrize(
    "zone", [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12, minutes=-30))]
)
def test_consent_ends_at_one_moment_in_every_zone(tmp_path: Path, zone: timezone) -> None:
    clock = SetClock(START.astimezone(zone))
    log = new_log(tmp_path / "log", clock)
    robot = enrolled(log, "oracle")
    body = next(log.ledger.of("consent")).body
    assert (body["given_at"], body["expires_at"]) == (
        "2026-03-04T09:00:00.000000Z",
        "2027-03-04T09:00:00.000000Z",
    )
    # A row that is made in the last microsecond counts.
    clock.time = (START + YEAR - TICK).astimezone(zone)
    assert script(log, robot, max_feedback=1).feedback == 1
    last = clock.time
    assert usable(log, last) == 1 and states(log, last) == ["given"]
    end = (START + YEAR).astimezone(zone)
    assert usable(log, end) == 0 and states(log, end) == ["expired"]
    assert views.consented_groups(log, last) and not views.consented_groups(log, end)
    clock.time = end
    with pytest.raises(ConsentError, match="consent expired"):
        script(log, robot, max_feedback=1)


def test_a_renewal_is_for_what_comes_and_lengthens_nothing(log: Log, clock: SetClock) -> None:
    robot = enrolled(log, "oracle")
    script(log, robot, max_feedback=3)
    clock.time = START + YEAR - timedelta(days=1)
    renewed = register.give(log, robot, BOTH, "scripted")
    assert register.grant_for(log, robot, clock.now()).grant_id == renewed.grant_id
    script(log, robot, max_feedback=2, seed=4)
    assert usable(log, clock.now()) == 5
    clock.time = START + YEAR
    assert states(log, clock.now()) == ["expired", "given"]
    assert usable(log, clock.now()) == 2, "each row ends with the grant that it was given by"


def test_a_session_stops_at_its_own_expiry_though_it_was_renewed(log: Log, clock: SetClock) -> None:
    person = enrolled(log)
    clock.time = START + YEAR - timedelta(seconds=1)

    def late(question: object) -> object:
        clock.time = START + YEAR
        return Presses(["1"]).ask(question)  # type: ignore[arg-type]

    with pytest.raises(ConsentError):
        rate(log, person, Presses(["1", late, "1"]))
    assert usable(log, START + YEAR - TICK) == 1


SIGNED = date(2026, 3, 1)


def form(byte: str = "a", day: date = SIGNED) -> Form:
    return Form(byte * 64, day)


def test_a_form_is_recorded_by_its_digest_and_its_time_runs_from_the_signature(
    log: Log, tmp_path: Path
) -> None:
    person = enrolled(log, purposes=())
    scan = tmp_path / "Ann Example.pdf"
    scan.write_bytes(b"%PDF Ann Example, signed")
    read = forms.read(scan, "2026-03-01")
    grant = register.give(log, person, [T, P], "imported", form=read)
    assert grant.given_at == START and grant.expires_at == datetime(2027, 3, 1, tzinfo=UTC)
    body = next(log.ledger.of("consent")).body
    assert (body["method"], body["signed_on"], body["scan_sha256"]) == (
        "imported",
        "2026-03-01",
        read.scan_sha256,
    )
    held = [path for path in log.layout.files() if b"Ann Example" in path.read_bytes() or "Ann" in path.name]
    assert held == []


@pytest.mark.parametrize(
    ("day", "fine"), [(date(2026, 3, 4), True), (date(2026, 3, 5), False), (date(9999, 12, 31), False)]
)
def test_a_form_may_not_be_of_a_day_to_come(log: Log, day: date, fine: bool) -> None:
    person = enrolled(log, purposes=())
    if fine:
        assert register.give(log, person, [T], "imported", form=form(day=day)).expires_at
    else:
        with pytest.raises(UsageError, match="in the future"):
            register.give(log, person, [T], "imported", form=form(day=day))


def test_a_form_ends_a_year_after_its_day(log: Log, clock: SetClock) -> None:
    person = enrolled(log, purposes=())
    clock.time = datetime(2027, 3, 1, tzinfo=UTC) - TICK
    assert register.give(log, person, [T], "imported", form=form())
    clock.time = datetime(2027, 3, 1, tzinfo=UTC)
    with pytest.raises(RefusedError, match="has ended by itself"):
        register.give(log, person, [T], "imported", form=form("b"))


def test_no_form_overrules_what_was_said_since_it_was_signed(log: Log, clock: SetClock) -> None:
    person, other = enrolled(log, purposes=()), enrolled(log, purposes=())
    register.give(log, person, [T], "imported", form=form())
    for again in (person, other):
        with pytest.raises(RefusedError, match="recorded before"):
            register.give(log, again, [T], "imported", form=form())
    register.withdraw(log, person)
    register.refuse(log, other, [T], "terminal")
    for who, byte in ((person, "b"), (other, "c")):
        for day in (SIGNED, START.date()):
            with pytest.raises(RefusedError, match="has said no since"):
                register.give(log, who, [T], "imported", form=form(byte, day))
    clock.move(days=1)
    assert register.give(log, person, [T], "imported", form=form("b", date(2026, 3, 5)))


def test_a_form_is_for_people(log: Log) -> None:
    with pytest.raises(RefusedError, match="scripted raters only"):
        register.give(log, enrolled(log, "oracle", purposes=()), [T], "imported", form=form())


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "nul"])
def test_a_scan_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    scan = tmp_path / "Ann.pdf"
    {
        "missing": lambda: None,
        "folder": scan.mkdir,
        "pipe": lambda: os.mkfifo(scan),
        "empty": scan.touch,
        "nul": lambda: None,
    }[kind]()
    with pytest.raises(UsageError, match="scan of the form can't be read") as refused:
        forms.read(Path("a\0b") if kind == "nul" else scan, "2026-03-01")
    assert "Ann" not in str(refused.value)


@pytest.mark.parametrize("day", ["", "yesterday", "2026-02-30", "04/03/2026", "2026-03-04T00:00", "\x1b[2J"])
def test_a_day_that_is_none_is_refused(tmp_path: Path, day: str) -> None:
    (tmp_path / "scan").write_bytes(b"x")
    with pytest.raises(UsageError, match="no date") as refused:
        forms.read(tmp_path / "scan", day)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("by", [Giver.GUARDIAN, Giver.PROXY])
def test_nobody_agrees_for_another_unless_the_log_says_so(log: Log, by: Giver) -> None:
    person = enrolled(log, purposes=())
    size = log.ledger.head.size
    with pytest.raises(RefusedError, match="takes no consent"):
        register.give(log, person, [T], "terminal", by=by)
    assert log.ledger.head.size == size
    people.permit(log, [by])
    register.give(log, person, [T], "terminal", by=by)
    assert list(log.ledger.of("consent"))[-1].body["given_by"] == by.value
    with pytest.raises(RefusedError):
        register.give(log, person, [T], "terminal", by=({*Giver} - {by, Giver.RATER}).pop())


@pytest.mark.parametrize("groups", [{"age": "17"}, {"Age ": " 0"}, {"AGE": "Minor"}, {"age": "under-18"}])
def test_who_is_under_age_needs_a_guardian_and_a_log_that_takes_one(log: Log, groups: dict[str, str]) -> None:
    child = enrolled(log, purposes=(), groups=groups)
    for by in Giver:
        with pytest.raises(RefusedError, match="takes no consent"):
            register.give(log, child, [T], "terminal", by=by)
    people.permit(log, [Giver.GUARDIAN])
    people.permit(log, [Giver.PROXY])
    for by in (Giver.RATER, Giver.PROXY):
        with pytest.raises(RefusedError, match="can't agree alone"):
            register.give(log, child, [T], "terminal", by=by)
    with pytest.raises(ConsentError):
        register.grant_for(log, child, START)
    assert register.give(log, child, [T], "terminal", by=Giver.GUARDIAN)


@pytest.mark.parametrize("groups", [{"age": "18"}, {"age": "99"}, {"age": "adult"}, {"stage": "minor"}, {}])
def test_others_agree_for_themselves(log: Log, groups: dict[str, str]) -> None:
    assert register.give(log, enrolled(log, purposes=(), groups=groups), [T], "terminal")


def test_without_the_key_that_says_who_is_under_age_nobody_agrees(log: Log) -> None:
    person = enrolled(log, purposes=())
    log.layout.key_file(person).unlink()
    with pytest.raises(LogError):
        register.give(log, person, [T], "terminal")


def test_a_log_of_no_terms_records_nobody(tmp_path: Path) -> None:
    log = store.create(tmp_path / "log", SetClock(), None, KEY)
    assert terms.newest(log) is None
    with pytest.raises(ConsentError):
        register.grant_for(log, register.enrol(log)[0], START)


def test_all_five_states_are_reached(log: Log, clock: SetClock) -> None:
    enrolled(log, purposes=[T])
    register.refuse(log, enrolled(log, purposes=()), [T], "terminal")
    register.withdraw(log, enrolled(log))
    register.invalidate(log, enrolled(log), "why")
    clock.move(days=400)
    enrolled(log)
    assert states(log, clock.now()) == ["expired", "refused", "withdrawn", "invalidated", "given"]
    assert set(states(log, clock.now())) == {state.value for state in ConsentState}
