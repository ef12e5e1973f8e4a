"""Faults in the calls that a process makes to the operating system: the handle of ``interpose.c``.

A process is started with the library before libc (``environment``); children that it forks arm it for one
folder, and are struck at the n-th call that may change what is there, whoever makes it.
"""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_SOURCE = Path(__file__).with_name("interpose.c")
_FOREVER = 1 << 62


class How(IntEnum):
    """What becomes of a call; the numbers are those of ``interpose.c``."""

    COUNT = 0
    KILL = 1
    TEAR = 2
    FAIL = 3
    SHORT = 4


@dataclass(frozen=True)
class Fault:
    """What strikes.

    Attributes:
        how: ``TEAR`` does half of a write and kills, ``SHORT`` half of it, and fails what comes next.
        error: An errno.
        calls: How many calls from the n-th on are struck.
    """

    how: How
    error: int = 0
    calls: int = 1

    @property
    def of_writes(self) -> bool:
        """Whether it strikes nothing but writes."""
        return self.how in (How.TEAR, How.SHORT)


FAULTS: Mapping[str, Fault] = {
    "SIGKILL": Fault(How.KILL),
    "SIGKILL torn": Fault(How.TEAR),
    "EIO": Fault(How.FAIL, errno.EIO),
    "ENOSPC": Fault(How.FAIL, errno.ENOSPC),
    "ENOSPC short": Fault(How.SHORT, errno.ENOSPC, 2),
    "EROFS": Fault(How.FAIL, errno.EROFS),
    "EIO twice": Fault(How.FAIL, errno.EIO, 2),
    "ENOSPC lasting": Fault(How.FAIL, errno.ENOSPC, _FOREVER),
    "EROFS lasting": Fault(How.FAIL, errno.EROFS, _FOREVER),
}
"""The names say the rest: ``lasting`` is from the n-th call to the end of the process."""
SINGLE = ("SIGKILL", "EIO", "ENOSPC", "EROFS")
"""What the n-th call meets alone, at every n."""


class _Told(ctypes.Structure):
    _fields_ = (("calls", ctypes.c_long), ("struck", ctypes.c_long), ("what", ctypes.c_char * 256))


class Interposer:
    """Arms this process; what it tells is there in the process that made this, too."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        # Shared with every child that is forked off.
        self._memory = mmap.mmap(-1, ctypes.sizeof(_Told))
        self._told = _Told.from_buffer(self._memory)

    def clear(self) -> None:
        """Begin to count anew."""
        self._told.calls = self._told.struck = 0
        self._told.what = b""

    def arm(
        self,
        home: Path,
        fault: Fault = Fault(How.COUNT),
        at: int = 0,
        trace: Path | None = None,
        shadow: Path | None = None,
    ) -> None:
        """Count the calls below ``home`` from now on, and strike the ``at``-th.

        Args:
            home: An absolute path without links.
            fault: What becomes of it.
            at: From 1.
            trace: Where each call is named, a line each.
            shadow: A folder for what a power cut would leave; see ``cut_disk``.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        tracing = -1 if trace is None else os.open(trace, flags)
        names = -1 if shadow is None else os.open(shadow / "names", flags)
        arm = self._library.faults_arm
        arm.argtypes = (
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_long,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
        )
        arm(
            os.fsencode(home),
            int(fault.how),
            at,
            at + fault.calls - 1,
            fault.error,
            ctypes.addressof(self._told),
            tracing,
            b"" if shadow is None else os.fsencode(shadow),
            names,
        )

    def disarm(self) -> None:
        """Count and strike no more."""
        self._library.faults_disarm()

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return int(self._told.calls)

    @property
    def struck(self) -> int:
        """How many of them were struck."""
        return int(self._told.struck)

    @property
    def what(self) -> str:
        """The first that was struck: the call, and the path below the folder."""
        return os.fsdecode(self._told.what)


def compiler() -> str | None:
    """Return the C compiler of this machine."""
    named = (sysconfig.get_config_var("CC") or "").split(" ")[0]
    return next(
        (found for name in ("cc", "gcc", named, "clang") if name and (found := shutil.which(name))), None
    )


def environment(work: Path) -> dict[str, str]:
    """Compile the library into ``work``; return the environment of a process that it stands before."""
    built = work / "interpose.so"
    cc = compiler()
    if cc is None or not sys.platform.startswith("linux"):
        raise RuntimeError("faults are put in by a small C library under Linux: install gcc")
    subprocess.run([cc, "-O2", "-shared", "-fPIC", "-o", built, _SOURCE, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(built)}
