"""Own arithmetic against SciPy's and numpy's, and the bits that may never change."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import kstest

from rlhf_audit.policy import exact


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-54, 1 - 2.0**-53))
def test_the_quantile_is_the_normal_distributions(uniform: float) -> None:
    assert exact.normal_quantile(uniform) == pytest.approx(float(ndtri(uniform)), rel=1e-6, abs=1e-12)


def test_the_ends_of_a_generators_range_are_finite() -> None:
    assert exact.normal_quantile(0.0) == exact.normal_quantile(2.0**-54) < -8
    assert exact.normal_quantile(1 - 2.0**-53) > 8


def test_draws_are_standard_normal() -> None:
    draws = np.random.default_rng(0).random(20_000)
    assert kstest([exact.normal_quantile(one) for one in draws], "norm").pvalue > 0.01


def test_logarithm_and_exponential() -> None:
    for value in (1e-300, 2.0**-54, 0.3, 0.5, 1 - 1e-12, 1.0, 1.5, 7.0, 1e300):
        assert exact.log(value) == pytest.approx(math.log(value), rel=1e-14, abs=1e-16)
    values = np.linspace(-10, 10, 401)
    assert np.abs(exact.exp(values) / np.exp(values) - 1).max() < 1e-8


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 300), k=st.integers(1, 30), units=st.integers(1, 40))
def test_a_product_has_the_same_bits_however_many_rows_there_are(n: int, k: int, units: int) -> None:
    draws = np.random.default_rng(n)
    rows, kernel = draws.normal(size=(n, k)), draws.normal(size=(k, units))
    together = exact.product(rows, kernel)
    alone = np.concatenate([exact.product(row[None], kernel) for row in rows])
    assert together.tobytes() == alone.tobytes()
    # Term after term, as the docstring says.
    expected = np.zeros((n, units))
    for index in range(k):
        expected = expected + rows[:, index, None] * kernel[index]
    assert np.array_equal(together, expected)


def test_patches_are_those_of_a_convolution() -> None:
    images = np.arange(2 * 7 * 6 * 3, dtype=np.float64).reshape(2, 7, 6, 3)
    found = exact.patches(images, 3, 2)
    assert found.shape == (2, 3, 2, 27)
    assert np.array_equal(found[1, 2, 1], images[1, 4:7, 2:5].reshape(-1))
