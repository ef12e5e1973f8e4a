"""Small logs for tests: one without TensorFlow in a blink, one with everything in it, made once a process."""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rlhf_audit.consent import register, terms
from rlhf_audit.estimators.reliability import Reliability
from rlhf_audit.log import checkpoint, store
from rlhf_audit.log.store import Log
from rlhf_audit.policy.network import weights_sha256
from rlhf_audit.recording.record import Request, record
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import Purpose

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BOTH = (Purpose.TRAINING, Purpose.AUDIT)


def write_key(folder: Path) -> Path:
    path = folder / "signing.key"
    path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture(autouse=True)
def signing_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator's key of every log in these tests."""
    monkeypatch.setenv(checkpoint.SIGNING_KEY_VARIABLE, str(write_key(tmp_path_factory.mktemp("key"))))
    yield


def empty(root: Path, seed: int = 1) -> Log:
    """A log with terms and nobody in it."""
    log = store.create(root, entropy=SeededEntropy(seed), signing_key=KEY)
    terms.add(log)
    return log


def join(log: Log, scripted: str = "oracle", alias: str = "", purposes: tuple[Purpose, ...] = BOTH) -> str:
    """Enrol a scripted rater who agrees; return the pseudonym."""
    rater_id, _ = register.enrol(log, alias, {"language": "en"}, scripted)
    if purposes:
        register.give(log, rater_id, purposes, "scripted")
    return rater_id


def acts(log: Log, rater_id: str, scripted: str = "oracle", n: int = 12, seed: int = 3) -> str:
    """The agent acts and a rater answers; return the session's id."""
    request = Request(rater_id, f"scripted:{scripted}", "CartPole-v1", ask_every=5, max_feedback=n, seed=seed)
    return str(record(log, request).session_id)


def rates(log: Log, rater_id: str, session_id: str, scripted: str = "oracle", seed: int = 4) -> str:
    """A rater rates a recorded session again; return the new session's id."""
    request = Request(rater_id, f"scripted:{scripted}", rates=session_id, ask_every=5, seed=seed)
    return str(record(log, request).session_id)


def plain(root: Path, n_raters: int = 2) -> tuple[Log, list[str]]:
    """A log whose raters all rated one session, without a policy; made once a process, then copied."""
    template, raters = _plain(n_raters)
    shutil.copytree(template, root)
    return Log(root), list(raters)


@functools.cache
def _plain(n_raters: int) -> tuple[Path, list[str]]:
    log = empty(_kept("plain") / "log")
    raters = [join(log, alias=f"Person Number {n}") for n in range(n_raters)]
    first = acts(log, raters[0])
    for rater_id in raters[1:]:
        rates(log, rater_id, first)
    return log.layout.root, raters


def _kept(name: str) -> Path:
    """A folder that lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"rlhf_audit_{name}_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def cheap_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the training alone: weights that say what they were made from, without TensorFlow."""
    from rlhf_audit.replay import trainer

    def train(
        rated: Any, spec: Any, algorithm: str, seed: int, progress: Any = None
    ) -> trainer.TrainedPolicy:
        weights = (("sum", np.float32([rated.values.sum(), len(rated)])),)
        shares = tuple(Reliability(0.9, 0.1, 10) for _ in rated.rater_ids)
        digest = weights_sha256(weights)
        return trainer.TrainedPolicy(weights, digest, algorithm, {"seed": seed}, shares, "xla", len(rated))

    monkeypatch.setattr(trainer, "train", train)


@dataclass(frozen=True)
class Full:
    """A log with one of everything, and its surroundings.

    Attributes:
        home: Holds ``log`` and ``policies``.
        erased: Is gone; the receipt is there.
        raters: Are here; the first recorded, the second taught ``live``.
    """

    home: Path
    raters: tuple[str, ...]
    erased: str

    @property
    def root(self) -> Path:
        return self.home / "log"

    def copy(self, to: Path) -> "Full":
        shutil.copytree(self.home, to, symlinks=True)
        return Full(to, self.raters, self.erased)


@functools.cache
def full() -> Full:
    """Three raters, a fourth erased, a learning session, two policies, a report, a receipt: to be copied."""
    from rlhf_audit.replay import retrain
    from rlhf_audit.reports import publish
    from rlhf_audit.withdrawal import erase

    home = _kept("full")
    log = empty(home / "log")
    raters = [join(log, name, f"Person Number {i}") for i, name in enumerate(("oracle", "oracle", "flip-20"))]
    erased = join(log, "inverted", "Zebedee Unusual")
    first = acts(log, raters[0])
    for rater_id, name in ((raters[2], "flip-20"), (erased, "inverted")):
        rates(log, rater_id, first, name)
    request = Request(raters[1], "scripted:oracle", "CartPole-v1", learn="likelihood", max_feedback=6, seed=5)
    record(log, replace(request, to=home / "policies" / "live"))
    with pytest.MonkeyPatch.context() as patched:
        cheap_training(patched)
        retrain.retrain(log, home / "policies" / "offline")
        publish.publish(log, home / "log" / "reports" / "one")
        erase.apply(log, erased)
    return Full(home, tuple(raters), erased)


def every_file(home: Path) -> list[Path]:
    """Every file of a full log that holds anything: policies too, locks not."""
    found = (path for path in sorted(home.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in found if path.stat().st_size]


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
