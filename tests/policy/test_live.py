"""The live learner replays to the bit, and takes answers back exactly."""

import numpy as np
import pytest

from rlhf_audit.errors import UsageError
from rlhf_audit.policy import live
from rlhf_audit.policy.live import LiveLearner
from rlhf_audit.policy.network import NetworkSpec, initial_weights, probabilities, weights_sha256

SPEC = NetworkSpec(4, 2)
START = initial_weights(SPEC, 0)


def answers(n: int) -> list[tuple[np.ndarray, int, float]]:
    draws = np.random.default_rng(1)
    rows = draws.normal(size=(n, 4)).astype(np.float32)
    actions = draws.integers(0, 2, n)
    return [(row, int(a), float((row[2] > 0) == (a == 1))) for row, a in zip(rows, actions, strict=True)]


def after(learner: LiveLearner, rows: list[tuple[np.ndarray, int, float]]) -> str:
    for row in rows:
        learner.update(*row)
    return weights_sha256(learner.weights)


@pytest.mark.parametrize("algorithm", ["likelihood", "article"])
def test_the_same_answers_give_the_same_bits(algorithm: str) -> None:
    first = after(LiveLearner(SPEC, START, algorithm, seed=3), answers(90))
    assert first == after(LiveLearner(SPEC, START, algorithm, seed=3), answers(90))
    assert first != weights_sha256(START)


@pytest.mark.parametrize("algorithm", ["likelihood", "article"])
def test_undo_is_exact_and_last_in_first_out(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few states are kept, so that both ways back are taken: the kept state, and replay.
    monkeypatch.setattr(live, "_KEPT_STATES", 5)
    learner = LiveLearner(SPEC, START, algorithm)
    seen = [weights_sha256(learner.weights)]
    for row in answers(12):
        learner.update(*row)
        seen.append(weights_sha256(learner.weights))
    assert len(set(seen[1:])) > 1
    for count in range(11, -1, -1):
        learner.undo()
        assert weights_sha256(learner.weights) == seen[count]
    with pytest.raises(UsageError):
        learner.undo()


def test_what_was_undone_leaves_no_trace() -> None:
    rows = answers(75)
    detour = LiveLearner(SPEC, START)
    for index, row in enumerate(rows):
        if index % 20 == 7:
            detour.update(-row[0], 1 - row[1], row[2])
            detour.undo()
        detour.update(*row)
    assert weights_sha256(detour.weights) == after(LiveLearner(SPEC, START), rows)


def test_it_learns_and_the_article_learns_from_yes_only() -> None:
    rows = answers(100)
    learner = LiveLearner(SPEC, START)
    after(learner, rows)
    greedy = probabilities(learner.weights, np.stack([row for row, _, _ in rows])).argmax(axis=1)
    right = [a if value else 1 - a for _, a, value in rows]
    assert (greedy == right).mean() > 0.9
    article = LiveLearner(SPEC, START, "article")
    article.update(rows[0][0], 0, 0.0)
    assert weights_sha256(article.weights) == weights_sha256(START)


def test_weights_handed_out_do_not_change_later() -> None:
    learner = LiveLearner(SPEC, START)
    before, digest = learner.weights, weights_sha256(learner.weights)
    after(learner, answers(3))
    assert weights_sha256(before) == digest == weights_sha256(START)


def test_an_unknown_algorithm_is_refused_with_the_near_match() -> None:
    with pytest.raises(UsageError, match="did you mean likelihood"):
        LiveLearner(SPEC, START, "likelyhood")
