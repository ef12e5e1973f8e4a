"""Several raters rate the same steps; and the same commands with the same seeds make the same session."""

from pathlib import Path
from typing import Any

import pytest
from session_world import START, Presses, SetClock, enrolled, feedback_rows, new_log, rate, script, step_rows

from rlhf_audit.clock import TickingClock
from rlhf_audit.consent import register
from rlhf_audit.log import reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import SeededEntropy


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log", SetClock())


def _asked(log: Log, rater_id: str, session_id: str) -> list[tuple[str, int]]:
    return [(row["episode_id"], row["step"]) for row in feedback_rows(log, rater_id, session_id)]


def test_raters_rate_the_very_same_steps(log: Log) -> None:
    one, two, three = (enrolled(log, name) for name in ("oracle", "always-no", "inverted"))
    script(log, one, max_feedback=12, ask_every=3)
    again = script(log, two, "always-no", rates="s-0001", ask_every=3)
    # Rating a session of ratings means the steps that were rated there.
    third = script(log, three, "inverted", rates="s-0002", ask_every=3, max_feedback=12)
    assert (again.episodes, again.steps, again.weights_sha256) == (0, 0, None)
    assert again.feedback == 12
    assert third.feedback == 12
    assert _asked(log, one, "s-0001") == _asked(log, two, "s-0002") == _asked(log, three, "s-0003")
    assert [reader.session_facts(log, name)["rates"] for name in reader.session_ids(log)] == [
        None,
        "s-0001",
        "s-0001",
    ]
    assert not log.layout.episodes_file("s-0002").exists()
    found = views.connect(log, START).execute(
        "SELECT item, count(DISTINCT rater_id) FROM feedback GROUP BY item ORDER BY item"
    )
    assert [n for _, n in found.fetchall()] == [3] * 12


def test_who_rates_again_is_shown_what_was_recorded(log: Log) -> None:
    script(log, enrolled(log, "oracle"), episodes=2)
    source = Presses(["1"] * 500)
    rate(log, enrolled(log), source, rates="s-0001")
    steps = [step for episode in reader.session(log, "s-0001").episodes for step in episode.steps]
    assert [(q.episode_id, q.step, q.action, q.observation.tobytes()) for q in source.asked] == [
        (step.episode_id, step.step, step.action, step.observation.tobytes()) for step in steps
    ]
    assert source.asked[1].return_so_far == 1.0
    assert source.asked[0].action_meaning.startswith("push ")


def test_rating_again_keeps_to_its_limits(log: Log) -> None:
    script(log, enrolled(log, "oracle"), episodes=3)
    first = reader.session(log, "s-0001").episodes[0]
    rater_id = enrolled(log, "oracle")
    one = script(log, rater_id, rates="s-0001", episodes=1)
    assert {row["episode_id"] for row in feedback_rows(log, rater_id, "s-0002")} == {first.episode_id}
    assert one.feedback == len(first.steps)
    assert script(log, rater_id, rates="s-0001", max_feedback=4).feedback == 4


def test_rating_again_and_giving_nothing_leaves_nothing(log: Log) -> None:
    script(log, enrolled(log, "oracle"), episodes=1)
    done = rate(log, enrolled(log), Presses("q"), rates="s-0001")
    assert done.session_id is None
    assert reader.session_ids(log) == ["s-0001"]
    assert not any(log.layout.journal.iterdir())


def test_undo_and_skip_work_on_recorded_steps_too(log: Log) -> None:
    script(log, enrolled(log, "oracle"), episodes=1)
    rater_id = enrolled(log)
    rate(log, rater_id, Presses("1u0sq"), rates="s-0001")
    rows = feedback_rows(log, rater_id, "s-0002")
    assert [(row["step"], row["kind"], row["supersedes"]) for row in rows] == [
        (0, "rating", None),
        (0, "skip", 0),
        (0, "rating", 1),
        (1, "skip", None),
    ]


def _values(log: Log, rater_id: str, session_id: str) -> list[float | None]:
    return [row["value"] for row in feedback_rows(log, rater_id, session_id)]


def test_a_copier_copies_what_stands(log: Log) -> None:
    person, copier = enrolled(log), enrolled(log, "copies")
    rate(log, person, Presses("10u1" + "0101001"), max_feedback=9)
    given = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    script(log, copier, "copies", rates="s-0001", max_feedback=9)
    assert _values(log, copier, "s-0002") == given


def test_a_copier_does_not_see_what_was_withdrawn(log: Log) -> None:
    person, copier = enrolled(log), enrolled(log, "copies")
    rate(log, person, Presses("1" * 30), max_feedback=30)
    rate(log, enrolled(log), Presses("0" * 30), rates="s-0001", max_feedback=30)
    register.withdraw(log, person)
    script(log, copier, "copies", rates="s-0001", max_feedback=30)
    assert _values(log, copier, "s-0003") == [0.0] * 30


# --- determinism ---


def _told(root: Path, entropy: SeededEntropy | None, start: Any = START) -> dict[str, Any]:
    """Run one list of commands and return everything in the log that no name or clock should change."""
    log = new_log(root / "log", TickingClock(start), entropy)
    one, two, person = enrolled(log, "oracle"), enrolled(log, "flip-20"), enrolled(log)
    script(log, one, episodes=2, ask_every=4, seed=11)
    script(log, two, "flip-20", rates="s-0001", ask_every=4, seed=12)
    live = rate(log, person, Presses("10su1u0110s01uu10q"), learn="likelihood", seed=13)
    article = script(log, two, "flip-20", learn="article", max_feedback=8, seed=14)
    lander = script(log, one, env_id="LunarLander-v3", max_feedback=20, ask_every=3, seed=15)
    told: dict[str, Any] = {"weights": [live.weights_sha256, article.weights_sha256, lander.weights_sha256]}
    for session_id in reader.session_ids(log):
        facts = reader.session_facts(log, session_id)
        if not facts["rates"]:
            told[f"{session_id} steps"] = step_rows(log, session_id, facts["env"]["env_id"])
        rows = feedback_rows(log, facts["rater_id"], session_id)
        hidden = ("shown_at", "answered_at")
        told[f"{session_id} feedback"] = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    return told


def test_the_same_commands_and_seeds_make_the_same_sessions(tmp_path: Path) -> None:
    first = _told(tmp_path / "a", SeededEntropy(1))
    assert first == _told(tmp_path / "b", None, START.replace(year=2030))
    assert len(first["s-0003 feedback"]) > 10


def test_another_seed_makes_another_session(log: Log) -> None:
    rater_id = enrolled(log, "oracle")
    for seed in (1, 2):
        script(log, rater_id, seed=seed, episodes=1)
    assert step_rows(log, "s-0001")[0]["observation"] != step_rows(log, "s-0002")[0]["observation"]


def test_one_seed_makes_one_log_to_the_byte(tmp_path: Path) -> None:
    # Clock, names and keys given too: the sample log rests on this.
    made = []
    for name in ("a", "b"):
        log = new_log(tmp_path / name, TickingClock(START), SeededEntropy(5))
        rater_id = enrolled(log, "oracle", alias="Ann", groups={"site": "north"})
        script(log, rater_id, max_feedback=10)
        made.append({log.layout.relative(path): path.read_bytes() for path in log.layout.files()})
    assert made[0] == made[1]
    assert any(name.startswith("feedback/") for name in made[0])


def _counts(source: Presses) -> list[tuple[int, int | None]]:
    return [(question.position + 1, question.n_questions) for question in source.asked]


def test_a_rater_is_told_how_many_questions_there_are(log: Log) -> None:
    script(log, enrolled(log, "oracle"), max_feedback=5, ask_every=3)
    n_steps = reader.session_facts(log, "s-0001")["n_steps"]
    assert n_steps == 13
    every = Presses("10u01")
    rate(log, enrolled(log), every, rates="s-0001", ask_every=3)
    # An undone question is the same question again, not one more.
    assert _counts(every) == [(1, 5), (2, 5), (3, 5), (2, 5), (3, 5), (4, 5)]
    first = Presses("1s11")
    rate(log, enrolled(log), first, rates="s-0001", ask_every=3, max_feedback=3)
    # What is skipped does not count as an answer.
    assert _counts(first) == [(1, 3), (2, 3), (3, 4), (4, 4)]
    few = Presses("sssss")
    rate(log, enrolled(log), few, rates="s-0001", ask_every=3, max_feedback=4)
    assert [told for _, told in _counts(few)] == [4, 5, 5, 5, 5]
    live = Presses("11")
    rate(log, enrolled(log), live, max_feedback=2)
    assert _counts(live) == [(1, 2), (2, 2)]
    endless = Presses("11")
    rate(log, enrolled(log), endless)
    assert [told for _, told in _counts(endless)] == [None] * 3
