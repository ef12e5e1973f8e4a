"""C2SP signed notes, vkeys and cosignatures: Go's own vector, and a reader written from the specification."""

import base64
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rlhf_audit.errors import LedgerError
from rlhf_audit.log import checkpoint, notes

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
ORIGIN = "rlhf_audit/0123456789abcdef"
BODY = checkpoint.Checkpoint(ORIGIN, 7, bytes(32))

# The example of golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SAID = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBw"
    "JnAM=\n"
).encode()


def witness_key() -> notes.VerifierKey:
    return notes.VerifierKey(
        "example.org/witness", WITNESS.public_key().public_bytes_raw(), notes.COSIGNATURE
    )


def cosignature(text: str, seen_at: int = 1_700_000_000, key: Ed25519PrivateKey = WITNESS) -> notes.Signature:
    """As c2sp.org/tlog-cosignature says it, by hand."""
    name, public = "example.org/witness", WITNESS.public_key().public_bytes_raw()
    value = key.sign(b"cosignature/v1\ntime %d\n" % seen_at + text.encode())
    key_hash = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    return notes.Signature(name, key_hash, struct.pack(">Q", seen_at) + value)


def test_the_note_of_go_is_read_and_holds() -> None:
    peter = notes.verifier_key(PETER)
    assert str(peter) == PETER and peter.key_hash.hex() == "c74f20a3"
    assert peter.has_signed(notes.parse(SAID))
    assert notes.parse(SAID).to_bytes() == SAID
    with pytest.raises(ValueError):
        peter.has_signed(notes.parse(SAID.replace(b"answer", b"answee")))


def test_our_checkpoint_by_the_words_of_the_specification() -> None:
    raw = checkpoint.sign(BODY, KEY)
    text, _, signatures = raw.decode().rpartition("\n\n")
    assert text + "\n" == f"{ORIGIN}\n7\n{base64.b64encode(bytes(32)).decode()}\n"
    dash, name, blob = signatures.removesuffix("\n").split(" ")
    decoded = base64.b64decode(blob, validate=True)
    assert (dash, name, len(decoded)) == ("\u2014", ORIGIN, 4 + 64)
    assert decoded[:4] == hashlib.sha256(ORIGIN.encode() + b"\x0a\x01" + PUBLIC).digest()[:4]
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(decoded[4:], (text + "\n").encode())


def test_other_signatures_are_passed_over_and_a_second_of_ours_is_not() -> None:
    note = notes.parse(checkpoint.sign(BODY, KEY))
    stranger = notes.Signature("somebody.else/log", b"\1\2\3\4", bytes(64))
    same_name = notes.Signature(ORIGIN, b"\1\2\3\4", bytes(64))
    for more in ([stranger], [same_name], [cosignature(note.text)], [stranger, same_name]):
        for order in ([*note.signatures, *more], [*more, *note.signatures]):
            raw = notes.Note(note.text, tuple(order)).to_bytes()
            assert checkpoint.read(raw, ORIGIN, PUBLIC) == BODY
    twice = notes.Note(note.text, note.signatures * 2).to_bytes()
    alone = notes.Note(note.text, (stranger,)).to_bytes()
    for raw in (twice, alone):
        with pytest.raises(LedgerError):
            checkpoint.read(raw, ORIGIN, PUBLIC)


def test_a_cosignature_is_checked_with_its_time() -> None:
    text = BODY.body
    witness = witness_key()
    assert notes.verifier_key(str(witness)) == witness
    good = cosignature(text)
    assert witness.has_signed(notes.Note(text, (good,)))
    assert not witness.has_signed(notes.parse(checkpoint.sign(BODY, KEY)))
    later = struct.pack(">Q", 1_700_000_001) + good.value[8:]
    for wrong in (
        notes.Signature(good.name, good.key_hash, later),
        cosignature(text + "x\n"),
        cosignature(text, key=KEY),
        notes.Signature(good.name, good.key_hash, good.value[:-1]),
    ):
        with pytest.raises(ValueError):
            witness.has_signed(notes.Note(text, (wrong,)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("+ARpc", "+ZRpc"),
        "a b" + PETER,
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        notes.verifier_key(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text\n",
        SAID[:-1],
        SAID.replace(b"\n\n", b"\n"),
        SAID + b"\n",
        SAID.replace(b"\n", b"\r\n"),
        b"\xff" + SAID,
        SAID.replace(b"AM=", b"AN="),
    ],
)
def test_what_is_no_note_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        notes.parse(raw)
