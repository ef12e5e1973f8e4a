"""Handing out: what consent allows, in one format, placed together with the ledger's entry of it."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rlhf_audit.errors import UsageError
from rlhf_audit.exchange import selection
from rlhf_audit.exchange.base import MANIFEST, Export, Writer
from rlhf_audit.log import durable
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose


class Format(StrEnum):
    """What an export can be written as; each is a module of this name."""

    PARQUET = "parquet"
    CSV = "csv"
    MINARI = "minari"
    LEROBOT = "lerobot"
    HF = "hf"
    RLDS = "rlds"

    @property
    def writer(self) -> Writer:
        """Its ``write``; nobody waits for the libraries of another format."""
        module = importlib.import_module(f"rlhf_audit.exchange.{self.value}")
        found: Writer = module.write
        return found


@dataclass(frozen=True)
class Exported:
    """One export that was made.

    Attributes:
        folder: Where it is.
        content: What is in it.
        names: What each rater, by pseudonym, is called in it.
        files: Digest of each file.
    """

    folder: Path
    content: Export
    names: Mapping[str, str]
    files: Mapping[str, str]


def export(
    log: Log, form: Format, folder: Path, purpose: Purpose = Purpose.PUBLICATION, recipient: str = ""
) -> Exported:
    """Write what raters agreed to hand out, and enter in the ledger what went to whom.

    Its files are made in memory: they and the entry are placed together, or neither is.

    Args:
        log: Whose.
        form: In which format.
        folder: A new or empty one, outside the log.
        purpose: What each row's grant must cover now.
        recipient: Who gets it; whom an erasure tells the rater to turn to.

    Raises:
        ConsentError: Nobody has agreed to it.
        UsageError: The folder is taken, or the format can't hold these spaces.
    """
    with log.writing():
        _check_free(log, folder)
        durable.check_writable(folder)
        content, names = selection.select(log, purpose)
        files = {name: data for name, data in form.writer(content)}
        files[MANIFEST] = content.manifest(form.value)
        facts = {
            "format": form.value,
            "purpose": purpose.value,
            "recipient": recipient,
            "rows": content.rows,
            "steps": content.steps,
            "rater_ids": sorted(names),
            "names": names,
        }
        digests = log.place(folder, files, "export", facts)
    return Exported(folder, content, names, digests)


def _check_free(log: Log, folder: Path) -> None:
    inside = not log.layout.recorded(folder).startswith("../")
    taken = os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir()))
    if inside or taken:
        raise UsageError(
            "an export needs a folder of its own",
            seen="a place inside the log" if inside else "a folder that holds something, or no folder",
            needed="a new or empty folder, outside of the log",
            fix="--to ANOTHER-FOLDER",
        )
