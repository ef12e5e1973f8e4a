"""How others take a rater out: Delta Lake, by time and by rater, and a Parquet file written again."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.erasers.base import Store
from rlhf_audit import schema
from rlhf_audit.log import durable

_ROWS_A_FILE = 1 << 20
WITH_RATER = schema.FEEDBACK.append(pa.field("rater_id", pa.string()))


def batches(parts: Iterable[tuple[str, pa.Table]]) -> Any:
    """Yield record batches that say whose each row is."""
    for rater_id, table in parts:
        told = table.append_column(WITH_RATER.field("rater_id"), pa.repeat(rater_id, len(table)))
        yield from told.cast(WITH_RATER).to_batches()


class Delta:
    """Delta Lake: a delete, then a vacuum that keeps no old file."""

    def __init__(self, by_rater: bool) -> None:
        self.name = f"Delta Lake, {'a partition a rater' if by_rater else 'by time'}"
        self._partition = ["rater_id"] if by_rater else None

    def absent(self) -> str | None:
        return None if importlib.util.find_spec("deltalake") else "deltalake is not installed"

    def fill(self, folder: Path, parts: Iterable[tuple[str, pa.Table]]) -> Store:
        import deltalake

        reader = pa.RecordBatchReader.from_batches(WITH_RATER, batches(parts))
        deltalake.write_deltalake(folder, reader, partition_by=self._partition)
        return _DeltaStore(folder)


class _DeltaStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def erase(self, rater_id: str) -> None:
        import deltalake

        table = deltalake.DeltaTable(self._folder)
        table.delete(f"rater_id = '{rater_id}'")
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


class Rewrite:
    """Parquet files by time: those with the rater in them are filtered, written again, and put in place."""

    name = "Parquet by time, written again"

    def absent(self) -> str | None:
        return None

    def fill(self, folder: Path, parts: Iterable[tuple[str, pa.Table]]) -> Store:
        ds.write_dataset(
            pa.RecordBatchReader.from_batches(WITH_RATER, batches(parts)),
            folder,
            format="parquet",
            file_options=ds.ParquetFileFormat().make_write_options(compression="zstd", use_dictionary=False),
            max_rows_per_file=_ROWS_A_FILE,
            max_rows_per_group=_ROWS_A_FILE,
        )
        return _RewriteStore(folder)


class _RewriteStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def erase(self, rater_id: str) -> None:
        for path in sorted(self._folder.glob("*.parquet")):
            # In the order of time every file has some of everybody.
            table = pq.read_table(path)
            kept = table.filter(pc.not_equal(table["rater_id"], rater_id))
            if len(kept) < len(table):
                with durable.replacing(path) as temporary:
                    pq.write_table(kept, temporary, compression="zstd", use_dictionary=False)
