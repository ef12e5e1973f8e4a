"""Many small sealed files merged into few: per rater and per environment, the ledger following.

Determinism:
    The same log compacts to the same bytes: which files go together, and in what order, follows from the
    ledger and from their sizes alone.

Personal data:
    Answers stay in their rater's folder, and what a rater taught a live policy stays apart from everybody
    else's steps, so that an erasure touches nobody else's files. Nothing of a rater whose erasure has begun
    is touched.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import canonical
from rlhf_audit.log import answers, durable, keys, sealed, sealing, swapping
from rlhf_audit.log.layout import EPISODES, STEPS, merged_name, merged_number
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import SealedFile, Slice

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many files of it are, and of how many."""

# Who reads one session reads the row groups that hold any of it, and the footer that lists them all.
# In larger groups that cost twice as much as a file of its own, in these some per cent. DuckDB minds neither.
_GROUP_ROWS = 1 << 12
_GROUP_BYTES = 1 << 18
_MOST_ROWS = 64 * _GROUP_ROWS
# The most that is on the disk twice for one file, and that erasing a teacher has to write again.
_MOST_BYTES = 64 << 20
# How much is entered at once: what an interrupt can undo, and the length of a line in the ledger.
_BATCH_BYTES = 4 * _MOST_BYTES
_BATCH_FILES = 1 << 13


@dataclass(frozen=True)
class Merge:
    """One file that is to be made.

    Attributes:
        path: Its name; never used before.
        sources: Whose rows it will hold, in this order.
        telling: Answers are in it, or show in it.
        n_bytes: Of the sources.
    """

    path: str
    sources: tuple[SealedFile, ...]
    telling: bool
    n_bytes: int


@dataclass
class _Run:
    """Files that follow on and go together."""

    files: list[SealedFile] = field(default_factory=list)
    n_rows: int = 0
    n_bytes: int = 0

    def takes(self, file: SealedFile, n_bytes: int) -> bool:
        """Add a file, if there is room for it; say whether there was."""
        fits = self.n_rows + file.rows <= _MOST_ROWS and self.n_bytes + n_bytes <= _MOST_BYTES
        if fits:
            self.files.append(file)
            self.n_rows, self.n_bytes = self.n_rows + file.rows, self.n_bytes + n_bytes
        return fits


@dataclass(frozen=True)
class Compacted:
    """What a compaction did.

    Attributes:
        files_before: Sealed files of the log.
        bytes_before: Of them all.
        files: Path, rows, bytes and number of files merged, of each file that was made.
        apart: How many were left since they are links or have several names.
    """

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    apart: int
    files: tuple[Mapping[str, Any], ...]


class _Counting:
    """Adds up how many files are done."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self._what, self._total, self._progress, self._done = what, total, progress, 0

    def __call__(self, more: int) -> None:
        self._done += more
        self._progress(self._what, self._done, self._total)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


def compact(log: Log, progress: Progress = _silent) -> Compacted:
    """Merge what is small, and enter it in the ledger, a batch at a time: what was entered stays so.

    Raises:
        LogError: A file that would be merged is damaged or missing, or a rater's key is, or something else is
            in a merged file's place; nothing is changed then.
        LockedError: Another process is writing.
        OSError: The disk refused; the log is as it was before the batch, or as it is to be after it.
    """
    with log.writing():
        before = _sizes(log)
        merges = plan(log)
        total = sum(len(merge.sources) for merge in merges)
        _check(log, merges, _Counting("checking", total, progress))
        made: list[SealedFile] = []
        merging = _Counting("merging", total, progress)
        for batch in _batches(merges):
            made += _swap(log, batch, merging)
        after = _sizes(log)
        apart = sum(map(_is_apart, (log.layout.root / path for path in after)))
    listed = [
        {"path": file.path, "rows": file.rows, "bytes": after[file.path], "merged": len(merge.sources)}
        for file, merge in zip(made, merges, strict=True)
    ]
    sizes = sum(before.values()), sum(after.values())
    return Compacted(len(before), len(after), *sizes, apart, tuple(listed))


def plan(log: Log) -> list[Merge]:
    """Return the files that are worth making, in the ledger's order; none where nothing is small.

    Raises:
        LogError: A small file is missing or is no Parquet.
    """
    begun = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    where = log.whereabouts
    runs: dict[tuple[tuple[str, ...], bytes], _Run] = {}
    found: list[_Run] = []

    def close(key: tuple[tuple[str, ...], bytes]) -> None:
        run = runs.pop(key, _Run())
        if len(run.files) > 1:
            found.append(run)

    for file in where.files.values():
        group = _group(log, file)
        raters = {where.sessions[one.session_id]["rater_id"] for one in file.slices}
        n_bytes = None if raters & begun else _small(log, file)
        if n_bytes is None:
            # What stays ends a run: rows keep their order.
            for key in [key for key in runs if key[0] == group]:
                close(key)
            continue
        key = group, _schema_of(log, file)
        if not runs.setdefault(key, _Run()).takes(file, n_bytes):
            close(key)
            runs[key] = _Run([file], file.rows, n_bytes)
    for key in list(runs):
        close(key)
    return _named(log, found)


def _group(log: Log, file: SealedFile) -> tuple[str, ...]:
    """Return what files must share to be merged, their columns apart."""
    facts = log.whereabouts.sessions[file.slices[0].session_id]
    # Steps and answers lie in folders by environment and by rater; episodes all in one.
    folder = file.path.rpartition("/")[0]
    hashed = facts["observations"] if file.folder == STEPS else ""
    return folder, hashed, log.whereabouts.teacher_of(file) or ""


def _small(log: Log, file: SealedFile) -> int | None:
    """Return the size of a file that may be merged; None for one that is to stay."""
    path = log.layout.root / file.path
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise sealed.damaged(f"{file.path} is missing", "no such file") from error
    problem = None if stat.S_ISLNK(status.st_mode) else durable.no_file(status.st_mode)
    if problem is not None:
        raise sealed.damaged(f"{file.path} {problem}", "no file")
    if _is_apart(path):
        return None
    if file.rows > _MOST_ROWS // 2 or status.st_size > _MOST_BYTES // 2:
        return None
    return status.st_size


def _is_apart(path: Path) -> bool:
    """Say whether a file's bytes would stay behind a link, or under another name, where no erasure looks."""
    status = path.lstat()
    return not stat.S_ISREG(status.st_mode) or status.st_nlink > 1


def _schema_of(log: Log, file: SealedFile) -> bytes:
    with sealed.opened(log.layout, file.path) as parquet:
        return bytes(parquet.schema_arrow.serialize())


def _named(log: Log, runs: Iterable[_Run]) -> list[Merge]:
    where = log.whereabouts
    # A name that was ever given is not given again: a reader may still be looking for it.
    last: dict[str, int] = {}
    for path in (*where.files, *where.replaced):
        folder = path.rpartition("/")[0]
        last[folder] = max(last.get(folder, 0), merged_number(path))
    merges = []
    for run in runs:
        first = run.files[0]
        folder = first.path.rpartition("/")[0]
        last[folder] += 1
        telling = first.holds_answers or where.teacher_of(first) is not None
        merges.append(Merge(merged_name(first.path, last[folder]), tuple(run.files), telling, run.n_bytes))
    return merges


def _batches(merges: Iterable[Merge]) -> Iterator[list[Merge]]:
    batch: list[Merge] = []
    for merge in merges:
        n_bytes = sum(one.n_bytes for one in batch) + merge.n_bytes
        n_files = sum(len(one.sources) for one in batch) + len(merge.sources)
        if batch and (n_bytes > _BATCH_BYTES or n_files > _BATCH_FILES):
            yield batch
            batch = []
        batch.append(merge)
    if batch:
        yield batch


def _swap(log: Log, batch: Sequence[Merge], progress: Callable[[int], None]) -> list[SealedFile]:
    """Make the files of a batch and enter them; the ones they stand for are gone afterwards."""
    made: list[SealedFile] = []
    replaced = [source.path for merge in batch for source in merge.sources]
    new = [merge.path for merge in batch]
    telling = [
        path
        for merge in batch
        if merge.telling
        for path in (merge.path, *(source.path for source in merge.sources))
    ]

    def make() -> Mapping[str, Any]:
        for merge in batch:
            made.append(_merged(log, merge))
            progress(len(merge.sources))
        return {"replaces": replaced, "files": [file.to_json() for file in made]}

    log.swap(swapping.Intent(log.log_id, new, replaced, telling), make)
    return made


def _merged(log: Log, merge: Merge) -> SealedFile:
    """Write one merged file and return what the ledger will say of it."""
    place, first = log.layout.root / merge.path, merge.sources[0]
    with sealed.opened(log.layout, first.path) as parquet:
        shape = parquet.schema_arrow
    _write(log, merge, place, shape)
    sha256 = file_mac = None
    if first.holds_answers:
        file_mac = keys.read(log.layout, log.whereabouts.rater_of(first)).file_mac(place)
    else:
        sha256 = canonical.file_sha256(place)
    n_rows = sum(source.rows for source in merge.sources)
    return SealedFile(merge.path, n_rows, sha256, file_mac, tuple(_slices(log, merge.sources)))


def _slices(log: Log, sources: Sequence[SealedFile]) -> list[Slice]:
    """Return whose rows a file has that holds all of these: what follows on in a session is one slice."""
    where, folder = log.whereabouts, sources[0].folder
    sessions = {one.session_id for source in sources for one in source.slices}
    places = {
        (session_id, one.part): number
        for session_id in sessions
        for number, (_, one) in enumerate(where.of_session(session_id, folder))
    }
    slices: list[Slice] = []
    offset, before = 0, ("", 0)
    for source in sources:
        for one in source.slices:
            key = one.session_id, one.part
            if before[0] == one.session_id and places[before] + 1 == places[key]:
                slices[-1] = replace(slices[-1], rows=slices[-1].rows + one.rows)
            else:
                slices.append(replace(one, first_row=one.first_row + offset))
            before = key
        offset += source.rows
    return slices


def _write(log: Log, merge: Merge, place: Path, shape: pa.Schema) -> None:
    told = merge.sources[0].folder in (EPISODES, STEPS)
    rater_id = log.whereabouts.rater_of(merge.sources[0])
    options = (
        sealing.trajectory_options(shape) if told else answers.options(log, keys.read(log.layout, rater_id))
    )
    most_rows = min(int(options.pop("row_group_size", _GROUP_ROWS)), _GROUP_ROWS)
    with durable.replacing(place) as temporary, pq.ParquetWriter(temporary, shape, **options) as writer:
        for table in _gathered(_tables(log, merge.sources), most_rows):
            writer.write_table(table, row_group_size=table.num_rows)


def _tables(log: Log, sources: Iterable[SealedFile]) -> Iterator[pa.Table]:
    """Yield the rows of all sources, a row group at a time."""
    for source in sources:
        with sealed.opened(log.layout, source.path) as parquet:
            for number in range(parquet.metadata.num_row_groups):
                table = parquet.read_row_group(number)
                table.validate(full=True)
                yield table


def _gathered(tables: Iterable[pa.Table], most_rows: int) -> Iterator[pa.Table]:
    """Yield tables of up to ``most_rows``, each joined from whole ones; one that has more stays as it is."""
    held: list[pa.Table] = []
    n_rows = n_bytes = 0
    for table in tables:
        n_rows, n_bytes = n_rows + table.num_rows, n_bytes + table.nbytes
        if held and (n_rows > most_rows or n_bytes > _GROUP_BYTES):
            yield pa.concat_tables(held)
            held, n_rows, n_bytes = [], table.num_rows, table.nbytes
        held.append(table)
    if held:
        yield pa.concat_tables(held)


def _check(log: Log, merges: Iterable[Merge], progress: Callable[[int], None]) -> None:
    """Refuse sources that are not what the ledger names, and places that are taken."""
    for merge in merges:
        for name in (merge.path, merge.path + durable.TEMPORARY_SUFFIX):
            if os.path.lexists(log.layout.root / name):
                raise sealed.damaged(f"{name} is there", "what the ledger does not name")
        for source in merge.sources:
            if not _is_whole(log, source):
                raise sealed.damaged(f"{source.path} is damaged", "other bytes than the ledger names")
            progress(1)


def _is_whole(log: Log, file: SealedFile) -> bool:
    path = log.layout.root / file.path
    try:
        if file.holds_answers:
            return keys.read(log.layout, log.whereabouts.rater_of(file)).file_mac(path) == file.file_mac
        return canonical.file_sha256(path) == file.sha256
    except OSError as error:
        raise sealed.damaged(f"{file.path} can't be read", str(error.strerror)) from error


def _sizes(log: Log) -> dict[str, int]:
    """Return the size of every sealed file that is there, by path."""
    paths = {name: log.layout.root / name for name in log.whereabouts.files}
    return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
