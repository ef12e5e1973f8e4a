"""Every path of a log, and the shape of every name in it: nowhere else."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_audit.errors import UsageError

_RATER = re.compile(r"r-[0-9a-f]{8}")
_SESSION = re.compile(r"s-[0-9]{4,}")
_ENV = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*(?:/[A-Za-z0-9][A-Za-z0-9_.:-]*)?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MERGED = re.compile(r"c-([0-9]{4,})\.parquet")

EPISODES, STEPS, FEEDBACK = "episodes", "steps", "feedback"
"""The folders of sealed files."""
SEALED = re.compile(
    r"(?:episodes|steps/env=[^/'\"]+|feedback/rater_id=[^/'\"]+)/(?:s-[0-9]+(?:\.[0-9]+)?|c-[0-9]+)\.parquet"
)
"""A sealed file as the ledger names it: of one session, or merged from several."""


def checked_rater_id(text: str) -> str:
    """Return ``text`` if it has the form of a pseudonym.

    Raises:
        UsageError: It has not; nothing with such a name is ever looked up on disk.
    """
    if not _RATER.fullmatch(text):
        raise UsageError(
            "that is not a rater id",
            # Not the text itself: who mistypes may have typed a name.
            seen=f"{len(text)} characters of another form",
            needed="r- and eight hex digits, as `enroll` printed it",
            fix="rlhf-audit show LOG raters",
        )
    return text


def checked_session_id(text: str) -> str:
    """Return ``text`` if it has the form of a session id.

    Raises:
        UsageError: It has not.
    """
    if not _SESSION.fullmatch(text):
        raise UsageError(
            "that is not a session id",
            seen=ascii(text[:40]),
            needed="s- and four digits, as `record` printed it",
            fix="rlhf-audit show LOG sessions",
        )
    return text


def is_session_id(text: str) -> bool:
    """Say whether ``text`` has the form of a session id."""
    return _SESSION.fullmatch(text) is not None


def is_remote(text: str) -> bool:
    """Say whether a LOG is a URI, and no folder's path.

    >>> is_remote("s3://bucket/study"), is_remote("study")
    (True, False)
    """
    return _URI.match(text) is not None


class Layout:
    """The paths of one log."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.header = root / "log.json"
        self.lock = root / ".lock"
        self.placing = root / "placing.json"
        self.compacting = root / "compacting.json"
        self.ledger = root / "ledger"
        self.entries = self.ledger / "entries.jsonl"
        self.checkpoint = self.ledger / "checkpoint"
        self.pending = self.ledger / "pending.json"
        self.ledger_lock = self.ledger / ".lock"
        self.terms = root / "terms"
        self.episodes = root / EPISODES
        self.steps = root / STEPS
        self.feedback = root / FEEDBACK
        self.keys = root / "keys"
        self.journal = root / "journal"
        self.reports = root / "reports"
        self.receipts = root / "receipts"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that a new log has."""
        return (
            self.ledger,
            self.terms,
            self.episodes,
            self.steps,
            self.feedback,
            self.keys,
            self.journal,
            self.reports,
            self.receipts,
        )

    def terms_file(self, sha256: str) -> Path:
        return self.terms / f"{sha256}.md"

    def episodes_file(self, session_id: str, number: int = 0) -> Path:
        return self.episodes / _numbered(session_id, number)

    def steps_file(self, env_id: str, session_id: str, number: int = 0) -> Path:
        if not _ENV.fullmatch(env_id):
            raise UsageError("that environment id can't name a folder", seen=ascii(env_id[:60]))
        return self.steps / f"env={env_id.replace('/', '%2F')}" / _numbered(session_id, number)

    def rater_folder(self, rater_id: str) -> Path:
        return self.feedback / f"rater_id={rater_id}"

    def feedback_file(self, rater_id: str, session_id: str) -> Path:
        return self.rater_folder(rater_id) / f"{session_id}.parquet"

    def key_file(self, rater_id: str) -> Path:
        return self.keys / f"{rater_id}.key"

    def journal_folder(self, session_id: str) -> Path:
        return self.journal / session_id

    def for_arrow(self, path: Path) -> Any:
        """Return what pyarrow reads a file of this log by."""
        return path

    def relative(self, path: Path) -> str:
        """Return ``path`` as the ledger names it: relative to the log, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def recorded(self, folder: Path) -> str:
        """Return a policy's or report's folder as the ledger names it: relative to the log's own."""
        return Path(os.path.relpath(os.path.realpath(folder), os.path.realpath(self.root))).as_posix()

    def recorded_folder(self, path: str) -> Path:
        """Return where a folder that the ledger names is on this machine."""
        # Inside the log named as every file of it is; outside from where the log really is.
        if not path.startswith("../"):
            return self.root / path
        return Path(os.path.normpath(Path(os.path.realpath(self.root), path)))

    def files(self) -> Iterator[Path]:
        """Yield every file and link below the log, sorted by name."""
        yield from sorted(path for path in self.root.rglob("*") if path.is_symlink() or not path.is_dir())


def folder_of(name: str) -> str:
    """Return in which of the three folders a sealed file is.

    >>> folder_of("steps/env=CartPole-v1/s-0001.parquet")
    'steps'
    """
    return name.partition("/")[0]


def rater_in(name: str) -> str:
    """Return whose answers a sealed file holds.

    >>> rater_in("feedback/rater_id=r-1a2b3c4d/s-0001.parquet")
    'r-1a2b3c4d'
    """
    return checked_rater_id(name.split("/")[-2].removeprefix("rater_id="))


def merged_name(beside: str, number: int) -> str:
    """Return the name of a merged file in the folder of another sealed file.

    >>> merged_name("steps/env=CartPole-v1/s-0001.parquet", 2)
    'steps/env=CartPole-v1/c-0002.parquet'
    """
    return f"{beside.rpartition('/')[0]}/c-{number:04d}.parquet"


def merged_number(name: str) -> int:
    """Return the number in a merged file's name; 0 for other files."""
    match = _MERGED.fullmatch(name.rpartition("/")[2])
    return int(match[1]) if match else 0


def _numbered(session_id: str, number: int) -> str:
    """Return the name of one of a session's files: the first has none, long sessions have further ones."""
    return f"{session_id}.{number:05d}.parquet" if number else f"{session_id}.parquet"
