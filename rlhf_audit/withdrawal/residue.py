"""A search of every byte for what may be left of an erased rater.

zstd hides text from a plain search and Parquet keeps values in several structures, so every compressed
page is opened too: values, dictionary pages, statistics, footers, and file and folder names.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from rlhf_audit.log import artefacts
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.store import Log

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SHORTEST = 4


@dataclass(frozen=True)
class Needles:
    """What to look for.

    Attributes:
        pseudonym: Allowed in the ledger and in receipts.
        secret: Alias, keys and group values: allowed nowhere.
        known: The key was still there, so the secrets could be looked for.
    """

    pseudonym: bytes
    secret: tuple[bytes, ...] = field(repr=False)
    known: bool


@dataclass(frozen=True)
class Scan:
    """What a search found.

    Attributes:
        found: Files in which something is left, relative to the log.
        looked_for_secrets: Alias and key were searched for too.
    """

    files: int
    bytes: int
    structures: int
    found: tuple[str, ...]
    looked_for_secrets: bool


def needles_of(key: RaterKey) -> Needles:
    """Return what to look for of a rater whose key is still there.

    An alias of fewer than four bytes is in every file by chance and is not looked for.
    """
    texts = [key.alias.encode()]
    secrets = [text for text in texts if len(text) >= _SHORTEST]
    return Needles(key.rater_id.encode(), (*secrets, key.mac_key, key.code_hash, key.code_salt), True)


def needles_of_id(rater_id: str) -> Needles:
    """Return what to look for once the key is gone."""
    return Needles(rater_id.encode(), (), False)


def encodings(needle: bytes) -> Iterator[bytes]:
    """Yield a needle as it may be written: plain, hex, base64 at each offset, percent, UTF-16."""
    yield needle
    yield binascii.hexlify(needle)
    yield binascii.hexlify(needle).upper()
    for shift in range(3):
        # Whole base64 groups only: the letters at both ends depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + needle)
        yield encoded[(4 if shift else 0) : len(encoded) - 4]
    yield quote(needle, safe="").encode()
    try:
        text = needle.decode()
    except UnicodeDecodeError:
        return
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    yield ascii(text)[1:-1].encode()


def structures(data: bytes) -> Iterator[bytes]:
    """Yield a file's bytes, and the content of every zstd frame in it."""
    yield data
    start = data.find(_ZSTD_MAGIC)
    while start >= 0:
        yield _frame(data[start:])
        start = data.find(_ZSTD_MAGIC, start + 1)


def holds(data: bytes, needles: Iterable[bytes]) -> bool:
    """Say whether any structure of ``data`` has any needle in any encoding."""
    wanted = [code for needle in needles for code in encodings(needle) if len(code) >= _SHORTEST]
    return any(code in part for part in structures(data) for code in wanted)


def scan(log: Log, needles: Needles) -> Scan:
    """Search the log, the policies and the reports that its ledger names."""
    root = log.layout.root
    n_files = n_bytes = n_structures = 0
    found = []
    for path in places(log):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        data = path.read_bytes()
        n_files, n_bytes = n_files + 1, n_bytes + len(data)
        n_structures += 1 + data.count(_ZSTD_MAGIC)
        allowed = name.startswith(("ledger/", "receipts/"))
        looked = (*needles.secret,) if allowed else (needles.pseudonym, *needles.secret)
        if holds(data, looked) or holds(name.encode(), looked):
            found.append(name)
    return Scan(n_files, n_bytes, n_structures, tuple(found), needles.known)


def places(log: Log) -> list[Path]:
    """Return every file of the log, and of the policies and reports that its ledger names."""
    made = [found for kind in ArtefactKind for found in artefacts.current(log, kind)]
    # A policy's folder is ours; of a report's folder only the files that we wrote.
    outside = [
        path
        for found in made
        for path in (
            sorted(found.folder.rglob("*"))
            if (found.folder / "manifest.json").exists()
            else [found.folder / name for name in found.facts["files"]]
        )
    ]
    return sorted({path for path in [*log.layout.files(), *outside] if path.is_file()})


def _frame(data: bytes) -> bytes:
    """Return what a zstd frame at the start of ``data`` holds, as far as it can be read."""
    parts = []
    stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
    try:
        while chunk := stream.read(4096):
            parts.append(chunk)
    except OSError:
        # Behind the frame comes something else, or the four magic bytes were a coincidence.
        pass
    return b"".join(parts)
