"""The keys that may sign a log, one after another: the header's is the root, the ledger names the rest.

An entry ``key-rotated`` names the next key and is signed by the one before. An entry ``key-lost`` is signed
by the new key alone, since nobody has the old one: it holds the last checkpoint that the old one signed, so
all that came before stays proved, and what comes after has to be believed for another reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rlhf_audit import canonical
from rlhf_audit.errors import LedgerError
from rlhf_audit.log import checkpoint, merkle

ROTATED, LOST = "key-rotated", "key-lost"
_MARKS = tuple(f'"event":"{event}"'.encode() for event in (ROTATED, LOST))


@dataclass(frozen=True)
class LogKey:
    """A key and where its time begins.

    Attributes:
        public_key: 32 bytes.
        since: Entries in the ledger without that which names it: it signs all larger checkpoints.
        is_vouched: A key before it has signed for it; the first needs nobody.
    """

    public_key: bytes
    since: int
    is_vouched: bool = True


def at(keys: Sequence[LogKey], size: int) -> bytes:
    """Return the key that signs a ledger of this size, 32 bytes."""
    return next(key.public_key for key in reversed(keys) if key.since < size or key is keys[0])


def fold(origin: str, known: Sequence[LogKey], lines: Sequence[bytes], start: int = 0) -> tuple[LogKey, ...]:
    """Return the keys of a log, in their order.

    Args:
        origin: The tree's name in its checkpoints.
        known: The header's key, and those that lines before ``start`` name.
        lines: The ledger's.
        start: From which line on.

    Raises:
        LedgerError: An entry names a key and is not signed as it must be.
    """
    keys = [*known]
    for number in range(start, len(lines)):
        line = lines[number]
        if any(mark in line for mark in _MARKS):
            entry = json.loads(line)
            if entry["event"] in (ROTATED, LOST):
                try:
                    keys.append(_checked(origin, keys[-1].public_key, entry, lines[:number]))
                except (ValueError, KeyError, TypeError, LedgerError, InvalidSignature) as error:
                    raise LedgerError(
                        f"ledger/entries.jsonl line {number + 1} names a key and is not signed for it"
                    ) from error
    return tuple(keys)


def facts(
    old: Ed25519PrivateKey | None, old_public: bytes, new: Ed25519PrivateKey, note: bytes
) -> tuple[str, dict[str, Any]]:
    """Return the event and the body of the entry that names a new key, without its signature.

    Args:
        old: The key before; None if it was lost.
        old_public: Its public half.
        new: The key to come.
        note: The log's checkpoint as it stands.
    """
    body = {"public_key": new.public_key().public_bytes_raw().hex(), "replaces": old_public.hex()}
    return (ROTATED, body) if old else (LOST, body | {"checkpoint": note.decode()})


def signed(entry: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return an entry with the signature of a key over all the rest of it, its place in the chain too."""
    return {**entry, "signature": key.sign(canonical.json_bytes(entry)).hex()}


def _checked(origin: str, old: bytes, entry: dict[str, Any], before: Sequence[bytes]) -> LogKey:
    signature = bytes.fromhex(entry.pop("signature"))
    new, is_vouched = bytes.fromhex(entry["public_key"]), entry["event"] == ROTATED
    signer = Ed25519PublicKey.from_public_bytes(old if is_vouched else new)
    signer.verify(signature, canonical.json_bytes(entry))
    if entry["replaces"] != old.hex() or new == old:
        raise ValueError("it takes another key's place")
    if not is_vouched:
        last = checkpoint.read(entry["checkpoint"].encode(), origin, old)
        if last != checkpoint.Checkpoint(
            origin, len(before), merkle.root(list(map(merkle.leaf_hash, before)))
        ):
            raise ValueError("it does not follow what the lost key has signed")
    return LogKey(new, len(before), is_vouched)
