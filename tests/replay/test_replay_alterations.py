"""One value altered past every digest: replay names exactly that episode, step and field."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import CART_POLE, Presses, alter, enrolled, feedback_rows, new_log, rate, script, step_rows

from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.replay import rollout
from rlhf_audit.replay.rollout import Difference

# Answers, skips, and undos of both, singly and in rows.
KEYS = "10s1u010u1uu01s0uuu1101su1000u1"


class _World:
    """A session by a fixed policy, and sessions that learn: without undos, and with."""

    def __init__(self, root: Path) -> None:
        self.log = new_log(root / "log")
        self.robot, self.person = enrolled(self.log, "flip-20"), enrolled(self.log)
        self.fixed = self._made(script(self.log, self.robot, "flip-20", episodes=4, ask_every=3))
        self.likelihood, self.article = (
            self._made(script(self.log, self.robot, "flip-20", learn=name, max_feedback=30, ask_every=2))
            for name in ("likelihood", "article")
        )
        self.undone = self._made(rate(self.log, self.person, Presses(KEYS), learn="likelihood", seed=8))

    @staticmethod
    def _made(done: Any) -> str:
        return str(done.session_id)

    def rater(self, session_id: str) -> str:
        return str(reader.session_facts(self.log, session_id)["rater_id"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> _World:
    return _World(tmp_path_factory.mktemp("alterations"))


@contextmanager
def _altered(path: Path, column: str, row: int, value: object) -> Iterator[None]:
    good = path.read_bytes()
    alter(path, column, row, value)
    try:
        yield
    finally:
        path.write_bytes(good)


def _named(log: Log, session_id: str) -> tuple[str, int, str] | None:
    found = rollout.replay(log, session_id).difference
    assert found is None or found.session_id == session_id
    return None if found is None else (found.episode_id, found.step, found.field)


def _changed(column: str, value: Any) -> list[Any]:
    match column:
        case "observation":
            least = list(value)
            least[-1] = float(np.nextafter(np.float32(least[-1]), np.float32(9)))
            zero = list(value)
            zero[0] = -value[0]
            return [least, zero]
        case "action":
            return [1 - value, 7, -1]
        case "action_probability":
            return [float(np.nextafter(np.float32(value), np.float32(0))), 0.0, None]
        case "env_reward":
            return [float(np.nextafter(value, 9)), -0.0, -value]
        case _:
            return [not value]


_COLUMNS = ("observation", "action", "action_probability", "env_reward", "terminated", "truncated")


@pytest.mark.parametrize("column", _COLUMNS)
@pytest.mark.parametrize("which", ["fixed", "likelihood", "undone"])
def test_an_altered_step_is_named(world: _World, which: str, column: str) -> None:
    session_id = getattr(world, which)
    rows = step_rows(world.log, session_id)
    path = world.log.layout.steps_file(CART_POLE, session_id)
    ends = [n for n, row in enumerate(rows) if row["terminated"]]
    for number in sorted({0, 1, len(rows) // 2, ends[0] if ends else 2, len(rows) - 1}):
        for value in _changed(column, rows[number][column]):
            with _altered(path, column, number, value):
                expected = (rows[number]["episode_id"], rows[number]["step"], column)
                assert _named(world.log, session_id) == expected, (number, value)
    assert _named(world.log, session_id) is None


@pytest.mark.parametrize("which", ["fixed", "likelihood"])
def test_an_altered_episode_is_named(world: _World, which: str) -> None:
    session_id = getattr(world, which)
    episodes = reader.session(world.log, session_id).episodes
    path = world.log.layout.episodes_file(session_id)
    for number, episode in enumerate(episodes):
        last = len(episode.steps) - 1
        final = episode.final_observation.tolist()
        for column, value, step in (
            ("final_observation", [*final[:-1], final[-1] + 1.0], last),
            ("reset_seed", episode.reset_seed ^ 1, 0),
            ("behaviour_policy_sha256", "0" * 64, 0),
            ("behaviour_policy_sha256", None, 0),
        ):
            with _altered(path, column, number, value):
                assert _named(world.log, session_id) == (episode.episode_id, step, column)


def _answers(log: Log, session_id: str) -> list[tuple[int, dict[str, Any]]]:
    rows = reader.session(log, session_id).feedback or ()
    taken_back = reader.undos((row.kind, row.supersedes) for row in rows)
    listed = feedback_rows(log, rows_of(log, session_id), session_id)
    return [(number, row) for number, row in enumerate(listed) if number not in taken_back]


def rows_of(log: Log, session_id: str) -> str:
    return str(reader.session_facts(log, session_id)["rater_id"])


@pytest.mark.parametrize("which", ["likelihood", "article"])
def test_every_single_altered_answer_is_named(world: _World, which: str) -> None:
    session_id = getattr(world, which)
    path = world.log.layout.feedback_file(world.robot, session_id)
    answers = _answers(world.log, session_id)
    assert len(answers) == 30
    wrong = []
    for number, row in answers:
        with _altered(path, "value", number, 1.0 - row["value"]):
            found = _named(world.log, session_id)
        if found != (row["episode_id"], row["step"], "feedback.value"):
            wrong.append((number, found))
    assert wrong == []


def test_answers_between_skips_and_undos_are_named_too(world: _World) -> None:
    session_id = world.undone
    path = world.log.layout.feedback_file(world.person, session_id)
    answers = [(number, row) for number, row in _answers(world.log, session_id) if row["kind"] == "rating"]
    wrong = []
    for number, row in answers:
        with _altered(path, "value", number, 1.0 - row["value"]):
            found = _named(world.log, session_id)
        if found != (row["episode_id"], row["step"], "feedback.value"):
            wrong.append((number, found))
    assert wrong == []
    assert len(answers) == 19


def test_an_answer_turned_into_a_skip_or_a_half_is_named(world: _World) -> None:
    path = world.log.layout.feedback_file(world.robot, world.likelihood)
    rows = feedback_rows(world.log, world.robot, world.likelihood)
    for number in (3, 17, 29):
        expected = (rows[number]["episode_id"], rows[number]["step"], "feedback.value")
        for column, value in (("kind", "skip"), ("value", 0.5), ("value", None)):
            with _altered(path, column, number, value):
                assert _named(world.log, world.likelihood) == expected
        with _altered(path, "step", number, 999):
            assert _named(world.log, world.likelihood) == (rows[number]["episode_id"], 999, "feedback.step")


def test_a_probability_is_not_blamed_on_an_answer_nor_an_answer_on_it(world: _World) -> None:
    steps = step_rows(world.log, world.likelihood)
    path = world.log.layout.steps_file(CART_POLE, world.likelihood)
    for number in range(0, len(steps), 7):
        with _altered(path, "action_probability", number, 0.25):
            expected = (steps[number]["episode_id"], steps[number]["step"], "action_probability")
            assert _named(world.log, world.likelihood) == expected


def test_without_the_policy_an_altered_environment_is_still_named(world: _World, tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    person = enrolled(log)
    rate(log, person, Presses("1010"), learn="article")
    log.layout.feedback_file(person, "s-0001").unlink()
    assert rollout.replay(log, "s-0001").scope == "environment"
    rows = step_rows(log)
    path = log.layout.steps_file(CART_POLE, "s-0001")
    for column in ("observation", "env_reward", "terminated", "truncated"):
        with _altered(path, column, 2, _changed(column, rows[2][column])[0]):
            assert _named(log, "s-0001") == (rows[2]["episode_id"], 2, column)
    with _altered(path, "action", 2, 9):
        assert _named(log, "s-0001") == (rows[2]["episode_id"], 2, "action")
    with _altered(path, "action", 2, 1 - rows[2]["action"]):
        # All that shows of it is the observation after.
        assert _named(log, "s-0001") == (rows[2]["episode_id"], 3, "observation")
    heads = log.layout.episodes_file("s-0001")
    with _altered(heads, "reset_seed", 0, 5):
        assert _named(log, "s-0001") == (rows[0]["episode_id"], 0, "reset_seed")
    with _altered(heads, "final_observation", 0, [9.0, 9.0, 9.0, 9.0]):
        assert _named(log, "s-0001") == (rows[0]["episode_id"], len(rows) - 1, "final_observation")


def test_of_two_alterations_the_first_is_named(world: _World) -> None:
    steps = step_rows(world.log, world.fixed)
    path = world.log.layout.steps_file(CART_POLE, world.fixed)
    with _altered(path, "env_reward", 40, 2.0), _altered(path, "action_probability", 30, 0.5):
        expected = Difference(world.fixed, steps[30]["episode_id"], steps[30]["step"], "action_probability")
        assert rollout.replay(world.log, world.fixed).difference == expected
