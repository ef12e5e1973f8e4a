"""What is in a log of raters whose erasure has ended: a backup that was put back brings them with it."""

from rlhf_audit.log import journal
from rlhf_audit.log.store import Log


def count(log: Log) -> dict[str, int]:
    """Return how many keys, files of answers and open sessions there are of erased raters; names nobody."""
    ended = {entry.body["rater_id"] for entry in log.ledger.of("receipt", "erasure-done")}
    layout = log.layout
    folders = [layout.rater_folder(rater_id) for rater_id in sorted(ended)]
    answers = sum(1 for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file())
    mentioned = [name for name in journal.open_sessions(layout) if journal.mentions(layout, name, ended)]
    return {
        "key": sum(path.exists() or path.is_symlink() for path in map(layout.key_file, ended)),
        "file of answers": answers,
        "open session": len(mentioned),
    }
