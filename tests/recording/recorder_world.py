"""What the tests of the library's recorders share: acting at random, and environments that misbehave."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from session_world import enrolled, new_log

from rlhf_audit.log import reader
from rlhf_audit.log.store import Log

HERE = Path(__file__).parent


def log_and_rater(root: Path) -> tuple[Log, str]:
    log = new_log(root / "log")
    return log, enrolled(log)


def act(env: Any, n_steps: int, seed: int | None = 7) -> list[tuple[Any, ...]]:
    """Act at random, resetting at each end; return what was seen, copied."""
    seen = [("reset", np.array(env.reset(seed=seed)[0], copy=True))]
    env.action_space.seed(3)
    for _ in range(n_steps):
        action = env.action_space.sample()
        observation, env_reward, terminated, truncated, _ = env.step(action)
        seen.append((action, np.array(observation, copy=True), float(env_reward), terminated, truncated))
        if terminated or truncated:
            seen.append(("reset", np.array(env.reset()[0], copy=True)))
    return seen


def recorded(log: Log, session_id: str = "s-0001") -> list[tuple[Any, ...]]:
    """Return a sealed session's steps as ``act`` returns them, without what no reset followed."""
    seen: list[tuple[Any, ...]] = []
    for episode in reader.session(log, session_id).episodes:
        columns = episode.columns
        seen.append(("reset", columns.observations[0] if len(columns) else episode.final_observation))
        afters = [*columns.observations[1:], episode.final_observation]
        for step, after in zip(episode.steps, afters, strict=False):
            seen.append((step.action, after, step.env_reward, step.terminated, step.truncated))
    return seen


def alike(left: list[tuple[Any, ...]], right: list[tuple[Any, ...]]) -> bool:
    return len(left) == len(right) and all(
        all(
            np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in zip(x, y, strict=True)
        )
        for x, y in zip(left, right, strict=True)
    )


def in_a_fresh_process(log: Log) -> list[list[Any]]:
    """Replay every session in a new Python; return its name, steps and first difference."""
    code = """
import json, sys
from pathlib import Path
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.replay import rollout
log = Log(Path(sys.argv[1]))
print(json.dumps([[r.session_id, r.steps, r.difference and r.difference.field] for r in (
    rollout.replay(log, s) for s in reader.session_ids(log))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(log.layout.root)],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE,
    )
    return list(json.loads(done.stdout))


class Odd(gym.Env[Any, Any]):
    """Rewards that are no numbers, one buffer for all observations, info of every kind."""

    observation_space = gym.spaces.Box(-1e9, 1e9, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    REWARDS = (np.nan, np.inf, -np.inf, np.float32(0.1), 1, np.array(2.5))

    def __init__(self) -> None:
        self._buffer = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._buffer[:] = float((options or {}).get("start", 0)), 0.0
        return self._buffer, {}

    def step(self, action: Any) -> Any:
        self._buffer[0] += 1
        # Shows in how many digits the action came.
        self._buffer[1] = np.asarray(action, np.float64)[0]
        n = int(self._buffer[0])
        info = {
            "n": n,
            "array": np.arange(2),
            "bad": float("nan"),
            "who": object(),
            "deep": {"x": np.float32(0.5)},
        }
        return self._buffer, self.REWARDS[n % 6], n >= 20, False, info
