"""Memory that numpy and Arrow have freed, but keep for themselves."""

import ctypes
import sys

import pyarrow as pa


def give_back() -> None:
    """Return it to the system: else what DuckDB takes next comes on top of it."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        # Only glibc has it.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
