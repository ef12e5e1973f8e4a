"""Those that are compared, in the order of the table."""

from collections.abc import Sequence

from benchmarks.recorders.base import Bare, Recorder
from benchmarks.recorders.envlogger import EnvLogger
from benchmarks.recorders.minari import Minari
from benchmarks.recorders.ours import Ours

RECORDERS: Sequence[Recorder] = (
    Bare(),
    Ours(),
    Minari("hdf5", 20),
    Minari("arrow", 20),
    Minari("hdf5", 20, raw=True),
    Minari("arrow", 20, raw=True),
    EnvLogger(),
)
