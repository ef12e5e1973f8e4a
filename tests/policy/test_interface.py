"""Spaces as rows of numbers, outputs as actions, and what a Gaussian's and a convolution's bits are."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple
from scipy.stats import norm

from rlhf_audit.errors import UsageError
from rlhf_audit.policy import heads
from rlhf_audit.policy.as_keras import keras_model
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.network import NetworkSpec, initial_weights, outputs, probabilities, weights_sha256
from rlhf_audit.spaces.describing import describe

NUMBER = Box(-2, 2, (1,), np.float32)
MANY = Dict(
    force=Box(np.array([-2, 0, -np.inf], np.float32), np.array([2, np.inf, np.inf], np.float32)),
    gear=Discrete(3, start=-1),
    lamps=MultiBinary([2, 2]),
    more=Tuple([MultiDiscrete([[2, 3]], start=[[0, 5]]), Box(-3, 3, (), np.int16)]),
)


def interface(observation: Space[Any], action: Space[Any] | None = None) -> Interface:
    return Interface(describe(observation), describe(action or Discrete(2)))


@pytest.mark.parametrize(
    ("space", "value", "row"),
    [
        (Discrete(3, start=4), 5, [0, 1, 0]),
        (MultiDiscrete([2, 3], start=[0, 1]), np.array([1, 3]), [0, 1, 0, 0, 1]),
        (MultiBinary([2, 2]), np.array([[1, 0], [0, 1]], np.int8), [1, 0, 0, 1]),
        (Box(0, 255, (2, 2), np.uint8), np.array([[1, 2], [3, 255]], np.uint8), [1, 2, 3, 255]),
        (Tuple([Discrete(2), Box(-9, 9, (2,), np.float64)]), (1, np.array([0.1, -2])), [0, 1, 0.1, -2]),
        (Dict(b=Discrete(2), a=MultiBinary(1)), {"a": [1], "b": 0}, [1, 0, 1]),
    ],
)
def test_an_observation_is_one_flat_row(space: Space[Any], value: Any, row: list[float]) -> None:
    own = interface(space)
    assert own.encode(value).tolist() == row
    assert own.rows([value, value]).tolist() == np.array([row, row], np.float32).tolist()
    assert own.spec.observation_dim == len(row)


def test_choices_are_told_from_measures() -> None:
    seen = Tuple([Discrete(3), MultiDiscrete([2, 2]), Box(0, 1, (2,)), Discrete(4)])
    assert interface(seen).spec.one_hot == ((0, 7), (9, 13))


def test_a_vector_and_one_choice_are_what_they_always_were() -> None:
    spec = interface(Box(-1, 1, (4,)), Discrete(2)).spec
    assert spec == NetworkSpec(4, 2)
    assert spec.to_json() == {"observation_dim": 4, "n_actions": 2, "hidden": [64, 64]}


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((84, 84, 4), np.uint8, (84, 84, 4)),
        ((4, 84, 84), np.uint8, (84, 84, 4)),
        ((12, 10), np.float32, (12, 10, 1)),
        ((7, 7, 3), np.uint8, ()),
        ((8, 8), np.int64, ()),
        ((128,), np.uint8, ()),
    ],
)
def test_what_an_image_is(shape: tuple[int, ...], dtype: Any, image: tuple[int, ...]) -> None:
    spec = interface(Box(0, 100, shape, dtype)).spec
    assert spec.image == image and bool(spec.convolutions) == bool(image)
    assert NetworkSpec.from_json(spec.to_json()) == spec


def test_frames_in_front_are_channels_and_bytes_become_shares() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (2, 9, 11)).astype(np.uint8)
    row = interface(Box(0, 255, (2, 9, 11), np.uint8)).encode(stack)
    assert np.array_equal(row.reshape(9, 11, 2), stack.transpose(1, 2, 0) / 255)


@pytest.mark.parametrize(
    "action", [Discrete(4, start=2), MultiDiscrete([3, 2]), MultiBinary(3), NUMBER, MANY]
)
def test_an_action_lies_in_its_space_and_reads_back(action: Space[Any]) -> None:
    own = interface(Box(-1, 1, (3,)), action)
    weights = initial_weights(own.spec, 5)
    draws = np.random.default_rng(0)
    said = heads.opinions(own.spec, weights, draws.normal(0, 3, (50, 3)))
    for row in range(50):
        drawn, chance = own.act(weights, said, row, draws)
        assert action.contains(np.int64(drawn) if isinstance(action, Discrete) else drawn)
        assert action.contains(own.likeliest(said, row))
        assert np.isfinite(chance) and chance > 0
        [numbers] = own.choices([drawn])
        again = own._codec.value(iter(np.atleast_1d(numbers).astype(np.float64)))
        assert str(again) == str(drawn)


def test_a_density_is_the_gaussians_at_the_action_that_was_taken() -> None:
    own = interface(Box(-1, 1, (3,)), NUMBER)
    weights = initial_weights(own.spec, 5)
    draws = np.random.default_rng(0)
    rows = draws.normal(0, 3, (200, 3))
    means = outputs(own.spec, weights, rows)[:, 0] * 2
    said = heads.opinions(own.spec, weights, rows)
    clipped = 0
    for row in range(200):
        action, density = own.act(weights, said, row, draws)
        assert density == pytest.approx(norm.pdf(float(action[0]), means[row], 0.5 * 2), rel=1e-5)
        clipped += abs(float(action[0])) == 2
    assert 0 < clipped < 200


def test_right_is_the_density_over_its_peak_times_the_choices() -> None:
    spec = NetworkSpec(3, (0, 3))
    weights = initial_weights(spec, 2)
    rows = np.random.default_rng(1).normal(size=(5, 3))
    said = outputs(spec, weights, rows)
    actions = np.array([[0.3, 1], [-1, 0], [0, 2], [2, 1], [0.5, 0]], np.float32)
    soft = np.exp(said[:, 1:]) / np.exp(said[:, 1:]).sum(1, keepdims=True)
    distance = (actions[:, 0] - said[:, 0]) / 0.5
    wanted = np.exp(-(distance**2) / 2) * soft[np.arange(5), actions[:, 1].astype(int)]
    assert heads.right(spec, weights, rows, actions) == pytest.approx(wanted, rel=1e-6)
    assert heads.right_at_random(spec.heads) == pytest.approx(1 / 3 / np.sqrt(2))


def test_keras_agrees_with_convolutions_and_gaussians() -> None:
    own = interface(Box(0, 255, (12, 14, 2), np.uint8), MultiDiscrete([3, 2]))
    weights = initial_weights(own.spec, 1)
    images = np.random.default_rng(0).integers(0, 256, (9, 12, 14, 2)).astype(np.uint8)
    rows = own.rows(images)
    predicted = keras_model(own.spec, weights).predict(rows, verbose=0)
    assert np.abs(predicted - np.concatenate(heads.opinions(own.spec, weights, rows), axis=1)).max() < 1e-5


def test_acting_is_golden_to_the_bit() -> None:
    own = interface(Box(0, 255, (12, 12, 2), np.uint8), MANY)
    weights = initial_weights(own.spec, 3)
    images = np.random.Generator(np.random.Philox(0)).integers(0, 256, (5, 12, 12, 2)).astype(np.uint8)
    rows = np.stack([own.encode(image) for image in images])
    said = heads.opinions(own.spec, weights, rows)
    alone = [heads.opinions(own.spec, weights, row[None]) for row in rows]
    assert all(
        one.tobytes() == b"".join(each[head].tobytes() for each in alone) for head, one in enumerate(said)
    )
    draws = np.random.Generator(np.random.Philox(1))
    taken = [heads.draw(own.spec, weights, said, row, draws).astype(np.float32) for row in range(5)]
    assert (
        weights_sha256((("drawn", np.stack(taken)),))
        == "031e58e1e8ba194679f803e79b4ef21f2bb9a3d623c6a864e15cc8f2fce7d089"
    )


def test_one_choice_has_the_bits_of_probabilities() -> None:
    spec = NetworkSpec(4, 3)
    weights = initial_weights(spec, 0)
    rows = np.random.default_rng(0).normal(size=(70, 4))
    [said] = heads.opinions(spec, weights, rows)
    assert said.tobytes() == probabilities(weights, rows).tobytes()


@pytest.mark.parametrize(
    ("observation", "action", "seen"),
    [
        (Tuple([Discrete(2), Text(3)]), Discrete(2), "Text"),
        (spaces.Sequence(Discrete(2)), Discrete(2), "Sequence"),
        (spaces.OneOf([Discrete(2)]), Discrete(2), "OneOf"),
        (Discrete(2), Text(3), "Text"),
        (Discrete(2), Box(0, 1, (40, 40)), "1600 dimensions"),
        (Discrete(10**9), Discrete(2), "1000000000 numbers"),
    ],
)
def test_what_no_network_can_be_made_for_is_refused_by_name(
    observation: Space[Any], action: Space[Any], seen: str
) -> None:
    with pytest.raises(UsageError, match="no policy network can be made") as refused:
        interface(observation, action)
    assert refused.value.seen == seen and refused.value.needed and refused.value.fix
