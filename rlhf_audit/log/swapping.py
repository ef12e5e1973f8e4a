"""Sealed files that take the place of others, together with the ledger entry that says so; or not at all.

A signed intent (``compacting.json``) names the files that will be made and those whose rows they will hold.
Only then are the new ones written, under names that were never used; then the entry is appended; then the old
ones are removed, and the intent goes. Whoever opens the log after a crash finds the intent, and removes
whatever it names that the ledger does not: before the entry these are the new files, after it the old ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit.errors import LogError
from rlhf_audit.log import durable, intents
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.ledger import Entry
from rlhf_audit.log.whereabouts import Whereabouts

_SCHEMA = "rlhf_audit.compacting/1"


@dataclass(frozen=True)
class Intent:
    """What is to stand for what; every path as the ledger names it.

    Attributes:
        log_id: Whose this is: one signing key may serve several logs.
        made: Files to be written.
        replaced: Files whose rows they hold.
        telling: Those of both in which answers are, or show: overwritten before they are unlinked.
    """

    log_id: str
    made: Sequence[str]
    replaced: Sequence[str]
    telling: Sequence[str]


def begin(layout: Layout, key: Ed25519PrivateKey, intent: Intent) -> None:
    """Write the intent; from now on no file of it is on the disk unknown to the log."""
    intents.write(layout.compacting, key, _SCHEMA, asdict(intent))


def resolve(layout: Layout, log_id: str, public_key: bytes, entries: Sequence[Entry]) -> None:
    """Remove what an intent names and the ledger does not; idempotent.

    Raises:
        LogError: The intent is damaged, or is not this log's.
        OSError: The operating system refused now. The intent stays.
    """
    intent = pending(layout, log_id, public_key)
    if intent is None:
        return
    plain: list[Path] = []
    for name in _unnamed(intent, entries):
        if name in intent.telling:
            durable.destroy(layout.root / name)
        else:
            plain += [layout.root / name, _half_written(layout.root / name)]
    durable.unlink(plain)
    layout.compacting.unlink()
    durable.sync_folder(layout.root)


def pending(layout: Layout, log_id: str, public_key: bytes) -> Intent | None:
    """Return the intent that a crash has left, or that another process is just carrying out.

    Raises:
        LogError: It is damaged, or is not this log's.
    """
    body = intents.read(layout.compacting, _SCHEMA, log_id, public_key)
    return None if body is None else Intent(**body)


def under_way(layout: Layout, log_id: str, public_key: bytes, entries: Sequence[Entry]) -> set[Path]:
    """Return the files that an intent accounts for: itself, and what of it the ledger does not name now."""
    try:
        intent = pending(layout, log_id, public_key)
    except LogError:
        return set()
    if intent is None:
        return set()
    files = [layout.root / name for name in _unnamed(intent, entries)]
    return {layout.compacting, *files, *map(_half_written, files)}


def _unnamed(intent: Intent, entries: Sequence[Entry]) -> list[str]:
    named = Whereabouts(entries).files
    return [name for name in (*intent.made, *intent.replaced) if name not in named]


def _half_written(path: Path) -> Path:
    return path.with_name(path.name + durable.TEMPORARY_SUFFIX)
