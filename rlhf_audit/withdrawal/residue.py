"""A search of every byte for what may be left of an erased rater.

Compression hides text from a plain search and Parquet keeps values in several structures, so every
compressed page is opened too: values, dictionary pages, statistics, footers, and file and folder names.
"""

import base64
import binascii
import contextlib
import html
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from rlhf_audit import canonical
from rlhf_audit.log import artefacts
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.store import Log

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZIP_MAGIC = b"PK\x03\x04"
_SHORTEST = 4
_BLOCK = 1 << 20
_PIECE = 64


@dataclass(frozen=True)
class Needles:
    """What to look for.

    Attributes:
        pseudonym: Allowed in the ledger and in receipts.
        secret: Alias, MAC key, reasons of holds: allowed nowhere. Not the groups: they are many people's.
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
        unread: Files that could not be searched.
    """

    files: int
    bytes: int
    structures: int
    found: tuple[str, ...]
    looked_for_secrets: bool
    unread: tuple[str, ...] = ()


def needles_of(key: RaterKey, reasons: Iterable[str] = ()) -> Needles:
    """Return what to look for of a rater whose key is still there; ``reasons`` are those of legal holds.

    An alias of fewer than four bytes is in every file by chance and is not looked for.
    """
    alias = key.alias.encode("utf-8", "surrogatepass")
    told = (reason.encode("utf-8", "surrogatepass") for reason in reasons)
    secrets = (alias, key.mac_key, *told)
    return Needles(key.rater_id.encode(), tuple(x for x in secrets if len(x) >= _SHORTEST), True)


def needles_of_id(rater_id: str) -> Needles:
    """Return what to look for once the key is gone."""
    return Needles(rater_id.encode(), (), False)


def encodings(needle: bytes) -> Iterator[bytes]:
    """Yield a needle as it may be written: plain, hex, base64 at each offset, percent, UTF-16, escaped, …"""
    yield needle
    # As bytes of a number, least first.
    yield needle[::-1]
    yield binascii.hexlify(needle)
    yield binascii.hexlify(needle).upper()
    for shift in range(3):
        # Only the letters that do not depend on the neighbours at either end.
        encoded = base64.b64encode(b"\0" * shift + needle)
        yield encoded[-(-8 * shift // 6) : 8 * (shift + len(needle)) // 6]
    yield quote(needle, safe="").encode()
    # Those of a name that needs no escaping, all the same.
    yield "".join(f"%{byte:02X}" for byte in needle).encode()
    try:
        text = needle.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return
    yield text.encode("utf-16-le", "surrogatepass")
    yield text.encode("utf-16-be", "surrogatepass")
    yield ascii(text)[1:-1].encode()
    yield json.dumps(text)[1:-1].encode()
    # As our own files have it: only what JSON must escape.
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
    yield html.escape(text).encode("utf-8", "surrogatepass")


def structures(data: bytes) -> Iterator[bytes]:
    """Yield a file's bytes, and the content of every zstd frame, gzip member and zip entry in it."""
    yield data
    for start in _all(data, _ZSTD_MAGIC):
        yield _frame(data, start)
    for start in _all(data, _GZIP_MAGIC):
        yield _inflated(data[start:], zlib.MAX_WBITS | 16)
    for start in _all(data, _ZIP_MAGIC):
        # Behind the entry's name and its extra field (APPNOTE.TXT, section 4.3.7).
        names = int.from_bytes(data[start + 26 : start + 28], "little")
        extra = int.from_bytes(data[start + 28 : start + 30], "little")
        yield _inflated(data[start + 30 + names + extra :], -zlib.MAX_WBITS)


def _all(data: bytes, magic: bytes) -> Iterator[int]:
    start = data.find(magic)
    while start >= 0:
        yield start
        start = data.find(magic, start + 1)


def _inflated(data: bytes, wbits: int) -> bytes:
    """Return what deflate can make of this, as far as it goes."""
    stream, parts = zlib.decompressobj(wbits), []
    with contextlib.suppress(zlib.error):
        # A piece at a time: a read that fails gives nothing of what came before.
        for start in range(0, len(data), _PIECE):
            parts.append(stream.decompress(data[start : start + _PIECE]))
            if stream.eof:
                break
    return b"".join(parts)


def holds(data: bytes, needles: Iterable[bytes]) -> bool:
    """Say whether any structure of ``data`` has any needle in any encoding."""
    wanted = [code for needle in needles for code in encodings(needle) if len(code) >= _SHORTEST]
    return any(code in part for part in structures(data) for code in wanted)


def scan(log: Log, needles: Needles) -> Scan:
    """Search the log, the policies and the reports that its ledger names, and what links in them lead to."""
    root = log.layout.root
    n_files = n_bytes = n_structures = 0
    found, unread = [], []
    for path in places(log):
        outside = Path(os.path.relpath(path.parent.resolve() / path.name, root.resolve())).as_posix()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else outside
        data = b""
        try:
            if path.is_file():
                data = canonical.read_file(path)
                n_files, n_bytes = n_files + 1, n_bytes + len(data)
                n_structures += 1 + data.count(_ZSTD_MAGIC)
            # Where a link leads may be named after somebody too.
            spelt = name + (os.fsdecode(path.readlink()) if path.is_symlink() else "")
        except OSError:
            unread.append(name)
            continue
        allowed = name.startswith(("ledger/", "receipts/"))
        looked = (*needles.secret,) if allowed else (needles.pseudonym, *needles.secret)
        if holds(data, looked) or holds(os.fsencode(spelt), looked):
            found.append(name)
    return Scan(n_files, n_bytes, n_structures, tuple(found), needles.known, tuple(unread))


def places(log: Log) -> list[Path]:
    """Return every file, folder and link of the log, and of the policies and reports that its ledger names.

    A policy may have been copied by hand: the folders beside it that call themselves this log's count too.
    """
    policies = [found.folder for found in artefacts.current(log, ArtefactKind.POLICY)]
    beside = {manifest for folder in policies for manifest in folder.parent.glob("*/manifest.json")}
    copies = [manifest.parent for manifest in beside if log.log_id.encode() in _bytes_of(manifest)]
    found = {path for folder in (log.layout.root, *policies, *copies) for path in _below(folder)}
    for report in artefacts.current(log, ArtefactKind.REPORT):
        # Of a report's folder only the files that we wrote.
        found |= {report.folder / name for name in report.facts["files"]}
    return sorted(path for path in found if os.path.lexists(path))


def _bytes_of(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return canonical.read_file(path)
    return b""


def _below(folder: Path) -> Iterator[Path]:
    """Yield what is below a folder, through links too: each place once, and not the folders around it."""
    seen = {Path(os.path.realpath(folder))}
    around = set(seen.copy().pop().parents)
    for here, folders, files in os.walk(folder, followlinks=True):
        yield from (Path(here, name) for name in (*folders, *files))
        real = {name: Path(os.path.realpath(Path(here, name))) for name in folders}
        folders[:] = sorted(name for name in folders if real[name] not in seen | around)
        seen |= set(real.values())


def _frame(data: bytes, start: int) -> bytes:
    """Return what the zstd frame that begins at ``start`` holds, as far as it can be read."""
    parts = []
    end = _frame_end(data, start)
    # Without its end, byte by byte: a longer read would fail as a whole on what comes behind the frame.
    n_bytes = 1 if end is None else _BLOCK
    stream = pa.CompressedInputStream(pa.BufferReader(data[start:end]), "zstd")
    try:
        while chunk := stream.read(n_bytes):
            parts.append(chunk)
    except OSError:
        # Cut short, or the four magic bytes were a coincidence.
        pass
    return b"".join(parts)


def _frame_end(data: bytes, start: int) -> int | None:
    """Return where a zstd frame ends; None where it is not whole (RFC 8878, section 3.1.1)."""
    descriptor = data[start + 4] if len(data) > start + 4 else 0
    single = descriptor >> 5 & 1
    sizes = (single, 2, 4, 8)
    place = start + 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + sizes[descriptor >> 6]
    last = 0
    while not last:
        header = int.from_bytes(data[place : place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        place += 3 + (1 if kind == 1 else size)
        if kind == 3 or place > len(data):
            return None
    return place + 4 * (descriptor >> 2 & 1)
