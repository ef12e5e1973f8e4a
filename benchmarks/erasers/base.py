"""What an eraser is measured by, whoever it is."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from rlhf_audit.withdrawal import residue

Names = Mapping[str, tuple[int, int, str]]
"""Inode, time of change in nanoseconds and SHA-256 of every file, by name."""


class Store(Protocol):
    """Rows of many raters on the disk, from which one can be erased."""

    def erase(self, rater_id: str) -> None:
        """Take a rater's rows out, durably, as this store means it."""


class Eraser(Protocol):
    """A kind of store."""

    name: str

    def absent(self) -> str | None:
        """Return what is missing here, or None."""

    def fill(self, folder: Path, parts: Iterable[tuple[str, pa.Table]]) -> Store:
        """Write the rows, which come with their raters in the order in which they were given."""


def names(folder: Path) -> Names:
    """Return every file below a folder, as it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = (status.st_ino, status.st_mtime_ns, digest)
    return found


def rewritten(folder: Path, before: Names, after: Names, own: Sequence[str]) -> int:
    """Return the bytes in files that were changed or made, but for those that hold nobody's rows.

    Args:
        folder: Where they are.
        before: All files.
        after: All files.
        own: Beginnings of the names of files that hold no rows: the store's own notes.
    """
    touched = [name for name, facts in after.items() if before.get(name) != facts]
    return sum((folder / name).stat().st_size for name in touched if not name.startswith(tuple(own)))


def still_found(folder: Path, rater_id: str) -> list[str]:
    """Return the files that still hold a rater's pseudonym, in any structure, or are named after them."""
    needle = [rater_id.encode()]
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        data = path.read_bytes() if path.is_file() else b""
        if residue.holds(name.encode(), needle) or residue.holds(data, needle):
            found.append(name)
    return found
