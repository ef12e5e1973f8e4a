"""One log as a handle: its header, its ledger, its lock, and the clock and entropy that writes use."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock, Timeout

from rlhf_audit import __version__, canonical
from rlhf_audit.clock import Clock, SystemClock, to_text
from rlhf_audit.errors import DamagedError, LockedError, LogError, UsageError
from rlhf_audit.log import checkpoint, durable, ledger
from rlhf_audit.log.layout import Layout
from rlhf_audit.schema import FORMAT_VERSION
from rlhf_audit.seeds import Entropy, SystemEntropy

# Written after a report that an erasure made again, and saying nothing that the report shows.
_AFTERMATH = ("report", "report-removed", "erasure-done", "receipt")
_RECORDED_VERSIONS = ("gymnasium", "numpy", "pyarrow")


class Log:
    """An open log. Reading needs no lock; every write happens inside ``writing()``.

    Args:
        root: The log's folder.
        clock: Where times come from.
        entropy: Where pseudonyms, keys and codes come from.
        signing_key: Overrides the operator's key on this machine.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        signing_key: Ed25519PrivateKey | None = None,
    ) -> None:
        self.layout = Layout(root)
        self.clock = clock or SystemClock()
        self.entropy = entropy or SystemEntropy()
        self._signing_key = signing_key
        self._held = False
        self.header = _read_header(self.layout)
        self.log_id: str = self.header["log_id"]
        self.public_key = bytes.fromhex(self.header["public_key"])
        self.ledger = ledger.Ledger(self.layout, f"rlhf_audit/{self.log_id}", self.public_key)
        self.ledger.load()

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """The private key for this log.

        Raises:
            DamagedError: It is not on this machine, or is another log's.
        """
        key = self._signing_key or checkpoint.load_signing_key(create=False)
        if key.public_key().public_bytes_raw() != self.public_key:
            raise DamagedError(
                "the signing key on this machine is not this log's",
                needed="the key that made the log",
                fix=f"{checkpoint.SIGNING_KEY_VARIABLE}=PATH rlhf-audit …",
            )
        self._signing_key = key
        return key

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the log's writer lock; finish what a crash left in the ledger.

        Raises:
            LockedError: Another process holds it.
            DamagedError: The signing key is not here, so that nothing could be entered in the ledger.
        """
        if self._held:
            yield
            return
        _ = self.signing_key
        lock = FileLock(self.layout.lock, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise LockedError(
                "another process is writing to this log",
                seen="its lock is held",
                needed="one writer at a time",
                fix="wait until the other rlhf-audit has ended, then run this again",
            ) from error
        self._held = True
        try:
            _make_folders(self.layout)
            self.ledger.recover()
            self.ledger.load()
            yield
        finally:
            self._held = False
            lock.release()

    def append(self, event: str, body: Mapping[str, Any]) -> ledger.Entry:
        """Append one entry to the ledger, durably."""
        return self.ledger.append(self.signing_key, self.clock, [(event, body)])[0]

    def data_head(self) -> ledger.Head:
        """Return the head as of the last entry that changes data: no report changes its own subject."""
        size = max((e.seq + 1 for e in self.ledger.entries if e.event not in _AFTERMATH), default=0)
        return self.ledger.head_at(size)


def create(
    root: Path,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    signing_key: Ed25519PrivateKey | None = None,
) -> Log:
    """Create a log in an empty or missing folder.

    Raises:
        UsageError: The folder holds something.
    """
    layout = Layout(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(
            f"{root} is not empty",
            needed="a new or empty folder",
            fix="rlhf-audit init ANOTHER-FOLDER",
        )
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    key = signing_key or checkpoint.load_signing_key(create=True)
    log_id = entropy.token(8).hex()
    header = {
        "format_version": FORMAT_VERSION,
        "log_id": log_id,
        "created_at": to_text(clock.now()),
        "public_key": key.public_key().public_bytes_raw().hex(),
        "versions": {"rlhf_audit": __version__}
        | {name: metadata.version(name) for name in _RECORDED_VERSIONS},
    }
    raw = canonical.json_bytes(header) + b"\n"
    _make_folders(layout)
    origin = f"rlhf_audit/{log_id}"
    ledger.create(layout, origin, key)
    entries = ledger.Ledger(layout, origin, key.public_key().public_bytes_raw())
    entries.append(key, clock, [("created", {"log_sha256": canonical.sha256_hex(raw)})])
    # Last: where there is a header there is a whole log.
    durable.write(layout.header, raw)
    return Log(root, clock, entropy, key)


def _make_folders(layout: Layout) -> None:
    """Make the folders that are not there: git, for one, keeps no empty ones."""
    for folder in layout.folders:
        if not folder.is_dir():
            durable.make_folder(folder)
            if folder in (layout.keys, layout.journal):
                folder.chmod(0o700)


def _read_header(layout: Layout) -> dict[str, Any]:
    try:
        raw = layout.header.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise LogError(
            "there is no log here",
            seen=f"no log.json in {os.fspath(layout.root)!r}",
            needed="a folder made by init",
            fix="rlhf-audit init LOG",
        ) from error
    try:
        header: dict[str, Any] = json.loads(raw)
        version = header["format_version"]
        if version == FORMAT_VERSION and canonical.json_bytes(header) + b"\n" == raw:
            bytes.fromhex(header["public_key"]), str(header["log_id"])
            return header
    except (ValueError, KeyError, TypeError) as error:
        raise LogError("log.json can't be read", needed="the file as init wrote it") from error
    if version == FORMAT_VERSION:
        raise LogError("log.json is not as init wrote it")
    raise LogError(
        "this log is of another format",
        seen=f"log.json says format {ascii(version)[:40]}",
        needed=f"format {FORMAT_VERSION}",
        fix="install the rlhf-audit that wrote it, or a newer one",
    )
