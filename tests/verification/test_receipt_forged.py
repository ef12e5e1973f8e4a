"""A receipt that was altered, forged, borrowed or belied is accepted by nobody, a true one by everybody."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))
sys.path.insert(0, str(Path(__file__).parent))

import small_log
import tampering
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical, verification
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, receipt

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([7] * 32))
Body = dict[str, Any]


@pytest.fixture(autouse=True)
def _nobody_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_PAUSE_S", 0.0)


def erased(root: Path, n_raters: int = 2) -> tuple[Log, Path]:
    log, raters = small_log.plain(root, n_raters)
    return Log(root), erase.apply(log, raters[-1]).receipt


def signed(body: Body, key: Ed25519PrivateKey) -> Body:
    plain = {name: value for name, value in body.items() if name != "signature"}
    value = key.sign(canonical.json_bytes(plain)).hex()
    return {
        **plain,
        "signature": {
            "algorithm": "Ed25519",
            "public_key": key.public_key().public_bytes_raw().hex(),
            "value": value,
        },
    }


def more_files(body: Body) -> Body:
    return {**body, "deleted": {**body["deleted"], "files": body["deleted"]["files"] + 1}}


def under_the_own_name(body: Body) -> Body:
    """A stranger's signature that claims to be by the log's key."""
    forged = signed(body, STRANGER)
    forged["signature"]["public_key"] = body["signature"]["public_key"]
    return forged


FORGERIES: dict[str, Callable[[Body], Body]] = {
    "a number altered": more_files,
    "another rater's name": lambda body: {**body, "rater_id": "r-00000000"},
    "a key left out": lambda body: {name: body[name] for name in sorted(body)[1:]},
    "no signature": lambda body: {name: value for name, value in body.items() if name != "signature"},
    "an empty signature": lambda body: {**body, "signature": {**body["signature"], "value": ""}},
    "a stranger's signature": lambda body: signed(body, STRANGER),
    "a stranger's signature, our key": under_the_own_name,
    "an altered copy, signed by a stranger": lambda body: signed(more_files(body), STRANGER),
}


def test_a_true_receipt_is_accepted(tmp_path: Path) -> None:
    log, path = erased(tmp_path / "log")
    assert receipt.signature_holds(path, log.public_key)
    assert tampering.independent().check(log.layout.root, path.read_bytes()) == []
    assert verify(log.layout.root).problems == ()


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_receipt_is_refused(tmp_path: Path, name: str) -> None:
    """As a file that somebody brings, and in the place of the true one."""
    log, path = erased(tmp_path / "log")
    forged = canonical.json_bytes(FORGERIES[name](json.loads(path.read_bytes()))) + b"\n"
    found = tampering.independent().check(log.layout.root, forged)
    assert [place for place, _ in found] == ["receipt"]
    brought = tmp_path / "brought.json"
    brought.write_bytes(forged)
    assert not receipt.signature_holds(brought, log.public_key)
    path.write_bytes(forged)
    place = log.layout.relative(path)
    assert [problem.file for problem in verify(log.layout.root).problems] == [place]
    assert [name for name, _ in tampering.independent().check(log.layout.root)] == [place]


def test_a_receipt_that_we_signed_and_never_entered_is_refused(tmp_path: Path) -> None:
    """Whoever steals the key alone can't give receipts: the ledger names those that were given."""
    log, path = erased(tmp_path / "log")
    body = signed(more_files(json.loads(path.read_bytes())), Log(log.layout.root).signing_key)
    brought = tmp_path / "brought.json"
    brought.write_bytes(canonical.json_bytes(body) + b"\n")
    assert receipt.signature_holds(brought, log.public_key)
    found = tampering.independent().check(log.layout.root, brought.read_bytes())
    assert [place for place, _ in found] == ["receipt"]


def test_another_logs_receipt_is_refused(tmp_path: Path) -> None:
    log, _ = erased(tmp_path / "log")
    _, other = erased(tmp_path / "other", 3)
    found = tampering.independent().check(log.layout.root, other.read_bytes())
    assert [place for place, _ in found] == ["receipt"]


@pytest.mark.parametrize("kept", ["keys/{}.key", "feedback/rater_id={}/s-0001.parquet"])
def test_a_receipt_is_belied_by_what_it_says_is_gone(tmp_path: Path, kept: str) -> None:
    log, raters = small_log.plain(tmp_path / "log")
    done = erase.apply(log, raters[-1])
    back = log.layout.root / kept.format(raters[-1])
    back.parent.mkdir(exist_ok=True)
    back.write_bytes(b"kept after all")
    found = {place for place, _ in tampering.independent().check(log.layout.root, done.receipt.read_bytes())}
    assert found == {"receipt", log.layout.relative(back)}
    assert [problem.file for problem in verify(log.layout.root).problems] == [log.layout.relative(back)]
