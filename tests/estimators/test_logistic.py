"""Many logistic regressions at once: each as if it were alone."""

import numpy as np
import pytest
from scipy import optimize

from rlhf_audit.estimators import logistic


def data(seed: int, n: int, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, (n, 2))
    p = 1 / (1 + np.exp(-(intercept + x @ [1.0, -0.5])))
    return (random.random(n) < p).astype(float), x


def test_groups_are_fitted_as_if_alone() -> None:
    parts = [data(seed, n, a) for seed, n, a in ((1, 80, 0.0), (2, 150, 1.0), (3, 60, -0.7))]
    y, x = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    group = np.repeat([0, 1, 2], [80, 150, 60])
    found = logistic.intercepts(y, x, np.ones(len(y)), group, 3)
    for i, (own_y, own_x) in enumerate(parts):
        design = np.column_stack([np.ones(len(own_y)), own_x])

        def loss(beta: np.ndarray, y: np.ndarray = own_y, design: np.ndarray = design) -> float:
            eta = design @ beta
            return float((np.logaddexp(0, eta) - y * eta).sum() + 0.02 * beta @ beta)

        best = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
        assert found.value[i] == pytest.approx(best.x[0], abs=1e-6)
        p = 1 / (1 + np.exp(-design @ best.x))
        information = (design * (p * (1 - p))[:, None]).T @ design + 0.04 * np.eye(3)
        assert found.error[i] == pytest.approx(np.sqrt(np.linalg.inv(information)[0, 0]), rel=1e-5)


def test_weights_are_repeated_rows() -> None:
    y, x = data(4, 40, 0.5)
    group = np.zeros(40, np.int64)
    once = logistic.intercepts(y, x, np.full(40, 3.0), group, 1)
    rows = np.repeat(y, 3), np.repeat(x, 3, axis=0)
    thrice = logistic.intercepts(*rows, np.ones(120), np.zeros(120, np.int64), 1)
    for name in ("value", "error", "score"):
        assert getattr(once, name) == pytest.approx(getattr(thrice, name), abs=1e-9)


def test_separable_answers_stay_finite_and_are_certain() -> None:
    found = logistic.intercepts(np.ones(100), np.zeros((100, 0)), np.ones(100), np.zeros(100, np.int64), 1)
    assert 3 < found.value[0] < 20
    assert found.score[0] == pytest.approx(10, abs=0.2)  # 50 above the mean of 50, by a deviation of 5


def test_the_score_is_normal_where_nothing_is_there() -> None:
    parts = [data(100 + seed, 100, 0.0) for seed in range(400)]
    y, x = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    found = logistic.intercepts(y, x, np.ones(len(y)), np.repeat(np.arange(400), 100), 400)
    assert np.mean(np.abs(found.score) > 1.96) == pytest.approx(0.05, abs=0.025)
    assert found.score.std() == pytest.approx(1, abs=0.1)


def test_a_group_without_rows_has_nothing() -> None:
    y, x = data(5, 30, 0.0)
    found = logistic.intercepts(y, x, np.ones(30), np.zeros(30, np.int64), 2)
    assert found.value[1] == 0 and found.score[1] == 0
