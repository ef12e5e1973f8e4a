"""What a perfect rater would do, as a plain formula for each of four environments.

Each rule uses only sums, products and comparisons of Python floats, so it answers the same on every machine.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from rlhf_audit.errors import UsageError, near


def oracle_action(env_id: str, observation: npt.NDArray[Any] | Sequence[float]) -> int:
    """Return the action that the environment's oracle would take.

    Args:
        env_id: One of ``ORACLES``.
        observation: ``(obs_dim,)``, as the environment gave it.

    Raises:
        UsageError: There is no oracle for ``env_id``.

    >>> oracle_action("CartPole-v1", [0.0, 0.0, 0.1, 0.0])
    1
    """
    return _rule(env_id)(*(float(value) for value in observation))


def n_oracle_actions(env_id: str) -> int:
    """Return how many actions an environment with an oracle has; a check before anything is written.

    Raises:
        UsageError: There is no oracle for ``env_id``.
    """
    _rule(env_id)
    return _N_ACTIONS[env_id]


def _rule(env_id: str) -> Callable[..., int]:
    rule = _RULES.get(env_id)
    if rule is None:
        raise UsageError(
            f"no scripted rater can judge {env_id!r}: it has no oracle",
            seen=env_id,
            needed=f"one of {', '.join(ORACLES)}",
            fix=near(env_id, ORACLES) or "record with --source terminal",
        )
    return rule


def _cart_pole(position: float, velocity: float, angle: float, angular_velocity: float) -> int:
    """Push to the side that the pole falls to, and lean a little against drifting off the track."""
    return int(angle + 0.3 * angular_velocity + 0.02 * position + 0.05 * velocity > 0.0)


def _mountain_car(position: float, velocity: float) -> int:
    """Push right between two curves of the phase plane, else left (Xiao 2019, "Reinforcement Learning")."""
    near_hill = (position + 0.9) * (position + 0.9)
    lower = min(0.03 - 0.09 * (position + 0.25) * (position + 0.25), 0.3 * near_hill * near_hill - 0.008)
    upper = 0.07 - 0.07 * (position + 0.38) * (position + 0.38)
    return 2 if lower <= velocity <= upper else 0


def _acrobot(_cos1: float, sin1: float, _cos2: float, sin2: float, speed1: float, speed2: float) -> int:
    """Pump energy in with the elbow: a linear rule found by random search over such rules."""
    return 2 if 12.0 * sin1 + 3.0 * sin2 - speed1 + 3.0 * speed2 > 0.0 else 0


def _lunar_lander(
    x: float, y: float, speed_x: float, speed_y: float, angle: float, spin: float, left: float, right: float
) -> int:
    """Lean towards the pad, hover in proportion to the distance: the heuristic of gymnasium's own lander."""
    lean = min(max(0.5 * x + speed_x, -0.4), 0.4)
    turn = 0.5 * (lean - angle) - spin
    lift = 0.5 * (0.55 * abs(x) - y) - 0.5 * speed_y
    if left or right:
        turn = 0.0
        lift = -0.5 * speed_y
    if lift > abs(turn) and lift > 0.05:
        return 2
    if turn < -0.05:
        return 3
    return 1 if turn > 0.05 else 0


_RULES: dict[str, Callable[..., int]] = {
    "Acrobot-v1": _acrobot,
    "CartPole-v1": _cart_pole,
    "LunarLander-v3": _lunar_lander,
    "MountainCar-v0": _mountain_car,
}
_N_ACTIONS = {"Acrobot-v1": 3, "CartPole-v1": 2, "LunarLander-v3": 4, "MountainCar-v0": 3}
ORACLES: tuple[str, ...] = tuple(_RULES)
"""Environments that scripted raters can judge."""
