"""Handing out: what consent allows, in one format, placed together with the ledger's entry of it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rlhf_audit.errors import UsageError
from rlhf_audit.exchange import selection
from rlhf_audit.exchange.base import MANIFEST, Export, Writer
from rlhf_audit.exchange.own_copy import check_free
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
        check_free(log, folder)
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


def told(log: Log, folder: Path) -> str:
    """Note that the recipient of an export was told of all that was withdrawn until now (GDPR, article 19).

    Returns:
        The recipient, as noted when it was handed out.

    Raises:
        UsageError: No export went into that folder.
    """
    with log.writing():
        path = log.layout.recorded(folder)
        made = [entry.body for entry in log.ledger.of("export") if entry.body["path"] == path]
        if not made:
            raise UsageError(
                "no export was made there",
                seen="a folder that the ledger does not name",
                needed="the folder that was given to --to",
                fix="rlhf-audit show LOG ledger",
            )
        log.append("recipient-told", {"path": path})
    return str(made[-1]["recipient"])
