"""Writes that are there after a power cut, and removals that leave nothing on the disk."""

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_BLOCK = 1 << 20
_PAGE = 4096
TEMPORARY_SUFFIX = ".tmp"
_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_SYNC = 4
_AT_ONCE = 8
ERASING = ".erasing"
"""The end of a name that something bears only while it is destroyed."""


class NoFileError(OSError):
    """A folder, a pipe or a device is in the place of a file; ``strerror`` says which."""


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_range(descriptor: int, memory: mmap.mmap, start: int, stop: int) -> None:
    """Bring some bytes of a mapped file to the disk; ``start`` is a multiple of a page.

    Args:
        descriptor: Of the file.
        memory: All of it, mapped.
        start: First byte.
        stop: Behind the last.

    Raises:
        OSError: The disk refused.
    """
    del descriptor
    # Not by ``memory.flush``: that keeps every other thread waiting.
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory, start))
    if _LIBC.msync(ctypes.c_void_p(address), ctypes.c_size_t(stop - start), _MS_SYNC):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents, durably."""
    missing = [folder, *folder.parents]
    for path in reversed([path for path in missing if not path.exists()]):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of these folders, the innermost first, that are there and hold nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
            sync_folder(folder.parent)


def check_writable(folder: Path) -> None:
    """Refuse a place where no file can be made; to be asked before work that it would waste.

    Raises:
        OSError: The operating system says no: read-only, no permission, a name too long.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with contextlib.suppress(FileNotFoundError):
        folder.lstat()
    with tempfile.TemporaryFile(dir=there):
        pass


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


def unlink(paths: Iterable[Path]) -> None:
    """Unlink those of these files that are there, and sync each folder once."""
    folders = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            folders.add(path.parent)
    for folder in sorted(folders):
        sync_folder(folder)


def destroy(path: Path, shared: bool = True, sync: bool = True) -> None:
    """Overwrite a file, sync, and unlink it: what it held is no longer on this disk's blocks.

    A link is unlinked, never followed. A missing file is no error, so that it can be done again. What an
    interrupted write has left beside the file goes with it.

    Args:
        path: Which.
        shared: Overwrite a file that has other names too, which then hold nothing either; otherwise such a
            file is left to its other names, and only this one goes.
        sync: Bring to the disk that the name is gone, too; otherwise the caller does that.

    Raises:
        NoFileError: A folder, a pipe or a device is there; it is not opened.
        OSError: The operating system refused.
    """
    try:
        _destroy_one(path, shared, sync)
    finally:
        if not path.name.endswith(TEMPORARY_SUFFIX):
            _destroy_one(path.with_name(path.name + TEMPORARY_SUFFIX), shared, sync)


def _destroy_one(path: Path, shared: bool, sync: bool) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = path.lstat()
        problem = no_file(status.st_mode)
        if problem is not None and not stat.S_ISLNK(status.st_mode):
            raise NoFileError(errno.EISDIR, problem, os.fspath(path))
        if problem is None and (shared or status.st_nlink == 1):
            _overwrite(path)
        path.unlink()
        if sync:
            sync_folder(path.parent)


def no_file(mode: int) -> str | None:
    """Return what stands in place of a file with this ``st_mode``; None for a file."""
    if stat.S_ISREG(mode):
        return None
    kinds = ((stat.S_ISDIR, "is a folder"), (stat.S_ISLNK, "is a link"), (stat.S_ISFIFO, "is a pipe"))
    return next((words for is_it, words in kinds if is_it(mode)), "is not a file")


def _overwrite(path: Path) -> None:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        path.chmod(0o600)
        descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb+") as stream:
        left = os.fstat(stream.fileno()).st_size
        # A page again and again: what was there is gone all the same, and noise takes longer than the disk.
        noise = memoryview(os.urandom(_PAGE) * -(-min(_BLOCK, left) // _PAGE))
        while left > 0:
            left -= stream.write(noise[:left])
        stream.flush()
        # Its size and its blocks stay what they were: there is no more to bring to the disk than the bytes.
        os.fdatasync(stream.fileno())


def destroy_marked(path: Path, shared: bool = True) -> None:
    """Destroy a file that was just checked to be the one that must go; ``shared`` as in ``destroy``.

    It is renamed first: after a crash in the middle its bytes could not be checked again.

    Raises:
        OSError: The operating system refused.
    """
    finish_marked(path)
    marked = _marked(path)
    path.rename(marked)
    sync_folder(path.parent)
    destroy(marked, shared)


def finish_marked(path: Path) -> None:
    """Finish what a crash left of ``destroy_marked``."""
    if os.path.lexists(_marked(path)):
        destroy(_marked(path))


def _marked(path: Path) -> Path:
    return path.with_name(f".{path.name}{ERASING}")


def destroy_tree(folder: Path, obstacles: list[OSError] | None = None) -> int:
    """Destroy every file below ``folder`` and the folder itself; return how many files there were.

    Args:
        folder: Which; one that is not there is no error.
        obstacles: Takes each refusal. What else there is, is destroyed all the same.

    Raises:
        OSError: The first refusal, when there is no list for it.
    """
    refused: list[OSError] = []
    count = _destroy_below(folder, refused, folder)
    if obstacles is not None:
        obstacles += refused
    elif refused:
        raise refused[0]
    return count


def _destroy_below(folder: Path, refused: list[OSError], top: Path) -> int:
    count, before = 0, len(refused)
    try:
        if folder.is_symlink() or not folder.is_dir():
            there = os.path.lexists(folder)
            # A name that comes back after a power cut names nothing but noise; the folder is synced below.
            destroy(folder, sync=folder == top)
            return int(there)
        below = sorted(folder.iterdir())
        folders = [path for path in below if path.is_dir() and not path.is_symlink()]
        count = sum(_destroy_below(path, refused, top) for path in folders)
        # A disk brings many small files to rest in the time of one, if it is asked for them together.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            files = [path for path in below if path not in folders]
            outcomes = list(pool.map(_refusal, files))
        count += len(files)
        refused += [error for error in outcomes if error is not None]
        sync_folder(folder)
        if len(refused) == before:
            folder.rmdir()
            sync_folder(folder.parent)
    except OSError as error:
        refused.append(error)
    return count


def _refusal(path: Path) -> OSError | None:
    """Destroy a file whose folder is synced afterwards; return what stood in the way."""
    try:
        destroy(path, sync=False)
    except OSError as error:
        return error
    return None


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
