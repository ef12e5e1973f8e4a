"""An environment of pictures that needs Gymnasium only, so that a peer's own Python can play it too."""

from typing import Any

import gymnasium as gym
import numpy as np


class Pictures(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(0, 255, (40, 36, 3), np.uint8)
    action_space = gym.spaces.Discrete(3)
    metadata = {"render_modes": []}  # noqa: RUF012

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._left = 6
        return self._seen(), {}

    def step(self, action: int) -> Any:
        self._left -= 1
        return self._seen(), 0.1 * int(action), self._left == 0, False, {}

    def _seen(self) -> Any:
        return self.np_random.integers(0, 256, (40, 36, 3), np.uint8)


gym.register("Pictures-v0", entry_point="exchange_pictures:Pictures")
