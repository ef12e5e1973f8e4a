"""A log that lies elsewhere, as in a bucket: read and audited there, never changed, never copied to a disk.

The ledger is read and its signature checked as ever. Sealed files are datasets of pyarrow's under the names
that the views read, so that DuckDB asks for the columns and rows that it needs and has no access of its own.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from rlhf_audit import schema
from rlhf_audit.clock import Clock
from rlhf_audit.errors import DamagedError, LogError, UsageError
from rlhf_audit.log import reader, remote_files, viewed
from rlhf_audit.log.layout import SEALED, Layout
from rlhf_audit.log.remote_files import RemotePath
from rlhf_audit.log.store import Log

_AT_ONCE = 16
"""Files whose footers are asked for at the same time: each answer is a round trip away."""
_BY_RATER = ds.partitioning(pa.schema([("rater_id", pa.string())]), flavor="hive")
_MENDING = "rlhf-audit verify LOG where it was recorded, then copy it again"


class RemoteLayout(Layout):
    """The paths of a log behind a URI: what is typed ``Path`` are ``RemotePath`` values."""

    def for_arrow(self, path: Path) -> Any:
        return path.open("rb")

    def recorded_folder(self, path: str) -> Path:
        return self.root / path


class RemoteLog(Log):
    """A log that is only read.

    Args:
        root: Where.
        clock: Where times come from.

    Raises:
        LogError: There is none, it is of another format, or the store can't be read.
        LedgerError: The ledger is not what its checkpoint signs.
    """

    def __init__(self, root: RemotePath, clock: Clock | None = None) -> None:
        super().__init__(cast(Path, root), clock)

    def _layout_of(self, root: Path) -> Layout:
        return RemoteLayout(root)

    def refreshed(self) -> bool:
        """Return False: a copy is read as it was when it was opened."""
        return False

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Refuse.

        Raises:
            UsageError: Always.
        """
        raise read_only()
        yield

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Refuse, as ``writing`` does."""
        raise read_only()
        yield

    @property
    def has_keys(self) -> bool:
        """Whether raters' keys were copied with it; they are not read."""
        return self.layout.keys.is_dir()


def read_only() -> UsageError:
    """Return the error for whatever else is wanted of a remote log."""
    return UsageError(
        "a remote log can be audited, not changed",
        seen="a URI, and another verb than audit",
        needed="the log's folder on this machine",
        fix="run this where the log was recorded",
    )


def open_log(uri: str, clock: Clock | None = None) -> RemoteLog:
    """Open the log behind a URI.

    Raises:
        UsageError: No such URI can be read, or what raters gave is encrypted.
        LogError: There is no log, or the store can't be read.
        LedgerError: The ledger is not what its checkpoint signs.
    """
    root = remote_files.find(uri)
    with telling():
        try:
            (root / "log.json").stat()
        except FileNotFoundError as error:
            raise LogError(
                f"there is no log at {root}",
                seen="no log.json there, or no such bucket",
                needed="a copy of a whole log, but for its keys",
                fix="look at the bucket's and the prefix's name",
            ) from error
        log = RemoteLog(root, clock)
    if log.is_sealed:
        raise UsageError(
            "a sealed log can't be read from elsewhere",
            seen="answers encrypted under raters' keys, which never leave their machine",
            needed="the log's folder on this machine",
            fix="run this where the log was recorded",
        )
    return log


def register(
    connection: duckdb.DuckDBPyConnection, log: RemoteLog, files: viewed.Files
) -> Mapping[viewed.Kind, str]:
    """Make the sealed files known to DuckDB; returns the names by kind.

    Nothing but the first file's footer, and those of the files of answers, is read by that.

    Raises:
        LogError: A file can't be read.
    """
    named = {}
    for number, (kind, paths) in enumerate(files.items()):
        named[kind] = f"remote_files_{number}"
        try:
            connection.register(named[kind], _dataset(log, kind, cast(Sequence[RemotePath], paths)))
        except (pa.ArrowException, OSError) as error:
            raise damaged(log) or remote_files.told(error, str(log.layout.root)) from error
    return named


def _dataset(log: RemoteLog, kind: viewed.Kind, paths: Sequence[RemotePath]) -> ds.Dataset:
    answers = kind.view == "feedback_rows"
    system = paths[0].place.filesystem
    partitioning = _BY_RATER if answers else None
    found = ds.dataset(
        [one.key for one in paths], format="parquet", filesystem=system, partitioning=partitioning
    )
    if answers:
        # pyarrow fills a column that a file lacks with nulls; here that is damage, as it is locally.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            names = pool.map(lambda one: one.physical_schema.names, found.get_fragments())
            if any(one != schema.FEEDBACK.names for one in names):
                raise damaged(log) or LogError("a file of answers has other columns", fix=_MENDING)
    return found


def damaged(log: Log) -> LogError | None:
    """Return what is wrong with the first sealed file that can't be read, or None: for when a query failed.

    Reads every file.
    """
    for paths in viewed.files(log).values():
        for path in paths:
            match = SEALED.search(str(path))
            try:
                reader.check_file(log.layout, match[0] if match else path.name)
            except LogError as error:
                return error
    return None


@contextlib.contextmanager
def telling(log: Log | None = None) -> Iterator[None]:
    """Tell of what fails while a remote log is read in words, and with a remedy, that fit one.

    Raises:
        DamagedError: A file, the ledger or the store can't be read.
    """
    try:
        yield
    except DamagedError as error:
        error.fix = _MENDING if not error.fix or "verify" in error.fix else error.fix
        raise
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.DataError) as error:
        found = damaged(log) if log is not None else None
        if found is not None:
            found.fix = _MENDING if "verify" in found.fix else found.fix
            raise found from error
        # Not DuckDB's text: it may name the endpoint.
        raise LogError(
            "the remote log can't be read to its end",
            seen="a failure while rows were read",
            needed="a store that answers until the audits have ended",
            fix="run this again",
        ) from error
