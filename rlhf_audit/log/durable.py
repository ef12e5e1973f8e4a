"""Writes that are there after a power cut, and removals that leave nothing on the disk."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_BLOCK = 1 << 20
TEMPORARY_SUFFIX = ".tmp"


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents, durably."""
    missing = [folder, *folder.parents]
    for path in reversed([path for path in missing if not path.exists()]):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; on success sync it and rename it into place.

    On any failure the temporary file is gone and ``path`` is as it was.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` in one step: afterwards the old file or the new one is there."""
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)


def destroy(path: Path) -> None:
    """Overwrite a file, sync, and unlink it: what it held is no longer on this disk's blocks.

    A link is unlinked, never followed. A missing file is no error, so that it can be done again. What an
    interrupted write has left beside the file goes with it.
    """
    if not path.name.endswith(TEMPORARY_SUFFIX):
        destroy(path.with_name(path.name + TEMPORARY_SUFFIX))
    if path.is_symlink():
        path.unlink()
        return
    with contextlib.suppress(FileNotFoundError):
        with path.open("rb+") as stream:
            left = os.fstat(stream.fileno()).st_size
            while left > 0:
                left -= stream.write(os.urandom(min(_BLOCK, left)))
            stream.flush()
            os.fsync(stream.fileno())
        path.unlink()
        sync_folder(path.parent)


def destroy_tree(folder: Path) -> int:
    """Destroy every file below ``folder`` and the folder itself; return how many files there were."""
    if folder.is_symlink() or folder.is_file():
        destroy(folder)
        return 1
    if not folder.exists():
        return 0
    count = sum(destroy_tree(path) for path in sorted(folder.iterdir()))
    folder.rmdir()
    sync_folder(folder.parent)
    return count


def rewrite(path: Path, change: Callable[[Path, Path], None]) -> None:
    """Replace a file whose old bytes must not stay on the disk; may be done again after a crash.

    Args:
        path: Which. When ``change`` fails, it is as it was.
        change: Reads the file named first and writes the one named second.
    """
    old = path.with_name(f".{path.name}.old")
    if path.exists() and old.exists():
        # A crash came after the new file was in place, perhaps in the middle of overwriting this one.
        destroy(old)
        return
    if path.exists():
        path.rename(old)
        sync_folder(path.parent)
    try:
        with replacing(path) as temporary:
            change(old, temporary)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
    destroy(old)
