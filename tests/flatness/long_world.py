"""Sessions of any length in an environment that costs nothing, and what is done with them, each by itself.

Run as ``python long_world.py LOG OPERATION STEPS [SLOTS]`` it does one thing and says when it begins and
ends, so that its memory can be watched from outside.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import verification
from rlhf_audit.consent import register, terms
from rlhf_audit.log import part, reader, store, writer
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import Feedback, Kind, Purpose

LENGTH = 100
N_RATED = 40
"""Spread over the session, so that those who read them must go through all of it."""
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class Clock:
    def __init__(self, hour: int) -> None:
        self.time = datetime(2026, 3, 4, hour, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


class Cheap(gym.Env[Any, Any]):
    """Four numbers that change from step to step, looked up; episodes of ``LENGTH`` steps."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)
    SHOWN = tuple(np.random.default_rng(3).random((LENGTH + 1, 4), np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self.SHOWN[0], {}

    def step(self, action: Any) -> Any:
        self._step += 1
        return self.SHOWN[self._step], 0.5, self._step == LENGTH, False, {}


if "Cheap-v0" not in gym.registry:
    gym.register("Cheap-v0", entry_point="long_world:Cheap")


def opened(root: Path) -> Log:
    return Log(root, Clock(10), SeededEntropy(7), KEY)


def new(root: Path) -> None:
    log = store.create(root, Clock(9), SeededEntropy(7), KEY)
    terms.add(log)
    rater_id, _ = register.enrol(log)
    register.give(log, rater_id, tuple(Purpose), "terminal")


def record(log: Log, n_steps: int) -> Recorder:
    """Record ``n_steps``; return the recorder, still open."""
    rater_id = next(log.ledger.of("enrolled")).body["rater_id"]
    env = Recorder(gym.make("long_world:Cheap-v0", disable_env_checker=True), log, rater_id)
    rated = max(1, n_steps // N_RATED)
    env.reset()
    for number in range(1, n_steps + 1):
        over = env.step(number & 1)[2]
        if number % rated == 0:
            env.rate(number // rated % 2)
        if over and number < n_steps:
            env.reset()
    return env


def killed(log: Log, n_steps: int) -> None:
    # Held: one that nobody holds is sealed.
    _env = record(log, n_steps)
    os.kill(os.getpid(), signal.SIGKILL)


def recover(log: Log, n_steps: int) -> None:
    with log.writing():
        assert writer.recover(log) == ["s-0001"]
    assert [entry.body["n_steps"] for entry in log.ledger.of("session")] == [n_steps]


def verify(log: Log, n_steps: int) -> None:
    del n_steps
    found = verification.verify(log.layout.root)
    assert found.ok, found


def replay(log: Log, n_steps: int) -> None:
    from rlhf_audit.replay import rollout

    played = rollout.replay(log, "s-0001")
    assert (played.steps, played.difference) == (n_steps, None)


def load(log: Log, n_ratings: int) -> None:
    """Load what is trained on."""
    from rlhf_audit.log import views
    from rlhf_audit.policy.interface import Interface
    from rlhf_audit.replay import dataset

    connection = views.connect(log, log.clock.now())
    env_id = dataset.environment(connection, None)
    interface = Interface.of(reader.session_facts(log, "s-0001")["env"])
    data = dataset.load(log, connection, env_id, interface)
    assert len(data.rated) == n_ratings


def retrain(log: Log, n_steps: int) -> None:
    del n_steps
    load(log, N_RATED)


def everything(log: Log, n_steps: int) -> None:
    record_and_seal(log, n_steps)
    for operation in (verify, replay, retrain):
        operation(opened(log.layout.root), n_steps)


def exported(form: str) -> Callable[[Log, int], None]:
    def export(log: Log, n_steps: int) -> None:
        from rlhf_audit.exchange import export as exports

        folder = log.layout.root.with_name(f"{form}-{n_steps}")
        made = exports.export(log, exports.Format(form), folder)
        assert made.content.steps == n_steps

    return export


def record_and_seal(log: Log, n_steps: int) -> None:
    record(log, n_steps).close()


def rate(log: Log, n_ratings: int) -> None:
    """Record so many ratings in one session; none is waited for on the disk, which would take hours."""
    os.fsync = os.fdatasync = lambda _: None  # type: ignore[assignment]
    grant = register.grant_for(log, next(log.ledger.of("enrolled")).body["rater_id"], log.clock.now())
    env = gym.make("long_world:Cheap-v0", disable_env_checker=True)
    with Recorder(env, log, grant.rater_id) as recorder:
        recorder.reset()
        session = recorder._session.writer
        for number in range(n_ratings):
            if recorder.step(number & 1)[2]:
                recorder.reset()
            now = log.clock.now()
            where = f"s-0001-e{number // LENGTH:04d}", number % LENGTH
            row = Feedback(*where, Kind.RATING, 1.0, now, now, 0.1, number, grant_id=grant.grant_id)
            writer.SessionWriter.feedback(session, row)
        _phase("sealing")


OPERATIONS: Mapping[str, Callable[[Log, int], None]] = {
    "everything": everything,
    "record": record_and_seal,
    "killed": killed,
    "verify": verify,
    "recover": recover,
    "replay": replay,
    "retrain": retrain,
    "rate": rate,
    "load": load,
} | {f"export-{form}": exported(form) for form in ("parquet", "csv", "minari", "lerobot", "hf", "rlds")}


def _phase(name: str) -> None:
    told = {"phase": name, "cpu_s": time.process_time()}
    print(json.dumps(told), flush=True)


def main(root: str, operation: str, n_steps: str, slots: str = "") -> None:
    if slots:
        part._MOST_SLOTS = int(slots)
    log = opened(Path(root))
    _phase("begin")
    OPERATIONS[operation](log, int(n_steps))
    _phase("end")


if __name__ == "__main__":
    main(*sys.argv[1:])
