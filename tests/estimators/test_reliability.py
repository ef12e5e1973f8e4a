"""EM finds planted reliabilities, never loses ground, and says when it may not be claimed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_audit.errors import UsageError
from rlhf_audit.estimators.reliability import Reliability, Verdict, fit, identified, verdict

PANEL = ((0.95, 0.05), (0.9, 0.1), (0.85, 0.2), (0.97, 0.96), (0.05, 0.95))


def simulated(panel: tuple[tuple[float, float], ...], n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return p, answers and raters: the truth is drawn from p, the answer from the rater."""
    draws = np.random.default_rng(seed)
    p = draws.beta(0.4, 0.4, n)
    right = draws.random(n) < p
    raters = np.arange(n) % len(panel)
    alpha, beta = np.array(panel).T
    yes = draws.random(n) < np.where(right, alpha[raters], beta[raters])
    return p, yes.astype(float), raters


@pytest.mark.parametrize("seed", range(5))
def test_planted_reliabilities_are_found(seed: int) -> None:
    found = fit(*simulated(PANEL, 4_000, seed), n_raters=5)
    assert found.converged
    for planted, reliability in zip(PANEL, found.raters, strict=True):
        assert abs(reliability.yes_when_right - planted[0]) < 0.07
        assert abs(reliability.yes_when_wrong - planted[1]) < 0.07
    verdicts = [verdict(reliability) for reliability in found.raters]
    assert verdicts == [Verdict.GOOD] * 3 + [Verdict.UNINFORMATIVE, Verdict.INVERTED]
    assert identified(found.raters)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 300))
def test_the_objective_never_falls(seed: int, n: int) -> None:
    found = fit(*simulated(PANEL, n, seed), n_raters=5)
    assert np.diff(found.objective).min() > -1e-9
    assert found.converged
    assert ((found.right >= 0) & (found.right <= 1)).all()
    assert sum(reliability.n for reliability in found.raters) == n


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_renumbering_raters_renumbers_the_result(seed: int) -> None:
    p, values, raters = simulated(PANEL, 200, seed)
    order = np.random.default_rng(seed).permutation(5)
    plain, renamed = fit(p, values, raters, 5), fit(p, values, order[raters], 5)
    assert all(plain.raters[index] == renamed.raters[order[index]] for index in range(5))


def test_gold_items_decide_without_a_majority() -> None:
    panel = ((0.95, 0.05), (0.05, 0.95), (0.05, 0.95))
    draws = np.random.default_rng(0)
    right = draws.random(60) < 0.5
    raters = np.arange(60) % 3
    alpha, beta = np.array(panel).T
    yes = draws.random(60) < np.where(right, alpha[raters], beta[raters])
    found = fit(right.astype(float), yes.astype(float), raters, 3).raters
    assert [verdict(reliability) for reliability in found] == [
        Verdict.GOOD,
        Verdict.INVERTED,
        Verdict.INVERTED,
    ]
    assert not identified(found)


def test_a_rater_without_answers_keeps_the_prior() -> None:
    found = fit([0.5], [1.0], [0], n_raters=2).raters
    assert found[1] == Reliability(0.8, 0.2, 0)
    assert verdict(found[1]) is Verdict.INSUFFICIENT
    assert not identified([])


def test_one_step_is_the_formula() -> None:
    found = fit([1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0, 0, 0], 1).raters[0]
    assert found.yes_when_right == pytest.approx((1 + 1.6) / (2 + 2))
    assert found.yes_when_wrong == pytest.approx((1 + 0.4) / (1 + 2))


@pytest.mark.parametrize(
    ("p", "values", "raters"),
    [([0.5], [1.0, 0.0], [0]), ([0.5], [1.0], [1]), ([1.5], [1.0], [0]), ([0.5], [0.5], [0])],
)
def test_arrays_that_do_not_fit_are_refused(p: list[float], values: list[float], raters: list[int]) -> None:
    with pytest.raises(UsageError):
        fit(p, values, raters, n_raters=1)
