"""A legal hold: an erasure suspended because the law wants something kept, in everybody's sight.

Personal data:
    The reason may name a person. It is kept in the ledger's entry, but sealed under the rater's key and
    padded, so that neither it nor its length can be read once the key is destroyed; and it is in no report.

References:
    Regulation (EU) 2016/679, articles 17(3) and 18(2): what is kept for a legal claim is not used.
"""

import base64
import contextlib
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from rlhf_audit.consent import register
from rlhf_audit.errors import LogError, RefusedError, UsageError
from rlhf_audit.log import keys
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log

HELD, LIFTED = "legal-hold", "legal-hold-lifted"
_LONGEST = 1000
_BLOCK = 4096
_NONCE = 12


@dataclass(frozen=True)
class Hold:
    """An erasure that is suspended.

    Attributes:
        since: RFC 3339, UTC.
        reason: None where the rater's key can't be read.
    """

    since: str
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        return {"since": self.since, "reason": self.reason}


def of(log: Log, rater_id: str) -> Hold | None:
    """Return the hold on a rater's erasure, if there is one now."""
    entry = _newest(log, rater_id)
    return None if entry is None else Hold(entry.at, next(iter(_opened(log, [entry])), None))


def reasons(log: Log, rater_id: str) -> list[str]:
    """Return every reason ever given for this rater, as far as the key can be read."""
    return _opened(log, [entry for entry in log.ledger.of(HELD) if entry.body["rater_id"] == rater_id])


def place(log: Log, rater_id: str, reason: str) -> None:
    """Suspend a rater's erasure; the same reason is entered once. Nothing of theirs may be used more for it.

    Raises:
        UsageError: Nobody of that name is here, or the reason is empty or too long.
        LogError: The rater's key can't be read, so that the reason could not be sealed.
        LockedError: Another process is writing.
    """
    with log.writing():
        register.rater(log, rater_id)
        # Not repeated: it may name somebody.
        if not reason.strip() or len(reason) > _LONGEST:
            raise UsageError(
                "a legal hold needs a reason that can be kept",
                seen=f"{len(reason)} characters",
                needed=f"1 to {_LONGEST}, saying by what duty it is kept",
                fix=f"rlhf-audit erase LOG {rater_id} --legal-hold 'case 4711, until judgement'",
            )
        key = keys.read(log.layout, rater_id)
        held = of(log, rater_id)
        if held is None or held.reason != reason:
            log.append(HELD, {"rater_id": rater_id, "reason": _sealed(log, key, reason)})


def lift(log: Log, rater_id: str) -> None:
    """End a hold; where there is none, nothing is changed.

    Raises:
        UsageError: Nobody of that name is here.
        LockedError: Another process is writing.
    """
    with log.writing():
        register.rater(log, rater_id)
        if _newest(log, rater_id) is not None:
            log.append(LIFTED, {"rater_id": rater_id})


def check(log: Log, rater_id: str) -> None:
    """Refuse an erasure that is suspended.

    Raises:
        RefusedError: It is.
    """
    entry = _newest(log, rater_id)
    if entry is not None:
        raise RefusedError(
            f"the erasure of {rater_id} is under a legal hold",
            seen=f"held since {entry.at}; nothing is erased",
            needed="no hold",
            fix=f"rlhf-audit erase LOG {rater_id} --lift-hold, when the duty to keep has ended; "
            f"until then rlhf-audit withdraw LOG {rater_id} ends all use",
        )


def _newest(log: Log, rater_id: str) -> Entry | None:
    own = [entry for entry in log.ledger.of(HELD, LIFTED) if entry.body["rater_id"] == rater_id]
    return own[-1] if own and own[-1].event == HELD else None


def _cipher(key: RaterKey) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(bytes.fromhex(key.mac("legal-hold", b"")))


def _about(log: Log, key: RaterKey) -> bytes:
    return f"{log.log_id} {key.rater_id}".encode()


def _sealed(log: Log, key: RaterKey, reason: str) -> str:
    text = reason.encode("utf-8", "surrogatepass")
    padded = text + b"\0" * (-len(text) % _BLOCK)
    nonce = log.entropy.token(_NONCE)
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, padded, _about(log, key))).decode()


def _opened(log: Log, entries: list[Entry]) -> list[str]:
    found = []
    for entry in entries:
        # Damaged or gone, as it is once an erasure has begun: then nobody reads it any more.
        with contextlib.suppress(LogError, OSError, InvalidTag, ValueError):
            key = keys.read(log.layout, entry.body["rater_id"])
            raw = base64.b64decode(entry.body["reason"], validate=True)
            text = _cipher(key).decrypt(raw[:_NONCE], raw[_NONCE:], _about(log, key))
            found.append(text.rstrip(b"\0").decode("utf-8", "surrogatepass"))
    return found
