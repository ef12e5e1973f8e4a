"""A question about any space is told in few words."""

from typing import Any

import numpy as np
import pytest

from rlhf_audit.meanings import action_in_words, measures
from rlhf_audit.raters.panels import observation_texts, plain_line
from rlhf_audit.types import Question


def question(observation: Any, meaning: str = "stick") -> Question:
    return Question("e1", 0, observation, 0, meaning, 0, 0.0)


@pytest.mark.parametrize(
    ("observation", "meanings", "texts"),
    [
        ((np.array(14), np.array(3), 0), ("your sum", "card", "ace"), ["your sum 14", "card 3", "ace 0"]),
        (np.int64(7), ("square",), ["square 7"]),
        ({"fuel": np.float32(0.5), "at": (1, 2)}, (), ["fuel 0.5", "at 1", "at 2"]),
        (np.zeros((84, 84, 4), np.uint8), (), ["84 x 84 x 4 numbers from 0 to 0"]),
    ],
)
def test_an_observation_in_words(observation: Any, meanings: tuple[str, ...], texts: list[str]) -> None:
    assert observation_texts(question(observation), meanings) == texts
    assert len(plain_line(question(observation), meanings)) < 200


def test_actions_in_words() -> None:
    assert action_in_words("Blackjack-v1", {"type": "Discrete", "n": 2, "start": 0}, 1) == "take a card"
    assert action_in_words("X-v0", {"type": "Discrete", "n": 2, "start": 3}, 4) == "action 4"
    assert action_in_words("X-v0", {"type": "Box"}, np.array([0.25, -1])) == "(0.25, -1)"
    assert len(action_in_words("X-v0", {"type": "Box"}, np.arange(500))) <= 60
    assert measures("Taxi-v4", {"type": "Discrete"}) == ("state",)
