"""What the actions and observations of known environments are, in a rater's words."""

from collections.abc import Mapping
from typing import Any

from rlhf_audit.spaces import words

_MEANINGS: dict[str, tuple[str, ...]] = {
    "CartPole": ("push left", "push right"),
    "MountainCar": ("push left", "do not push", "push right"),
    "Acrobot": ("turn the lower arm clockwise", "do nothing", "turn the lower arm anticlockwise"),
    "LunarLander": ("do nothing", "fire the left engine", "fire the main engine", "fire the right engine"),
    "FrozenLake": ("go left", "go down", "go right", "go up"),
    "Taxi": ("go down", "go up", "go right", "go left", "pick up", "set down"),
    "Blackjack": ("stick", "take a card"),
}
_MEASURES: dict[str, tuple[str, ...]] = {
    "CartPole": ("cart position", "cart speed", "pole angle", "pole turning"),
    "MountainCar": ("position", "speed"),
    "Acrobot": (
        "cos upper angle",
        "sin upper angle",
        "cos lower angle",
        "sin lower angle",
        "upper arm turning",
        "lower arm turning",
    ),
    "LunarLander": (
        "x",
        "height",
        "speed x",
        "speed up",
        "angle",
        "turning",
        "left leg down",
        "right leg down",
    ),
    "Pendulum": ("cos angle", "sin angle", "turning"),
    "MountainCarContinuous": ("position", "speed"),
    "FrozenLake": ("square",),
    "Taxi": ("state",),
    "Blackjack": ("your sum", "dealer's card", "usable ace"),
}


def action_meanings(env_id: str, n_actions: int) -> tuple[str, ...]:
    """Return each action in a rater's words; ``action 0`` and so on where nothing better is known.

    >>> action_meanings("CartPole-v1", 2)
    ('push left', 'push right')
    >>> action_meanings("Other-v0", 2)
    ('action 0', 'action 1')
    """
    return _words(_MEANINGS, env_id, "action", n_actions)


def observation_meanings(env_id: str, observation_dim: int) -> tuple[str, ...]:
    """Return each number of an observation in a rater's words; ``number 0`` and so on where unknown.

    >>> observation_meanings("MountainCar-v0", 2)
    ('position', 'speed')
    """
    return _words(_MEASURES, env_id, "number", observation_dim)


def action_in_words(env_id: str, space: Mapping[str, Any], action: Any) -> str:
    """Return an action of a described space in a rater's words, shortened.

    >>> import numpy as np
    >>> action_in_words("Pendulum-v1", {"type": "Box"}, np.array([-0.5], np.float32))
    '-0.5'
    """
    if space["type"] == "Discrete":
        known = action_meanings(env_id, space["n"])
        return known[int(action) - space["start"]] if space["start"] == 0 else f"action {int(action)}"
    return words.words(action)


def measures(env_id: str, space: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the numbers of an observation of a described space are, in a rater's words, where known."""
    if space["type"] == "Box" and len(space["shape"]) == 1:
        return observation_meanings(env_id, space["shape"][0])
    return _MEASURES.get(_family(env_id), ())


def _words(known: Mapping[str, tuple[str, ...]], env_id: str, noun: str, n: int) -> tuple[str, ...]:
    named = known.get(_family(env_id), ())
    return named if len(named) == n else tuple(f"{noun} {index}" for index in range(n))


def _family(env_id: str) -> str:
    return env_id.rpartition(":")[2].rpartition("-v")[0]
