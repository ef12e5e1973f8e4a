"""``compact``: merge a log's many small files into few."""

from typing import TYPE_CHECKING

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log

if TYPE_CHECKING:
    from rlhf_audit.log.compaction import Compacted

EXAMPLE = "rlhf-audit compact study"


def run(log_path: LogPath, as_json: AsJson = False) -> None:
    """Merge small files: many short sessions leave many.

    Each rater's answers into few files of their own, and each environment's steps. Nothing that was
    recorded changes, and nothing of anybody whose erasure has begun is touched; queries get faster
    and the log smaller. It may be stopped and run again at any time.
    """
    from rlhf_audit.log import compaction

    log = open_log(log_path)
    with _console.Progress() as progress:
        done = compaction.compact(log, progress.count)
    result = {
        "files_before": done.files_before,
        "files_after": done.files_after,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
        "apart": done.apart,
        "files": [dict(file) for file in done.files],
    }
    _console.emit("compact", log.ledger.head, result, _text(done), as_json)


def _text(done: "Compacted") -> str:
    links = f"left as they are, since their bytes are elsewhere too: {_console.many(done.apart, 'file')}"
    more = f"\n{links} behind links or with several names" if done.apart else ""
    if not done.files:
        found = f"{_console.many(done.files_before, 'file')}, {_size(done.bytes_before)}"
        return f"nothing to merge: {found}{more}"
    merged = _console.many(sum(file["merged"] for file in done.files), "file")
    return (
        f"merged {merged} into {len(done.files)}\n"
        f"files  {done.files_before} -> {done.files_after}\n"
        f"size   {_size(done.bytes_before)} -> {_size(done.bytes_after)}{more}"
    )


def _size(n_bytes: int) -> str:
    """Return a size as people read it.

    >>> _size(812), _size(2_345_678)
    ('812 B', '2.3 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"
