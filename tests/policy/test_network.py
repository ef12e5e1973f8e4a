"""The network acts in exact arithmetic, and Keras agrees with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_audit.errors import UsageError
from rlhf_audit.policy.as_keras import keras_model
from rlhf_audit.policy.heads import draw_action
from rlhf_audit.policy.network import (
    NetworkSpec,
    initial_weights,
    probabilities,
    weights_sha256,
)

SPEC = NetworkSpec(4, 2)


def observations(n: int, dim: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (n, dim)).astype(np.float32)


def test_first_weights_and_their_digest_are_golden() -> None:
    weights = initial_weights(SPEC, 0)
    assert [name for name, _ in weights][::5] == ["hidden_0/kernel", "policy/bias"]
    assert all(array.dtype == np.float32 for _, array in weights)
    assert weights_sha256(weights) == "18c03f6e091dd8b6d792ae8354ea814a7bcbad75c6e02d7f9d6c24c3e4753d64"
    assert weights_sha256(initial_weights(SPEC, 1)) != weights_sha256(weights)


def test_acting_is_golden_to_the_bit() -> None:
    rows = probabilities(initial_weights(NetworkSpec(8, 4), 3), observations(50, 8))
    assert (
        weights_sha256((("rows", rows),))
        == "d78cdc340270ce71135ab4e5e44b69ae25d37c7e4718f5d54e9d87d9ea5845b5"
    )


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 150), dim=st.integers(1, 9), actions=st.integers(2, 20), units=st.integers(2, 40))
def test_a_row_has_the_same_bits_alone_and_in_a_batch(n: int, dim: int, actions: int, units: int) -> None:
    weights = initial_weights(NetworkSpec(dim, actions, (units, units)), n)
    rows = observations(n, dim)
    together = probabilities(weights, rows)
    alone = np.concatenate([probabilities(weights, row[None]) for row in rows])
    assert together.tobytes() == alone.tobytes()
    assert np.allclose(together.sum(axis=1), 1, atol=1e-6)


def test_keras_agrees() -> None:
    weights = initial_weights(NetworkSpec(8, 4), 1)
    rows = observations(200, 8)
    predicted = keras_model(NetworkSpec(8, 4), weights).predict(rows, verbose=0)
    assert np.abs(predicted - probabilities(weights, rows)).max() < 1e-5


def test_extreme_logits_stay_probabilities() -> None:
    weights = tuple((name, array * 1e4) for name, array in initial_weights(SPEC, 0))
    rows = probabilities(weights, observations(64))
    assert np.isfinite(rows).all() and np.allclose(rows.sum(axis=1), 1)


def test_digest_sees_names_shapes_and_order() -> None:
    array = np.arange(4, dtype=np.float32)
    digests = {
        weights_sha256(weights)
        for weights in [
            (("a", array),),
            (("b", array),),
            (("a", array.reshape(2, 2)),),
            (("a", array), ("b", array)),
            (("b", array), ("a", array)),
            (("a", array.astype(np.float64)),),
        ]
    }
    assert len(digests) == 6
    assert weights_sha256((("a", array.astype(">f4")),)) == weights_sha256((("a", array),))


@pytest.mark.parametrize(("uniform", "action"), [(0.0, 0), (0.24, 0), (0.26, 1), (0.999999999, 2)])
def test_a_draw_follows_the_probabilities(uniform: float, action: int) -> None:
    assert draw_action(np.array([0.25, 0.5, 0.2499999], np.float32), uniform) == action


@pytest.mark.parametrize("shape", [(0, 2, (8,)), (4, 1, (8,)), (4, 2, (1,))])
def test_impossible_shapes_are_refused(shape: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError):
        NetworkSpec(*shape)


def test_empty_batch() -> None:
    assert probabilities(initial_weights(SPEC, 0), observations(0)).shape == (0, 2)
