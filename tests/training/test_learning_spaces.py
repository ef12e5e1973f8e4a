"""Answers teach a Gaussian where to act, and a convolution what it sees."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space

from rlhf_audit.policy import heads
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.network import initial_weights, outputs
from rlhf_audit.replay.trainer import train
from rlhf_audit.seeds import generator
from rlhf_audit.spaces.describing import describe
from rlhf_audit.types import RatedSteps


def judged(
    observation: Space[Any], action: Space[Any], seen: Any, right: Any
) -> tuple[RatedSteps, Interface]:
    """Return an oracle's answers about what the untrained policy does in each state."""
    own = Interface(describe(observation), describe(action))
    weights, draws = initial_weights(own.spec, 0), generator(0, "act")
    rows = own.rows(seen)
    said = heads.opinions(own.spec, weights, rows)
    actions = [own.act(weights, said, row, draws)[0] for row in range(len(rows))]
    values = np.array([right(one, taken) for one, taken in zip(seen, actions, strict=True)], np.float32)
    none = np.zeros(len(rows), np.int64)
    chances = np.full(len(rows), np.nan, np.float32)
    choices = own.choices(actions)
    return RatedSteps(rows, choices, values, none, ("r-0",), none, chances, own.spec.n_actions), own


def test_a_gaussian_moves_to_where_the_answers_are_yes() -> None:
    seen = generator(1, "states").uniform(-1, 1, (500, 2)).astype(np.float32)
    data, own = judged(
        Box(-1, 1, (2,), np.float32),
        Box(-4, 4, (1,), np.float32),
        seen,
        lambda state, action: abs(float(action[0]) - 3 * float(state[0])) < 1,
    )

    def error(weights: Any) -> float:
        return float(np.abs(4 * outputs(own.spec, weights, data.observations)[:, 0] - 3 * seen[:, 0]).mean())

    trained = train(data, own.spec, "trusting", 0).weights
    assert error(initial_weights(own.spec, 0)) > 1.2 and error(trained) < 0.5


def test_a_convolution_learns_where_the_bright_column_is() -> None:
    draws = generator(2, "pictures")
    pictures = draws.integers(0, 60, (200, 9, 9)).astype(np.uint8)
    columns = draws.integers(0, 9, 200)
    pictures[np.arange(200), :, columns] = 250
    where = {picture.tobytes(): int(column) // 3 for picture, column in zip(pictures, columns, strict=True)}
    data, own = judged(
        Box(0, 255, (9, 9), np.uint8),
        Discrete(3, start=1),
        pictures,
        lambda picture, action: action - 1 == where[picture.tobytes()],
    )
    trained = train(data, own.spec, "trusting", 0).weights
    fresh = draws.integers(0, 60, (100, 9, 9)).astype(np.uint8)
    bright = draws.integers(0, 9, 100)
    fresh[np.arange(100), :, bright] = 250
    [said] = heads.opinions(own.spec, trained, own.rows(fresh))
    assert (said.argmax(axis=1) == bright // 3).mean() > 0.9
