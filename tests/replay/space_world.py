"""Small environments whose observations and actions are of every playable kind."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Dials(gym.Env[Any, Any]):
    """Several dials to be set at once; a Dict is seen."""

    observation_space = spaces.Dict(  # type: ignore[assignment]
        wanted=spaces.MultiDiscrete([3, 2], start=[1, 0]),
        lamps=spaces.MultiBinary(3),
        where=spaces.Tuple([spaces.Box(-1, 1, (2, 2), np.float64), spaces.Discrete(4, start=-2)]),
    )
    action_space = spaces.MultiDiscrete([3, 2], start=[1, 0])  # type: ignore[assignment]
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._steps = 0

    def _seen(self) -> dict[str, Any]:
        draws = self.np_random
        self._wanted = np.array([draws.integers(1, 4), draws.integers(0, 2)])
        return {
            "wanted": self._wanted.copy(),
            "lamps": draws.integers(0, 2, 3).astype(np.int8),
            "where": (draws.uniform(-1, 1, (2, 2)), int(draws.integers(-2, 2))),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self._steps += 1
        reward = float((np.asarray(action) == self._wanted).mean())
        return self._seen(), reward, self._steps >= 8, False, {}


class Levers(Dials):
    """A Dict of actions: switches that are on or off, a force, and a whole number."""

    action_space = spaces.Dict(  # type: ignore[assignment]
        force=spaces.Box(np.array([-2, 0], np.float32), np.array([2, np.inf], np.float32)),
        gear=spaces.Discrete(3, start=1),
        lamps=spaces.MultiBinary([2, 2]),
        turns=spaces.Box(-3, 3, (1,), np.int16),
    )

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self._steps += 1
        return self._seen(), float(action["force"][0]), self._steps >= 8, False, {}


class Spot(gym.Env[Any, Any]):
    """A bright column in a small picture; the action is to name its third. Frames are channels-first."""

    observation_space = spaces.Box(0, 255, (2, 12, 12), np.uint8)  # type: ignore[assignment]
    action_space = spaces.Discrete(3, start=1)  # type: ignore[assignment]
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._picture = np.zeros((2, 12, 12), np.uint8)

    def _seen(self) -> Any:
        # The same buffer every time, as careless environments do.
        self._column = int(self.np_random.integers(12))
        self._picture[:] = self.np_random.integers(0, 60, (2, 12, 12))
        self._picture[:, :, self._column] = 250
        return self._picture

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(np.int64(action)), action
        self._steps += 1
        reward = float(action == 1 + self._column // 4)
        return self._seen(), reward, self._steps >= 10, False, {}


class Telling(Dials):
    """It speaks: no policy can read that."""

    observation_space = spaces.Dict(  # type: ignore[assignment]
        wanted=spaces.Discrete(2), said=spaces.Tuple([spaces.Text(20)])
    )


for _name in ("Dials", "Levers", "Spot", "Telling"):
    if f"{_name}-v0" not in gym.registry:
        gym.register(f"{_name}-v0", entry_point=f"space_world:{_name}")
