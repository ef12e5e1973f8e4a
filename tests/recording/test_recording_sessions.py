"""What a session writes: steps, questions, answers, undos, and who may be recorded at all."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import (
    BOTH,
    ENVIRONMENTS,
    START,
    Presses,
    SetClock,
    enrolled,
    feedback_rows,
    new_log,
    opened,
    rate,
    script,
    step_rows,
    tree,
)

from rlhf_audit import envs
from rlhf_audit.clock import TickingClock
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, LockedError, RefusedError
from rlhf_audit.log import reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionFacts, SessionWriter
from rlhf_audit.policy.network import probabilities
from rlhf_audit.recording.record import behaviour_policy
from rlhf_audit.session import Fixed, Limits, Moment, interview
from rlhf_audit.types import Answer, AnswerKind, Purpose


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log", SetClock())


# --- environments ---


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_every_step_of_every_environment_is_a_row(log: Log, env_id: str) -> None:
    rater_id = enrolled(log, "oracle")
    done = script(log, rater_id, env_id=env_id, episodes=2, ask_every=10)
    rows = step_rows(log, env_id=env_id)
    episodes = reader.session(log, "s-0001").episodes
    assert done.episodes == len(episodes) == 2
    assert done.steps == len(rows) == sum(len(episode.steps) for episode in episodes)
    assert [row["step"] for row in rows] == [n for e in episodes for n in range(len(e.steps))]
    with envs.open_env(env_id) as env:
        for episode in episodes:
            observation = env.reset(seed=episode.reset_seed)[0]
            for number, step in enumerate(episode.steps):
                assert step.observation.dtype == env.observation_space.dtype
                assert step.observation.tobytes() == np.asarray(observation).tobytes()
                observation, reward, terminated, truncated, _ = env.step(step.action)
                assert (step.env_reward, step.terminated, step.truncated) == (reward, terminated, truncated)
                assert (terminated or truncated) == (number == len(episode.steps) - 1)
            assert episode.final_observation.tobytes() == np.asarray(observation).tobytes()
    asked = [(row["episode_id"], row["step"]) for row in feedback_rows(log, rater_id)]
    assert asked == [(row["episode_id"], row["step"]) for row in rows[::10]]
    assert done.feedback == len(asked)


def test_an_environment_that_reuses_its_array_is_recorded_step_by_step(log: Log) -> None:
    source = Presses("11111111")
    rate(log, enrolled(log), source, env_id="Reusing-v0", max_feedback=8)
    rows = step_rows(log, env_id="Reusing-v0")
    assert [row["observation"][0] for row in rows] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert [row["observation"][1] for row in rows[1:7]] == [row["action"] for row in rows[:6]]
    assert [question.observation[0] for question in source.asked] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert reader.session(log, "s-0001").episodes[0].final_observation[0] == 7
    assert [row["env_reward"] for row in rows] == [0.5] * 8
    assert [question.return_so_far for question in source.asked] == [n * 0.5 for n in range(7)] + [0.0]


def test_a_source_can_not_change_what_was_recorded(log: Log) -> None:
    def scribble(question: Any) -> Answer:
        with pytest.raises(ValueError, match="read-only"):
            question.observation[0] = 99.0
        return Answer(AnswerKind.ANSWER, 1.0)

    rate(log, enrolled(log), Presses([scribble, "1"]), max_feedback=2)
    assert all(abs(row["observation"][0]) < 1 for row in step_rows(log))


def test_the_probability_of_each_action_is_the_policys_own(log: Log) -> None:
    script(log, enrolled(log, "oracle"), episodes=3)
    recorded = reader.session(log, "s-0001")
    weights = behaviour_policy(log, None, envs.EnvRecord(**recorded.facts["env"]), 3)[1]
    for episode in recorded.episodes:
        for step in episode.steps:
            chances = probabilities(weights, step.observation[None])[0]
            assert step.action_probability == float(chances[step.action])


# --- asking ---


@pytest.mark.parametrize(("every", "n_answers"), [(1, 30), (7, 12), (1000, 1)])
def test_asking_every_nth_step_runs_through_all_episodes(log: Log, every: int, n_answers: int) -> None:
    rater_id = enrolled(log, "always-yes")
    script(log, rater_id, "always-yes", episodes=8, ask_every=every, max_feedback=n_answers)
    steps = step_rows(log)
    asked = [(row["episode_id"], row["step"]) for row in feedback_rows(log, rater_id)]
    assert asked == [(row["episode_id"], row["step"]) for row in steps[::every]][:n_answers]
    assert [row["position"] for row in feedback_rows(log, rater_id)] == list(range(len(asked)))


def test_a_limit_of_answers_counts_those_that_stand(log: Log) -> None:
    source = Presses(["1", "s", "u", "1", "u", "0", "s", "1", "1", "1"])
    done = rate(log, enrolled(log), source, max_feedback=3)
    # 1 | skip, undone, 1, undone, 0 | skip | 1: three answers and a skip stand.
    assert done.feedback == 3
    assert len(source.asked) == 8


def test_a_limit_of_episodes_ends_a_session(log: Log) -> None:
    done = script(log, enrolled(log, "oracle"), episodes=2)
    assert done.episodes == 2
    last = step_rows(log)[-1]
    assert last["terminated"] or last["truncated"]
    assert done.feedback == done.steps


# --- undo, skip, quit, withdraw ---


class _Learner(Fixed):
    """Remembers what stands."""

    def __init__(self) -> None:
        super().__init__((), "")
        self.learnt: list[tuple[int, float]] = []

    def update(self, observation: Any, action: int, value: float) -> None:
        self.learnt.append((int(observation[0]), value))

    def undo(self) -> None:
        self.learnt.pop()


def _chain(rows: list[dict[str, Any]]) -> list[tuple[int, str, float | None, int | None]]:
    return [(row["step"], row["kind"], row["value"], row["supersedes"]) for row in rows]


def test_an_undo_is_a_row_and_the_step_is_asked_again(log: Log) -> None:
    rater_id = enrolled(log)
    source = Presses(["1", "0", "u", "1", "1", "q"])
    done = rate(log, rater_id, source)
    assert _chain(feedback_rows(log, rater_id)) == [
        (0, "rating", 1.0, None),
        (1, "rating", 0.0, None),
        (1, "skip", None, 1),
        (1, "rating", 1.0, 2),
        (2, "rating", 1.0, None),
    ]
    assert [question.step for question in source.asked] == [0, 1, 2, 1, 2, 3]
    assert done.feedback == 3
    assert source.closed


def test_undoing_back_to_the_start_asks_everything_again(log: Log) -> None:
    rater_id = enrolled(log)
    source = Presses(["1", "s", "0", "u", "u", "u", "u", "0", "1", "s", "0"])
    done = rate(log, rater_id, source, max_feedback=3)
    # An undo of nothing leaves no row.
    assert [question.step for question in source.asked] == [0, 1, 2, 3, 2, 1, 0, 0, 1, 2, 3]
    assert _chain(feedback_rows(log, rater_id)) == [
        (0, "rating", 1.0, None),
        (1, "skip", None, None),
        (2, "rating", 0.0, None),
        (2, "skip", None, 2),
        (1, "skip", None, 1),
        (0, "skip", None, 0),
        (0, "rating", 0.0, 5),
        (1, "rating", 1.0, 4),
        (2, "skip", None, 3),
        (3, "rating", 0.0, None),
    ]
    assert done.feedback == 3


def test_the_views_show_what_stands(log: Log) -> None:
    rater_id = enrolled(log)
    rate(log, rater_id, Presses(["1", "s", "0", "u", "u", "u", "0", "1", "s", "0"]), max_feedback=3)
    connection = views.connect(log, START)
    found = connection.execute("SELECT step, value FROM usable_for_training ORDER BY step").fetchall()
    assert found == [(0, 0.0), (1, 1.0), (3, 0.0)]


@pytest.mark.parametrize("seed", range(6))
def test_learner_and_rows_stand_as_the_keys_say(tmp_path: Path, seed: int) -> None:
    # Against a naive model: a stack of answers, popped by each undo.
    keys = [
        str(key)
        for key in np.random.default_rng(seed).choice(["1", "0", "s", "u"], 60, p=[0.35, 0.25, 0.1, 0.3])
    ]
    rows: list[Any] = []

    class Sink:
        def feedback(self, row: Any) -> None:
            rows.append(row)

        def weights(self, sha256: str) -> None:
            pass

    learner = _Learner()
    moments = (Moment("e", n, np.array([float(n)]), 0, 0.0) for n in range(100))
    clock = TickingClock(START)
    outcome = interview(
        moments,
        Presses(keys),
        Sink(),
        learner,
        Limits(),
        clock,
        lambda _action: "push",
        "g-0001",
        lambda: None,
    )
    stack: list[str] = []
    for key in keys:
        stack = stack[:-1] if key == "u" else [*stack, key]
    expected = [(step, float(key)) for step, key in enumerate(stack) if key != "s"]
    assert learner.learnt == expected
    assert outcome.answers == len(expected)
    superseded = {row.supersedes for row in rows}
    standing = [row for number, row in enumerate(rows) if number not in superseded and row.kind == "rating"]
    assert sorted((row.step, row.value) for row in standing) == expected
    used = [row.supersedes for row in rows if row.supersedes is not None]
    assert len(used) == len(set(used))
    for number, row in enumerate(rows):
        if row.supersedes is not None:
            assert row.supersedes < number and rows[row.supersedes].step == row.step
        assert row.shown_at < row.answered_at


def test_quitting_keeps_what_was_given(log: Log) -> None:
    rater_id = enrolled(log)
    done = rate(log, rater_id, Presses("10q"))
    assert (done.session_id, done.feedback, done.withdrew) == ("s-0001", 2, False)
    assert [row["value"] for row in feedback_rows(log, rater_id)] == [1.0, 0.0]
    assert not any(log.layout.journal.iterdir())


def test_quitting_at_once_leaves_a_step_and_no_answer(log: Log) -> None:
    rater_id = enrolled(log)
    done = rate(log, rater_id, Presses("q"))
    assert (done.steps, done.feedback) == (1, 0)
    assert not log.layout.rater_folder(rater_id).exists()


def test_withdrawing_in_a_session_works_at_once_and_keeps_the_rows_for_erasure(log: Log) -> None:
    rater_id = enrolled(log)
    done = rate(log, rater_id, Presses("10w1"))
    assert done.withdrew and done.feedback == 2
    events = [entry.event for entry in log.ledger.entries]
    assert events[-2:] == ["withdrawal", "session"]
    with pytest.raises(ConsentError, match="withdrawn"):
        rate(log, rater_id, Presses("1"))
    connection = views.connect(log, START)
    assert connection.execute("SELECT count(*) FROM feedback").fetchall() == [(2,)]
    assert connection.execute("SELECT count(*) FROM usable").fetchall() == [(0,)]


def test_times_latency_and_grant_are_in_every_row(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log", TickingClock(START))
    rater_id = enrolled(log)
    rate(log, rater_id, Presses("10su1q"))
    rows = feedback_rows(log, rater_id)
    assert [row["latency_s"] for row in rows] == [0.5, 0.25, 0.125, 0.0, 0.5]
    assert {row["grant_id"] for row in rows} == {"g-0001"}
    assert {(row["consent"], row["objective"], row["n_steps"]) for row in rows} == {(True, "correct", 1)}
    times = [moment for row in rows for moment in (row["shown_at"], row["answered_at"])]
    assert times == sorted(times) and len(set(times)) == len(times)


# --- who may be recorded ---


def _refused(log: Log, rater_id: str, match: str) -> None:
    before = tree(log.layout.root)
    source = Presses("1111")
    with pytest.raises(ConsentError, match=match):
        rate(log, rater_id, source, max_feedback=2)
    assert tree(log.layout.root) == before
    assert not source.asked


def test_nobody_is_recorded_without_a_grant(log: Log) -> None:
    clock = log.clock
    assert isinstance(clock, SetClock)
    never = enrolled(log, purposes=())
    refused = enrolled(log, purposes=())
    register.refuse(log, refused, BOTH, "terminal")
    withdrawn, agreed = enrolled(log), enrolled(log)
    register.withdraw(log, withdrawn)
    _refused(log, never, "no consent was ever given")
    _refused(log, refused, "consent refused")
    _refused(log, withdrawn, "consent withdrawn")
    clock.move(days=register.GRANT_DAYS)
    _refused(log, agreed, "consent expired")
    assert not list(log.ledger.of("session"))


def test_the_writer_takes_no_grant_of_another_rater_or_log(log: Log, tmp_path: Path) -> None:
    rater_id = enrolled(log)
    other = new_log(tmp_path / "other", SetClock())
    stranger = register.grant_for(other, enrolled(other), START)
    assert stranger.grant_id == "g-0001"
    facts = SessionFacts("rating", "terminal", {}, 0, 1, None, None, None, {})
    before = tree(log.layout.root)
    for grant in (stranger, None, rater_id, object()):
        with pytest.raises(ConsentError, match="no grant in the ledger"):
            SessionWriter(log, grant, facts)  # type: ignore[arg-type]
    assert tree(log.layout.root) == before


def test_a_person_needs_a_terminal_and_a_script_its_name(log: Log) -> None:
    person, robot = enrolled(log), enrolled(log, "oracle")
    before = tree(log.layout.root)
    with pytest.raises(RefusedError, match="may not give feedback by scripted"):
        script(log, person, max_feedback=1)
    with pytest.raises(RefusedError, match="may not give feedback by terminal"):
        rate(log, robot, Presses("1"))
    assert tree(log.layout.root) == before


def test_consent_that_ends_while_a_question_is_shown_lets_no_answer_in(log: Log) -> None:
    rater_id = enrolled(log)

    def withdrawn_elsewhere(question: Any) -> Answer:
        register.withdraw(opened(log), rater_id)
        return Answer(AnswerKind.ANSWER, 1.0)

    with pytest.raises(ConsentError, match="consent withdrawn"):
        rate(log, rater_id, Presses(["1", "0", withdrawn_elsewhere, "1"]))
    assert [row["value"] for row in feedback_rows(log, rater_id)] == [1.0, 0.0]
    assert not any(log.layout.journal.iterdir())


def test_an_answer_after_the_end_of_consent_is_not_recorded(log: Log) -> None:
    clock = log.clock
    assert isinstance(clock, SetClock)
    rater_id = enrolled(log)
    clock.time = START + timedelta(days=register.GRANT_DAYS) - timedelta(seconds=1)

    def slowly(question: Any) -> Answer:
        clock.move(seconds=1)
        return Answer(AnswerKind.ANSWER, 1.0)

    with pytest.raises(ConsentError, match="consent expired"):
        rate(log, rater_id, Presses(["1", slowly]))
    assert len(feedback_rows(log, rater_id)) == 1


def test_a_new_consent_does_not_carry_a_session_on_that_was_opened_under_another(log: Log) -> None:
    rater_id = enrolled(log)

    def changes_mind(question: Any) -> Answer:
        other = opened(log)
        register.withdraw(other, rater_id)
        # Another process may not write while this one does, so the consent is entered as it would be.
        body = dict(next(iter(other.ledger.of("consent"))).body) | {"grant_id": "g-0002"}
        other.append("consent", body)
        return Answer(AnswerKind.ANSWER, 1.0)

    with pytest.raises(ConsentError):
        rate(log, rater_id, Presses(["1", changes_mind, "1"]))
    assert len(feedback_rows(log, rater_id)) == 1
    rate(log, rater_id, Presses("0q"))
    assert [row["grant_id"] for row in feedback_rows(log, rater_id, "s-0002")] == ["g-0002"]
    # Consent given again does not bring the old rows back.
    found = views.connect(log, START).execute("SELECT session_id, value FROM usable_for_audit").fetchall()
    assert found == [("s-0002", 0.0)]


@pytest.mark.parametrize(
    "purposes", [(Purpose.AUDIT,), (Purpose.PUBLICATION,), (Purpose.AUDIT, Purpose.PUBLICATION)]
)
def test_a_policy_may_learn_only_where_training_was_agreed_to(
    log: Log, purposes: tuple[Purpose, ...]
) -> None:
    rater_id = enrolled(log, purposes=purposes)
    before = tree(log.layout.root)
    with pytest.raises(ConsentError, match="may not be recorded for training"):
        rate(log, rater_id, Presses("1"), learn="likelihood")
    assert tree(log.layout.root) == before
    assert rate(log, rater_id, Presses("1")).feedback == 1


def test_training_taken_back_while_a_policy_learns_ends_the_session(log: Log, tmp_path: Path) -> None:
    rater_id = enrolled(log)

    def no_more_training(question: Any) -> Answer:
        register.withdraw(opened(log), rater_id, [Purpose.TRAINING])
        return Answer(AnswerKind.QUIT)

    to = tmp_path / "policies" / "live"
    with pytest.raises(ConsentError, match="for training"):
        rate(log, rater_id, Presses(["1", no_more_training]), learn="article", to=to)
    assert not to.exists()
    assert len(feedback_rows(log, rater_id)) == 1


# --- one writer ---


def test_a_second_writer_is_refused_while_a_session_is_held(log: Log) -> None:
    rater_id = enrolled(log)
    seen: list[str] = []

    def meanwhile(question: Any) -> Answer:
        other = opened(log)
        before = tree(log.layout.root)
        for act in (
            lambda: rate(other, rater_id, Presses("1")),
            lambda: register.enrol(other, "Eve"),
            lambda: register.give(other, rater_id, BOTH, "terminal"),
        ):
            with pytest.raises(LockedError) as refused:
                act()
            seen.append(refused.value.what)
        assert tree(log.layout.root) == before
        return Answer(AnswerKind.ANSWER, 1.0)

    assert rate(log, rater_id, Presses([meanwhile, "1"]), max_feedback=2).feedback == 2
    assert seen == ["another process is writing to this log"] * 3
