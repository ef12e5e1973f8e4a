"""Files and the ledger entry that names them: put in place together, or not at all.

A signed intent (``placing.json``) says which files will be where. Only then are they written, each under a
name of its own beside its place; then the entry is appended; then each takes its place, and the intent goes.
Whoever opens the log after a crash finds the intent: with the entry in the ledger the files are put in place,
without it nothing of them stays. So no policy and no report is ever on the disk unknown to the log.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import canonical
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import durable, intents
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.ledger import Entry

STAGED_SUFFIX = ".new"
_SCHEMA = "rlhf_audit.placing/1"


@dataclass(frozen=True)
class Intent:
    """What is to be put where.

    Attributes:
        log_id: Whose this is: one signing key may serve several logs.
        event: The entry that will name the files.
        path: Their folder, as the ledger names it.
        files: Name and SHA-256 of each.
        made: Folders that are made for it, as the ledger names them, the innermost first.
    """

    log_id: str
    event: str
    path: str
    files: Mapping[str, str]
    made: Sequence[str]

    def entered(self, entries: Sequence[Entry]) -> bool:
        """Say whether the ledger holds just these files to be in this place."""
        about = [entry for entry in entries if entry.body.get("path") == self.path]
        return bool(about) and (about[-1].event, about[-1].body.get("files")) == (self.event, self.files)


def intend(layout: Layout, log_id: str, folder: Path, files: Mapping[str, bytes], event: str) -> Intent:
    """Return the intent to put files into ``folder``.

    Raises:
        UsageError: A folder, or the like, is in the place of one of the files, or somebody's own file is
            where one is to wait.
    """
    for path in (folder / name for name in files):
        wrong = [path.name] * (path.exists() and not path.is_file())
        wrong += [staged(path).name] * os.path.lexists(staged(path))
        if wrong:
            raise UsageError(
                f"something else is in {os.fspath(folder)!r}",
                seen=wrong[0],
                needed="a new folder, or one that holds what was written there before",
                fix="name another folder, or move that away",
            )
    digests = {name: canonical.sha256_hex(data) for name, data in files.items()}
    around = {above for name in files for above in (folder / name).parents} | {folder}
    missing = [path for path in around if not path.exists()]
    made = [layout.recorded(path) for path in sorted(missing, key=lambda path: (-len(path.parts), path))]
    return Intent(log_id, event, layout.recorded(folder), digests, made)


def begin(layout: Layout, key: Ed25519PrivateKey, intent: Intent) -> None:
    """Write the intent; from now on no file of it is on the disk unknown to the log."""
    intents.write(layout.placing, key, _SCHEMA, asdict(intent))


def stage(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write each file beside its place."""
    durable.make_folder(folder)
    for name, data in files.items():
        durable.make_folder((folder / name).parent)
        durable.write(staged(folder / name), data)


def resolve(layout: Layout, log_id: str, public_key: bytes, entries: Sequence[Entry]) -> None:
    """Put in place what the ledger has come to name, or take away what it has not; idempotent.

    A folder that is not there any more has been moved away by somebody: nothing is left to do there.

    Raises:
        LogError: The intent is damaged, or is not this log's.
        OSError: The place can't be written now. The intent stays.
    """
    intent = pending(layout, log_id, public_key)
    if intent is None:
        return
    folder = layout.recorded_folder(intent.path)
    for name, digest in intent.files.items() if folder.is_dir() else ():
        new = staged(folder / name)
        if intent.entered(entries) and new.is_file() and canonical.file_sha256(new) == digest:
            # What is replaced may hold somebody's answers: it is not left on the disk's blocks.
            durable.destroy(folder / name)
            new.rename(folder / name)
            durable.sync_folder(new.parent)
        durable.destroy(new)
    durable.remove_empty(map(layout.recorded_folder, intent.made))
    layout.placing.unlink()
    durable.sync_folder(layout.root)


def pending(layout: Layout, log_id: str, public_key: bytes) -> Intent | None:
    """Return the intent that a crash has left, or that another process is just carrying out.

    Raises:
        LogError: It is damaged, or is not this log's.
    """
    body = intents.read(layout.placing, _SCHEMA, log_id, public_key)
    return None if body is None else Intent(**body)


def under_way(layout: Layout, log_id: str, public_key: bytes) -> set[Path]:
    """Return the files that an intent accounts for: its own, and those that wait for their entry."""
    try:
        intent = pending(layout, log_id, public_key)
    except LogError:
        return set()
    if intent is None:
        return set()
    waiting = [staged(layout.recorded_folder(intent.path) / name) for name in intent.files]
    half_written = [path.with_name(path.name + durable.TEMPORARY_SUFFIX) for path in waiting]
    return {layout.placing, *waiting, *half_written}


def staged(path: Path) -> Path:
    """Return where a file waits for its entry."""
    return path.with_name(path.name + STAGED_SUFFIX)
