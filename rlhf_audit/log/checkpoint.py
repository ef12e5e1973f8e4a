"""The signed head of the ledger: a C2SP checkpoint in a C2SP signed note, and the key that signs it.

References:
    https://c2sp.org/tlog-checkpoint and https://c2sp.org/signed-note (Ed25519, algorithm byte 0x01).
"""

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from rlhf_audit.errors import DamagedError, LedgerError
from rlhf_audit.log import durable

SIGNING_KEY_VARIABLE = "RLHF_AUDIT_SIGNING_KEY"


@dataclass(frozen=True)
class Checkpoint:
    """What is signed: the tree's name, its size in lines, and its 32-byte root."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def signing_key_path() -> Path:
    """Return where the operator's private key lives: outside every log."""
    override = os.environ.get(SIGNING_KEY_VARIABLE)
    return Path(override) if override else platformdirs.user_data_path("rlhf_audit") / "signing.key"


def load_signing_key(create: bool) -> Ed25519PrivateKey:
    """Return the operator's private key, made at the first ``init``.

    Raises:
        DamagedError: There is none and ``create`` is false, or the file is not such a key.
    """
    path = signing_key_path()
    if not path.exists():
        if not create:
            raise DamagedError(
                "the signing key is not on this machine",
                needed=f"the Ed25519 key that this log was made with, or its path in {SIGNING_KEY_VARIABLE}",
                fix=f"{SIGNING_KEY_VARIABLE}=PATH rlhf-audit …",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        durable.write(path, pem, mode=0o600)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise DamagedError("the signing key can't be read", needed="an Ed25519 key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise DamagedError("the signing key is of another kind", needed="an Ed25519 key in PEM")
    return key


def _key_hash(origin: str, public_key: bytes) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n\x01" + public_key).digest()[:4]


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Return the signed note's bytes."""
    signature = key.sign(checkpoint.body.encode())
    blob = _key_hash(checkpoint.origin, key.public_key().public_bytes_raw()) + signature
    return f"{checkpoint.body}\n— {checkpoint.origin} {base64.b64encode(blob).decode()}\n".encode()


def read(note: bytes, origin: str, public_key: bytes) -> Checkpoint:
    """Return the checkpoint in a signed note.

    Raises:
        LedgerError: The note is not exactly what ``sign`` writes for this origin and key.
    """
    try:
        first, size, root, empty, signature_line, end = note.decode().split("\n")
        checkpoint = Checkpoint(first, int(size), base64.b64decode(root, validate=True))
        blob = base64.b64decode(signature_line.rsplit(" ", 1)[1], validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(blob[4:], checkpoint.body.encode())
        # Base64 and decimals have several spellings: only the canonical bytes pass.
        rebuilt = f"{checkpoint.body}\n— {origin} {base64.b64encode(blob).decode()}\n".encode()
        exact = rebuilt == note and not empty and not end and blob[:4] == _key_hash(origin, public_key)
    except (ValueError, IndexError, binascii.Error, InvalidSignature) as error:
        raise LedgerError("ledger/checkpoint is not signed by this log's key") from error
    if not exact or checkpoint.origin != origin:
        raise LedgerError("ledger/checkpoint is not signed by this log's key")
    return checkpoint
