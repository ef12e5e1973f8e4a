"""Make TensorFlow give one result: what must be set before it is imported, and checked afterwards.

Training in XLA on the CPU is bit-stable only while its instruction set, oneDNN's instruction set and the
number of threads are held (docs/learning.md says what was measured). All of them are read once, when
TensorFlow starts, so this file does not import it at the top: ``tensorflow()`` is the one way in.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlhf_audit.errors import RefusedError

_ISA_FLAG = "--xla_cpu_max_isa=AVX2"
_FIXED: Mapping[str, str] = {
    "XLA_FLAGS": _ISA_FLAG,
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
}
_QUIET: Mapping[str, str] = {"TF_CPP_MIN_LOG_LEVEL": "3"}
_CONFLICTING = (
    "TF_XLA_FLAGS",
    "TF_DISABLE_MKL",
    "MLIR_CRASH_REPRODUCER_DIRECTORY",
    "ONEDNN_CPU_ISA_HINTS",
    "DNNL_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)


def prepare() -> None:
    """Set what TensorFlow reads when it starts, over whatever the environment held.

    Flags that were preset are dropped, because any of them may change the arithmetic.

    Raises:
        RefusedError: TensorFlow was imported before; what it has read can't be changed any more.
    """
    if "tensorflow" in sys.modules and not _prepared():
        raise RefusedError(
            "TensorFlow was imported before rlhf_audit could fix its arithmetic",
            seen="tensorflow in sys.modules",
            needed="rlhf_audit.determinism.prepare() first",
            fix="call rlhf_audit.determinism.tensorflow() instead of importing tensorflow",
        )
    os.environ.update({**_FIXED, **_QUIET})
    for name in _CONFLICTING:
        os.environ.pop(name, None)
    _mark_prepared()


@lru_cache(maxsize=1)
def tensorflow() -> Any:
    """Import TensorFlow with the recipe in force and return the module.

    Raises:
        RefusedError: It was imported without the recipe, or does not keep to it.
    """
    prepare()
    with _silent_stderr():
        tf = importlib.import_module("tensorflow")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.experimental.enable_op_determinism()
    except RuntimeError as error:
        raise _not_held("TensorFlow has run already, with other threads") from error
    if _threads(tf) != (1, 1):
        raise _not_held(f"threads {_threads(tf)}")
    return tf


def recipe() -> dict[str, str]:
    """Return what a manifest records: the flags, and the versions that they were set for."""
    versions = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {**_FIXED, "op_determinism": "on", "jit_compile": "whole epoch", **versions}


def _threads(tf: Any) -> tuple[int, int]:
    threading = tf.config.threading
    return threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()


def _not_held(seen: str) -> RefusedError:
    return RefusedError(
        "TensorFlow does not keep to the recipe for one result",
        seen=seen,
        needed="one intra-op and one inter-op thread, op determinism",
        fix="call rlhf_audit.determinism.tensorflow() before any other use of TensorFlow",
    )


_state = {"prepared": False}


def _prepared() -> bool:
    return _state["prepared"]


def _mark_prepared() -> None:
    _state["prepared"] = True


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hide what TensorFlow's C++ writes while it loads: no log level reaches it. Exceptions still pass."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
