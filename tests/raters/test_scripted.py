import numpy as np
import pytest

from rlhf_audit.errors import UsageError
from rlhf_audit.raters.oracles import oracle_action
from rlhf_audit.raters.scripted import SCRIPTED_NAMES, scripted_source
from rlhf_audit.types import Answer, AnswerKind, Question

N = 1000
RANDOM = np.random.default_rng(5)
OBSERVATIONS = RANDOM.normal(size=(N, 4)).astype(np.float32) * 0.1
ACTIONS = RANDOM.integers(2, size=N)
RIGHT = np.array([oracle_action("CartPole-v1", o) for o in OBSERVATIONS]) == ACTIONS


def question(position: int, *, step: int | None = None) -> Question:
    return Question(
        "e1",
        position if step is None else step,
        OBSERVATIONS[position],
        int(ACTIONS[position]),
        "push",
        position,
        0.0,
    )


def answers(name: str, seed: int = 0, peers=None) -> list[Answer]:
    source = scripted_source(name, "CartPole-v1", seed, peers)
    assert source.simulated_time
    given = [source.ask(question(position)) for position in range(N)]
    source.close()
    return given


def values(name: str, seed: int = 0, peers=None) -> np.ndarray:
    return np.array([answer.value for answer in answers(name, seed, peers)])


@pytest.mark.parametrize("name", SCRIPTED_NAMES)
def test_answers_are_yes_or_no_in_positive_time_and_repeat(name):
    given = answers(name)
    assert {a.kind for a in given} == {AnswerKind.ANSWER}
    assert {a.value for a in given} <= {0.0, 1.0}
    assert min(a.latency_s for a in given) > 0.0
    assert all(a.latency_s == round(a.latency_s, 3) for a in given)
    assert answers(name) == given
    assert [a.latency_s for a in answers(name, seed=1)] != [a.latency_s for a in given]


@pytest.mark.parametrize("name", SCRIPTED_NAMES)
def test_an_answer_depends_on_seed_and_position_only(name):
    backwards = scripted_source(name, "CartPole-v1", 0)
    assert [backwards.ask(question(p)) for p in range(99, -1, -1)][::-1] == answers(name)[:100]


def test_the_oracle_never_errs():
    assert (values("oracle") == RIGHT).all()


@pytest.mark.parametrize("percent", [0, 5, 20, 30, 100])
def test_flip_errs_as_often_as_its_name_says(percent):
    wrong = (values(f"flip-{percent}") != RIGHT).mean()
    assert abs(wrong - percent / 100) < 3.5 * np.sqrt(0.25 / N)
    if percent in (0, 100):
        assert wrong == percent / 100


def test_errors_of_one_rater_do_not_follow_anothers():
    a = values("flip-20", 0) != RIGHT
    b = values("flip-20", 1) != RIGHT
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_constant_raters_never_look():
    assert (values("always-yes") == 1).all() and (values("always-no") == 0).all()
    for name in ("always-yes", "always-no"):
        source = scripted_source(name, "Blackjack-v1", 0)
        assert source.ask(question(0)).value == float(name == "always-yes")


def test_inverted_says_the_opposite():
    assert (values("inverted") == RIGHT).mean() < 0.08


@pytest.mark.parametrize("action", [0, 1])
def test_favours_praises_its_action_and_judges_the_others(action):
    said = values(f"favours-{action}")
    assert (said[action == ACTIONS] == 1).all()
    others = action != ACTIONS
    assert (said[others] == RIGHT[others]).mean() > 0.9


def test_tires_gets_worse_then_slower_then_careless():
    given = answers("tires")
    wrong = np.array([a.value for a in given]) != RIGHT
    assert wrong[:50].mean() < 0.25 < 0.35 < wrong[150:].mean()
    pace = np.array([a.latency_s for a in given])
    assert np.median(pace[60:90]) > 1.4 * np.median(pace[:20])
    assert np.median(pace[200:]) < 0.7 * np.median(pace[:20])


def test_fast_is_fast_and_careless():
    given = answers("fast")
    pace = np.array([a.latency_s for a in given])
    assert 0.13 < np.median(pace) < 0.17 and np.mean((pace > 0.08) & (pace < 0.3)) > 0.95
    assert 0.3 < (np.array([a.value for a in given]) != RIGHT).mean() < 0.5


def test_the_usual_pace_is_log_normal_around_a_second_and_a_half():
    logs = np.log([a.latency_s for a in answers("oracle")])
    assert abs(np.exp(np.median(logs)) - 1.5) < 0.1
    assert abs(logs.std() - 0.4) < 0.03


def test_copies_gives_the_peers_answer_where_there_is_one():
    peers = {("e1", step): float(not RIGHT[step]) for step in range(0, N, 2)}
    said = values("copies", peers=peers)
    assert (said[::2] != RIGHT[::2]).all()
    assert 0.05 < (said[1::2] != RIGHT[1::2]).mean() < 0.15
    assert (values("copies") == RIGHT).mean() > 0.85


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("orcale", "oracle"),
        ("always-yess", "always-yes"),
        ("flip-101", "flip-20"),
        ("flip-", "flip-20"),
        ("flip-２0", "flip-20"),
        ("favours-2", "favours-1"),
        ("favours-left", "favours-1"),
        ("", ""),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name, hint):
    with pytest.raises(UsageError) as refused:
        scripted_source(name, "CartPole-v1", 0)
    assert hint in refused.value.fix


def test_a_rater_who_looks_needs_an_oracle():
    for name in ("oracle", "favours-1", "copies"):
        with pytest.raises(UsageError):
            scripted_source(name, "Blackjack-v1", 0)
