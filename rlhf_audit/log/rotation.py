"""A new signing key for a log: vouched for by the old one, or, where that is lost, by nobody."""

import contextlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit.errors import DamagedError, UsageError
from rlhf_audit.log import checkpoint
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.store import Log


def rotate(log: Log, new: Ed25519PrivateKey | None = None, is_lost: bool = False) -> Entry:
    """Enter a new signing key in the ledger, which signs from then on.

    Args:
        log: Whose.
        new: Its private half; made, and kept on this machine, if there is none.
        is_lost: Nobody has the key before any more, to sign for this one: whoever verifies the log has to be
            told of the new key in another way.

    Raises:
        DamagedError: The key before is not on this machine, and was not said to be lost.
        UsageError: It is on this machine and was said to be lost, or ``new`` is or was in use.
    """
    with log.holding():
        old = None if is_lost else log.signing_key
        if is_lost:
            _check_lost(log)
        if new is not None and any(_public(new) == key.public_key for key in log.ledger.keys):
            raise UsageError(
                "that key signs, or has signed, this log already",
                seen=_public(new).hex(),
                needed="a key that it never had",
                fix="rlhf-audit rotate-key LOG, which makes one",
            )
        new = new or checkpoint.make_key()
        entry = log.ledger.rotate(new, log.clock, old)
        log.signing_key = new
    return entry


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _check_lost(log: Log) -> None:
    with contextlib.suppress(DamagedError):
        seen = _public(log.signing_key).hex()
        raise UsageError(
            "the signing key is not lost: it is on this machine",
            seen=f"the private half of {seen}",
            needed="a rotation that it signs for",
            fix="rlhf-audit rotate-key LOG, without --lost",
        )
