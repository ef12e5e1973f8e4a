"""Withdrawal codes: secrets that open one act, shown once, kept as a keyed commitment to a slow hash.

A code has 20 letters: the first seven spell the pseudonym, so that one hash is computed however many raters
there are; the other thirteen are secret, 65 random bits. The ledger holds a random salt and the MAC, under
the rater's own key, of scrypt over the code: a guess needs the log, the rater's key file and the slow hash,
and once the key is destroyed the entry says nothing.
"""

import contextlib
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rlhf_audit.clock import from_text, to_text
from rlhf_audit.errors import LogError, RefusedError, UsageError
from rlhf_audit.log import keys
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import Entropy

SCRYPT = {"n": 2**14, "r": 8, "p": 5}
"""One of the settings that OWASP's Password Storage Cheat Sheet holds for equally strong; 16 MiB a time."""
TRIES = 5
"""So many wrong codes are heard within ``WINDOW``; then none until the first of them is that old."""
WINDOW = timedelta(minutes=15)

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_NAMED, _LETTERS = 7, 20
_MAC = "withdrawal-code"


@dataclass(frozen=True)
class Commitment:
    """What the ledger holds of a code.

    Attributes:
        salt: 16 random bytes.
        mac: Of scrypt of the code, under the rater's key, 64 hex digits.
    """

    salt: bytes
    mac: str

    def to_json(self) -> dict[str, str]:
        return {"code_salt": self.salt.hex(), "code_mac": self.mac}


@dataclass(frozen=True)
class _Sought:
    """Whose code it may be; a stand-in where it is nobody's, so that the work is the same."""

    rater_id: str | None
    key: RaterKey = field(repr=False)
    commitment: Commitment = field(repr=False)


_NOBODY = _Sought(None, RaterKey("", bytes(32), "", {}), Commitment(bytes(16), "0" * 64))


def make(entropy: Entropy, rater_id: str) -> str:
    """Return a fresh code for a rater: five groups of four letters."""
    number = int(rater_id.removeprefix("r-"), 16)
    named = [_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_NAMED))]
    secret = [_ALPHABET[byte % 32] for byte in entropy.token(16)][: _LETTERS - _NAMED]
    return "-".join("".join([*named, *secret][i : i + 4]) for i in range(0, _LETTERS, 4))


def commit(code: str, key: RaterKey, salt: bytes) -> Commitment:
    """Return what the ledger is to hold of a code."""
    return Commitment(salt, key.mac(_MAC, slow_hash(_normal(code), salt)))


def slow_hash(letters: str, salt: bytes) -> bytes:
    """Return scrypt of a code without its dashes, 32 bytes."""
    return hashlib.scrypt(letters.encode(), salt=salt, dklen=32, **SCRYPT)


def opened(log: Log, code: str) -> str:
    """Return whose code this is; what is tried is counted in the ledger before it is judged.

    Unknown, erased and wrong are one answer, after the same work.

    Args:
        log: Which.
        code: As it was typed: case, spaces and dashes do not matter.

    Raises:
        RefusedError: Too many were tried: none is heard for a while. ``withdraw LOG RATER`` always is.
        UsageError: It is nobody's, or no code at all.
    """
    letters = _checked(code)
    log.ledger.load()
    _check_open(log, log.ledger.head.size)
    tried = log.append("code-tried", {})
    # Several at once each see the others' tries here.
    _check_open(log, tried.seq)
    sought = _sought(log, letters)
    mac = sought.key.mac(_MAC, slow_hash(letters, sought.commitment.salt))
    if not hmac.compare_digest(mac, sought.commitment.mac) or sought.rater_id is None:
        raise UsageError(
            "this code opens nothing",
            seen="nobody's code: mistyped, replaced by a newer one, or all that its rater gave is deleted",
            needed="the 20 letters that enroll printed",
            fix="type it again; or ask the operator for rlhf-audit withdraw LOG RATER, which needs no code",
        )
    log.append("code-accepted", {"tried": tried.seq})
    return sought.rater_id


def _sought(log: Log, letters: str) -> _Sought:
    number = 0
    for letter in letters[:_NAMED]:
        number = number << 5 | _ALPHABET.index(letter)
    rater_id = f"r-{number:08x}"
    gone = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    found = [e.body for e in log.ledger.of("enrolled", "code-renewed") if e.body["rater_id"] == rater_id]
    if found and rater_id not in gone:
        # A damaged key opens nothing; the operator can withdraw its rater all the same.
        with contextlib.suppress(LogError, OSError):
            return _Sought(rater_id, keys.read(log.layout, rater_id), _commitment(found[-1]))
    return _NOBODY


def _commitment(body: Any) -> Commitment:
    return Commitment(bytes.fromhex(body["code_salt"]), body["code_mac"])


def _check_open(log: Log, before: int) -> None:
    """Refuse when ``TRIES`` wrong codes were tried of late, by the entries before number ``before``."""
    now = log.clock.now()
    good = {entry.body["tried"] for entry in log.ledger.of("code-accepted")}
    wrong = [
        from_text(entry.at)
        for entry in log.ledger.of("code-tried")
        if entry.seq < before and entry.seq not in good
    ]
    # A clock that was set back must not lock for longer.
    late = [at for at in wrong if abs(now - at) < WINDOW]
    if len(late) >= TRIES:
        raise _locked(max(late[-TRIES], now - WINDOW) + WINDOW)


def _locked(until: datetime) -> RefusedError:
    return RefusedError(
        "no code is heard now: too many wrong ones were tried",
        seen=f"{TRIES} wrong codes within {WINDOW.seconds // 60} minutes",
        needed=f"a pause until {to_text(until)[:19].replace('T', ' ')} UTC",
        fix="rlhf-audit withdraw LOG RATER, which needs no code and always works; or try again then",
    )


def _checked(code: str) -> str:
    letters = _normal(code)
    if len(letters) != _LETTERS or set(letters) - set(_ALPHABET):
        raise UsageError(
            "that is not a withdrawal code",
            # Not what was typed: it may be most of a secret.
            seen=f"{len(letters)} characters, dashes and spaces apart",
            needed=f"the {_LETTERS} letters and digits that enroll printed, without I, O, 0 and 1",
            fix="type it again; or ask the operator for rlhf-audit withdraw LOG RATER, which needs no code",
        )
    return letters


def _normal(code: str) -> str:
    return "".join(char for char in code.upper() if char != "-" and not char.isspace())
