"""The signed head of the ledger: a C2SP checkpoint in a C2SP signed note, and the key that signs it.

References:
    https://c2sp.org/tlog-checkpoint and https://c2sp.org/signed-note (Ed25519, algorithm byte 0x01).
"""

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from rlhf_audit.errors import DamagedError, LedgerError
from rlhf_audit.log import durable, notes

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


def rotated_key_path(public_key: bytes) -> Path:
    """Return where a key that took another's place lives: beside that one, which may serve other logs."""
    return signing_key_path().parent / f"signing-{public_key.hex()[:16]}.key"


def make_key() -> Ed25519PrivateKey:
    """Make a key that is to take the place of another, and keep it on this machine."""
    key = Ed25519PrivateKey.generate()
    path = rotated_key_path(key.public_key().public_bytes_raw())
    durable.make_folder(path.parent)
    durable.write(path, _pem(key), mode=0o600)
    return key


def signing_key_of(public_key: bytes) -> Ed25519PrivateKey:
    """Return the private half of a log's key.

    Raises:
        DamagedError: It is not on this machine.
    """
    rotated = rotated_key_path(public_key)
    key = read_key(rotated) if rotated.exists() else load_signing_key(create=False)
    check_key(key, public_key)
    return key


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
                seen=f"no file where {_place()}",
                needed=f"the Ed25519 key that this log was made with, or its path in {SIGNING_KEY_VARIABLE}",
                fix=f"{SIGNING_KEY_VARIABLE}=PATH rlhf-audit …",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, _pem(Ed25519PrivateKey.generate()), mode=0o600)
    return read_key(path)


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> Ed25519PrivateKey:
    """Return the private key in a file.

    Raises:
        DamagedError: It is none of ours.
    """
    if not path.is_file():
        raise _unusable("a folder" if path.is_dir() else "a pipe or a device")
    raw = path.read_bytes()
    try:
        key = load_pem_private_key(raw, password=None)
    except TypeError as error:
        open_it = f"openssl pkey -in KEY -out OPENED, then {SIGNING_KEY_VARIABLE}=OPENED rlhf-audit …"
        raise _unusable("a key with a passphrase", open_it) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable("no private key in PEM" if raw.strip() else "an empty file") from error
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.lstrip("_").removesuffix("PrivateKey")
        raise _unusable(f"a private key of kind {kind}")
    return key


def check_key(key: Ed25519PrivateKey, public_key: bytes) -> None:
    """Refuse another log's signing key.

    Raises:
        DamagedError: ``key`` is not the private half of ``public_key``.
    """
    found = key.public_key().public_bytes_raw()
    if found != public_key:
        raise DamagedError(
            f"the signing key on this machine is not this log's: another one is where {_place()}",
            seen=f"a key whose public half is {found.hex()}",
            needed=f"the one whose public half is {public_key.hex()}, as log.json or its ledger says",
            fix=f"{SIGNING_KEY_VARIABLE}=PATH-OF-THAT-KEY rlhf-audit …",
        )


def _unusable(seen: str, fix: str = "") -> DamagedError:
    return DamagedError(
        f"the signing key can't be read where {_place()}",
        seen=seen,
        needed="an Ed25519 private key in PEM, without a passphrase",
        fix=fix or f"{SIGNING_KEY_VARIABLE}=PATH rlhf-audit …, with the path of the key that init made",
    )


def _place() -> str:
    # Not the path itself: by default it holds the name of a home folder.
    named = os.environ.get(SIGNING_KEY_VARIABLE)
    return f"{SIGNING_KEY_VARIABLE} says" if named else "init puts it, in your user data folder"


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Return the signed note's bytes."""
    return notes.sign(checkpoint.body, checkpoint.origin, key).to_bytes()


def unchecked(note: notes.Note) -> Checkpoint:
    """Return the checkpoint that a note tells of, whoever signed it.

    Raises:
        ValueError: It tells of none, or not as one is written.
    """
    origin, size, root, end = note.text.split("\n")
    checkpoint = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    # Base64 and decimals have several spellings: only the canonical bytes pass.
    if end or checkpoint.body != note.text or checkpoint.size < 0:
        raise ValueError("not as a checkpoint is written")
    return checkpoint


def read(raw: bytes, origin: str, public_key: bytes) -> Checkpoint:
    """Return the checkpoint in a signed note; signatures of others, such as witnesses, may stand there too.

    Raises:
        LedgerError: It is not signed by this key, or not of this origin.
    """
    try:
        note = notes.parse(raw)
        checkpoint = unchecked(note)
        signed = notes.VerifierKey(origin, public_key).has_signed(note)
    except ValueError as error:
        raise _not_signed() from error
    if not signed or checkpoint.origin != origin:
        raise _not_signed()
    return checkpoint


def _not_signed() -> LedgerError:
    return LedgerError(
        "ledger/checkpoint is not signed by this log's key",
        seen="another text or signature",
        needed="the checkpoint as it was last written",
        fix="rlhf-audit verify LOG, or put the log back from a copy",
    )
