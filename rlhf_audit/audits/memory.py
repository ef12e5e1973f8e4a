"""What is done about memory while audits run."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

import pyarrow as pa


def give_back() -> None:
    """Return to the system what numpy and Arrow have freed: else DuckDB's comes on top of it."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        # Only glibc has it.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no cycles meanwhile: rows by the ten thousand are in none, and looking takes a second."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
