"""What raters gave, read from its files once and kept in memory: for those who ask many questions of it.

It is compressed as it is read, some files at a time, and never written anywhere: of ten million answers it
takes a quarter of a gigabyte.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from rlhf_audit.log import viewed

_PIECE = 120_000
"""Rows that are read at a time: uncompressed they take 30 MB."""


def pieces(
    paths: Sequence[Path], rows: Mapping[Path, int], *, whole_raters: bool = False
) -> Iterator[list[Path]]:
    """Yield the files rater by rater, parted into pieces of about as many rows.

    Args:
        paths: Of files of answers.
        rows: How many each holds.
        whole_raters: Nobody's files are in two pieces.
    """
    piece: list[Path] = []
    held = 0
    for own in viewed.by_rater(paths).values():
        for files in [own] if whole_raters else ([path] for path in own):
            n_rows = sum(rows[path] for path in files)
            if held + n_rows > _PIECE and piece:
                yield piece
                piece, held = [], 0
            piece += files
            held += n_rows
    if piece:
        yield piece


def read(
    connection: duckdb.DuckDBPyConnection,
    selects: Sequence[str],
    progress: Callable[[str], None] | None = None,
) -> str:
    """Keep the rows of the SELECTs, one after the other; returns the table's name.

    Args:
        connection: May read the files.
        selects: Each of a piece of the files; all with the same columns.
        progress: Told before each how far it is.
    """
    connection.execute("ATTACH ':memory:' AS at_hand (COMPRESS)")
    connection.execute(f"CREATE TABLE at_hand.feedback AS {selects[0]} LIMIT 0")
    for number, select in enumerate(selects):
        if progress is not None:
            progress(f"reading feedback ({number * 100 // len(selects)} %)")
        connection.execute(f"INSERT INTO at_hand.feedback {select}")
        # It is compressed by that, and only then.
        connection.execute("CHECKPOINT at_hand")
    return "at_hand.feedback"
