"""One log as a handle: its header, its ledger, its lock, and the clock and entropy that writes use."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock, Timeout

from rlhf_audit.clock import Clock, SystemClock
from rlhf_audit.errors import DamagedError, LockedError
from rlhf_audit.log import checkpoint, durable, founding, header, ledger, placing, swapping
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.whereabouts import MERGED, MOVING, Whereabouts
from rlhf_audit.seeds import Entropy, SystemEntropy

# Written after a report that an erasure made again, or about files alone: saying nothing that a report shows.
_AFTERMATH = (
    "report",
    "report-removed",
    "erasure-done",
    "receipt",
    "code-tried",
    "code-accepted",
    "copy",
    MERGED,
)


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
        self.layout = self._layout_of(root)
        self.clock = clock or SystemClock()
        self.entropy = entropy or SystemEntropy()
        self._signing_key = signing_key
        self._held = False
        self.header = header.read(self.layout)
        self.log_id: str = self.header["log_id"]
        first_key = bytes.fromhex(self.header["public_key"])
        self.ledger = ledger.Ledger(self.layout, f"rlhf_audit/{self.log_id}", first_key)
        self.ledger.load()
        self._folded: tuple[Sequence[ledger.Entry], Whereabouts] | None = None

    def _layout_of(self, root: Path) -> Layout:
        return Layout(root)

    @property
    def is_sealed(self) -> bool:
        """Whether what raters give is encrypted under their keys."""
        return bool(self.header.get("sealed"))

    @property
    def public_key(self) -> bytes:
        """The key that signs now, 32 bytes: the header's, or the last that the ledger names."""
        return self.ledger.public_key

    @property
    def whereabouts(self) -> Whereabouts:
        """Where the rows of each session are, by the ledger as it was read last."""
        entries = self.ledger.entries
        # Reading the ledger makes a new list.
        if self._folded is None or self._folded[0] is not entries:
            self._folded = entries, self._unmoved(entries) or Whereabouts(entries)
        return self._folded[1]

    def _unmoved(self, entries: Sequence[ledger.Entry]) -> Whereabouts | None:
        """Return what is known of the rows' places, if the entries since then say nothing of it."""
        if self._folded is None:
            return None
        before, where = self._folded
        n = len(before)
        # An entry that is still there is the same one, and so are all before it.
        went_on = n <= len(entries) and (n == 0 or before[-1] is entries[n - 1])
        moved = not went_on or any(entry.event in MOVING for entry in entries[n:])
        return None if moved else where

    def refreshed(self) -> bool:
        """Read the ledger again if another process has appended to it; say whether it had.

        For readers, who take no lock: a file that is gone may have been merged into another.
        """
        if self._held or not self.ledger.changed_on_disk():
            return False
        size = len(self.ledger.entries)
        self.ledger.load()
        return len(self.ledger.entries) != size

    @property
    def is_held(self) -> bool:
        """Whether this handle holds the writer's lock."""
        return self._held

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """The private key for this log.

        Raises:
            DamagedError: It is not on this machine, or is another log's.
        """
        key = self._signing_key
        if key is None or key.public_key().public_bytes_raw() != self.public_key:
            # What was given, or read, may since have been replaced by another.
            key = checkpoint.signing_key_of(self.public_key)
        self._signing_key = key
        return key

    @signing_key.setter
    def signing_key(self, key: Ed25519PrivateKey) -> None:
        self._signing_key = key

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
        with self.holding():
            # Another process may have changed it since this handle read the ledger.
            _ = self.signing_key
            yield

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the writer lock as ``writing`` does, whether or not the signing key is here.

        Raises:
            LockedError: Another process holds it.
        """
        with _locked(self.layout):
            self._held = True
            try:
                founding.make_folders(self.layout)
                self.ledger.recover()
                self.ledger.load()
                self._resolve()
                yield
            finally:
                self._held = False

    def append(self, event: str, body: Mapping[str, Any]) -> ledger.Entry:
        """Append one entry to the ledger, durably."""
        return self.ledger.append(self.signing_key, self.clock, [(event, body)])[0]

    def place(
        self, folder: Path, files: Mapping[str, bytes], event: str, facts: Mapping[str, Any]
    ) -> Mapping[str, str]:
        """Put files in place together with the entry that names them: both, or neither, whatever happens.

        The same files in the same place are entered once.

        Args:
            folder: Where to; made when it is not there. What else it holds is left alone.
            files: Name and content; a name may lead into folders below.
            event: The entry's.
            facts: Its body, to which ``path`` and ``files`` (name to SHA-256) are added.

        Returns:
            Each file's SHA-256.

        Raises:
            UsageError: Something else is in the place of a file.
            OSError: The disk refused. Either nothing is changed, or, where the entry had been made by then,
                the next opening of the log puts the files in place.
        """
        with self.writing():
            # There is one intent at a time: what the disk refused a moment ago comes first.
            self._resolve()
            intent = placing.intend(self.layout, self.log_id, folder, files, event)
            with self._settled():
                placing.begin(self.layout, self.signing_key, intent)
                placing.stage(folder, files)
                if not intent.entered(self.ledger.entries):
                    self.append(event, {**facts, "path": intent.path, "files": intent.files})
        return intent.files

    def swap(self, intent: swapping.Intent, make: Callable[[], Mapping[str, Any]]) -> None:
        """Put merged files in the place of others together with the entry that says so: both, or neither.

        Args:
            intent: Which.
            make: Writes the new files; returns the body of the entry.

        Raises:
            OSError: The disk refused. Either nothing is changed, or, where the entry had been made by then,
                the next opening of the log removes the old files.
        """
        with self.writing():
            self._resolve()
            with self._settled():
                swapping.begin(self.layout, self.signing_key, intent)
                self.append(MERGED, make())

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """Carry an intent out at the end, forwards or backwards, as the ledger then says."""
        try:
            yield
        except BaseException:
            # What can't be done now is done at the next opening.
            with contextlib.suppress(OSError, DamagedError):
                self.ledger.load()
                self._resolve()
            raise
        self._resolve()

    def _resolve(self) -> None:
        for intents in (placing, swapping):
            intents.resolve(self.layout, self.log_id, self.public_key, self.ledger.entries)

    def data_head(self) -> ledger.Head:
        """Return the head as of the last entry that changes data: no report changes its own subject."""
        size = max((e.seq + 1 for e in self.ledger.entries if e.event not in _AFTERMATH), default=0)
        return self.ledger.head_at(size)


def create(
    root: Path,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    signing_key: Ed25519PrivateKey | None = None,
    terms: bytes | None = None,
    *,
    sealed: bool = False,
) -> Log:
    """Create a log in an empty or missing folder; one that fails leaves nothing and may be tried again.

    Args:
        root: The folder.
        clock: Where times come from.
        entropy: Where pseudonyms, keys and codes come from.
        signing_key: Overrides the operator's key on this machine.
        terms: The text that raters agree to, UTF-8; may also be added later.
        sealed: Encrypt what raters give under their keys.

    Raises:
        UsageError: The folder holds something, or lies inside a log.
    """
    layout = Layout(root)
    founding.check_vacant(layout)
    key = signing_key or checkpoint.load_signing_key(create=True)
    missing = [path for path in (root, *root.parents) if not path.exists()]
    try:
        durable.make_folder(root)
        with _locked(layout):
            # Again: another process may have made it a log by now.
            founding.check_vacant(layout)
            try:
                founding.clear(layout)
                facts = {"sealed": True} if sealed else {}
                founding.fill(layout, clock or SystemClock(), entropy or SystemEntropy(), key, terms, facts)
            except BaseException:
                with contextlib.suppress(OSError):
                    founding.clear(layout)
                    layout.lock.unlink(missing_ok=True)
                raise
    except BaseException:
        durable.remove_empty(missing)
        raise
    return Log(root, clock, entropy, key)


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    lock = FileLock(layout.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            "another process is writing to this log",
            seen="its lock is held",
            needed="one writer at a time",
            fix="wait until the other rlhf-audit has ended, then run this again",
        ) from error
    try:
        yield
    finally:
        lock.release()
