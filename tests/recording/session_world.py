"""What the tests of consent, recording and replay share: a log, raters, a person who presses listed keys."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit.clock import Clock
from rlhf_audit.consent import register, terms
from rlhf_audit.log import store
from rlhf_audit.log.store import Log
from rlhf_audit.recording.record import Recorded, Request, record
from rlhf_audit.seeds import Entropy
from rlhf_audit.types import Answer, AnswerKind, Purpose, Question

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
START = datetime(2026, 3, 4, 9, tzinfo=UTC)
BOTH = (Purpose.TRAINING, Purpose.AUDIT)
CART_POLE = "CartPole-v1"
ENVIRONMENTS = (CART_POLE, "MountainCar-v0", "Acrobot-v1", "LunarLander-v3")


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


def new_log(root: Path, clock: Clock | None = None, entropy: Entropy | None = None) -> Log:
    log = store.create(root, clock, entropy, KEY)
    terms.add(log)
    return log


def opened(log: Log) -> Log:
    """Return another handle on the same folder, as another process would have."""
    return Log(log.layout.root, log.clock, signing_key=KEY)


def enrolled(log: Log, scripted: str | None = None, purposes: Iterable[Purpose] = BOTH, **facts: Any) -> str:
    """Enrol a rater who agrees; a person unless ``scripted``."""
    rater_id, _ = register.enrol(log, scripted=scripted, **facts)
    if purposes:
        register.give(log, rater_id, purposes, "scripted" if scripted else "terminal")
    return rater_id


_KEYS = {
    "1": Answer(AnswerKind.ANSWER, 1.0, 0.5),
    "0": Answer(AnswerKind.ANSWER, 0.0, 0.25),
    "s": Answer(AnswerKind.SKIP, None, 0.125),
    "u": Answer(AnswerKind.UNDO),
    "q": Answer(AnswerKind.QUIT),
    "w": Answer(AnswerKind.WITHDRAW),
}


class Presses:
    """A person who presses the keys of ``keys``, then q; a function among them is called instead."""

    simulated_time = False

    def __init__(self, keys: Iterable[str | Callable[[Question], Answer]]) -> None:
        self._keys = list(keys)
        self.asked: list[Question] = []
        self.closed = 0

    def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        key = self._keys.pop(0) if self._keys else "q"
        return _KEYS[key] if isinstance(key, str) else key(question)

    def close(self) -> None:
        self.closed += 1


def rate(log: Log, rater_id: str, source: Presses, **request: Any) -> Recorded:
    """Record one session of a person at a (faked) terminal."""
    settings = {"seed": 3} | ({} if "rates" in request else {"env_id": CART_POLE}) | request
    return record(log, Request(rater_id, "terminal", **settings), lambda: source)


def script(log: Log, rater_id: str, name: str = "oracle", **request: Any) -> Recorded:
    """Record one session of a scripted rater."""
    settings = {"seed": 3} | ({} if "rates" in request else {"env_id": CART_POLE}) | request
    return record(log, Request(rater_id, f"scripted:{name}", **settings))


def feedback_rows(log: Log, rater_id: str, session_id: str = "s-0001") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        pq.ParquetFile(log.layout.feedback_file(rater_id, session_id)).read().to_pylist()
    )
    return rows


def step_rows(log: Log, session_id: str = "s-0001", env_id: str = CART_POLE) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.ParquetFile(log.layout.steps_file(env_id, session_id)).read().to_pylist()
    return rows


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a folder, lock files left out, and every folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.name != ".lock":
            found[path.relative_to(root).as_posix()] = b"" if path.is_dir() else path.read_bytes()
    return found


class Reusing(gym.Env[Any, Any]):
    """Gives the same array at every step, filled anew: what a careless recorder would keep 20 times."""

    observation_space = gym.spaces.Box(-100.0, 100.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._buffer = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._buffer[:] = 0.0
        return self._buffer, {}

    def step(self, action: int) -> Any:
        self._buffer[0] += 1.0
        self._buffer[1] = action
        return self._buffer, 0.5, bool(self._buffer[0] >= 7), False, {}


if "Reusing-v0" not in gym.registry:
    gym.register("Reusing-v0", entry_point="session_world:Reusing")


def alter(path: Path, column: str, row: int, value: object) -> None:
    """Change one value of a sealed file, as somebody would who can make digests fit."""
    table = pq.ParquetFile(path).read()
    values = table.column(column).to_pylist()
    assert values[row] != value or type(values[row]) is not type(value)
    values[row] = value
    place, field = table.column_names.index(column), table.schema.field(column)
    pq.write_table(
        table.set_column(place, field, pa.array(values, field.type)),
        path,
        compression="zstd",
        use_dictionary=False,
        store_schema=False,
    )
