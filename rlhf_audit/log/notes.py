"""C2SP signed notes: a text and who has signed it, as every transparency log writes them.

References:
    https://c2sp.org/signed-note (Ed25519, algorithm 0x01) and https://c2sp.org/tlog-cosignature (0x04).
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519, COSIGNATURE = 0x01, 0x04
"""Kinds of keys: of who makes the note; of a witness, who adds the time at which it was seen."""
_LINE = re.compile(r"— ([^\s+]+) (\S+)")
_DASH = "— "
_TIME_BYTES = 8


@dataclass(frozen=True)
class Signature:
    """One signature line: the key's name, the first four bytes of its hash, and what it signed with."""

    name: str
    key_hash: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_hash + self.value).decode()}"


@dataclass(frozen=True)
class Note:
    """A text, which ends with its newline, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        return "\n".join([self.text, *map(str, self.signatures), ""]).encode()


@dataclass(frozen=True)
class VerifierKey:
    """A public key that notes are checked with.

    Attributes:
        name: Whose it is.
        public_key: 32 bytes.
        algorithm: ``ED25519`` or ``COSIGNATURE``.
    """

    name: str
    public_key: bytes
    algorithm: int = ED25519

    @property
    def key_hash(self) -> bytes:
        """The four bytes by which a signature line tells of its key."""
        kind = bytes([self.algorithm])
        return hashlib.sha256(self.name.encode() + b"\n" + kind + self.public_key).digest()[:4]

    def __str__(self) -> str:
        key = base64.b64encode(bytes([self.algorithm]) + self.public_key).decode()
        return f"{self.name}+{self.key_hash.hex()}+{key}"

    def has_signed(self, note: Note) -> bool:
        """Say whether a note bears this key's signature; those of others are passed over.

        Raises:
            ValueError: It bears one that says to be this key's and is not, or two.
        """
        mine = [one for one in note.signatures if (one.name, one.key_hash) == (self.name, self.key_hash)]
        if len(mine) > 1:
            raise ValueError("signed twice by one key")
        for one in mine:
            message, value = note.text.encode(), one.value
            if self.algorithm == COSIGNATURE:
                seen_at = int.from_bytes(value[:_TIME_BYTES], "big")
                message, value = cosigned(note.text, seen_at), value[_TIME_BYTES:]
            try:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(value, message)
            except InvalidSignature as error:
                raise ValueError("a signature that does not hold") from error
        return bool(mine)


def cosigned(text: str, seen_at: int) -> bytes:
    """Return what a witness signs: the note's text, after the time at which it saw it (Unix seconds)."""
    return f"cosignature/v1\ntime {seen_at}\n{text}".encode()


def sign(text: str, name: str, key: Ed25519PrivateKey) -> Note:
    """Return a note with one signature."""
    verifier = VerifierKey(name, key.public_key().public_bytes_raw())
    return Note(text, (Signature(name, verifier.key_hash, key.sign(text.encode())),))


def parse(raw: bytes) -> Note:
    """Return the note in some bytes, its signatures unchecked.

    Raises:
        ValueError: They are no signed note, or not as one is written.
    """
    text, blank, lines = raw.decode().rpartition("\n\n")
    if not blank or not lines.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in raw.decode()):
        raise ValueError("no signed note")
    signatures = []
    for line in lines[:-1].split("\n"):
        found = _LINE.fullmatch(line)
        blob = base64.b64decode(found[2], validate=True) if found else b""
        if found is None or len(blob) <= 4:
            raise ValueError("a line that is no signature")
        signatures.append(Signature(found[1], blob[:4], blob[4:]))
    note = Note(f"{text}\n", tuple(signatures))
    if note.to_bytes() != raw:
        # Base64 has several spellings.
        raise ValueError("not as a note is written")
    return note


def verifier_key(text: str) -> VerifierKey:
    """Return the key that a vkey says, such as ``example.org/witness+c74f20a3+ARpc…``.

    Raises:
        ValueError: It says none, or one of another kind.
    """
    name, digest, key = text.strip().split("+", 2)
    blob = base64.b64decode(key, validate=True)
    if not name or re.search(r"\s", name) or len(blob) != 33 or blob[0] not in (ED25519, COSIGNATURE):
        raise ValueError("no verifier key of a kind known here")
    found = VerifierKey(name, blob[1:], blob[0])
    if found.key_hash.hex() != digest:
        raise ValueError("its hash is another key's")
    return found
