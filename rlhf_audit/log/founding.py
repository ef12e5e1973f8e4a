"""What makes a folder a log: its first files, and what an ``init`` that was cut short has left of them."""

import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import __version__, canonical
from rlhf_audit.clock import Clock, to_text
from rlhf_audit.errors import UsageError
from rlhf_audit.log import durable, ledger
from rlhf_audit.log.layout import Layout
from rlhf_audit.schema import FORMAT_VERSION
from rlhf_audit.seeds import Entropy

# As durable writes name them.
_TERMS = re.compile(r"[0-9a-f]{64}\.md(\.tmp)?")
_RECORDED_VERSIONS = ("gymnasium", "numpy", "pyarrow")


def fill(
    layout: Layout,
    clock: Clock,
    entropy: Entropy,
    key: Ed25519PrivateKey,
    terms: bytes | None,
    chosen: Mapping[str, Any],
) -> None:
    """Write the files of a new log, the header last: where there is one there is a whole log.

    Args:
        layout: Where.
        clock: Where times come from.
        entropy: Where the log's id comes from.
        key: Signs from the first entry on.
        terms: The text that raters agree to, UTF-8.
        chosen: What else the header is to say.
    """
    log_id = entropy.token(8).hex()
    facts: dict[str, Any] = {
        **chosen,
        "format_version": FORMAT_VERSION,
        "log_id": log_id,
        "created_at": to_text(clock.now()),
        "public_key": key.public_key().public_bytes_raw().hex(),
        "versions": {"rlhf_audit": __version__}
        | {name: metadata.version(name) for name in _RECORDED_VERSIONS},
    }
    raw = canonical.json_bytes(facts) + b"\n"
    make_folders(layout)
    origin = f"rlhf_audit/{log_id}"
    ledger.create(layout, origin, key)
    events: list[tuple[str, Mapping[str, Any]]] = [("created", {"log_sha256": canonical.sha256_hex(raw)})]
    if terms is not None:
        digest = canonical.sha256_hex(terms)
        durable.write(layout.terms_file(digest), terms)
        events.append(("terms", {"terms_sha256": digest, "version": 1}))
    ledger.Ledger(layout, origin, key.public_key().public_bytes_raw()).append(key, clock, events)
    durable.write(layout.header, raw)


def check_vacant(layout: Layout) -> None:
    """Refuse a folder that holds anything but what an ``init`` that was cut short has left."""
    root = layout.root
    around = next((up for up in Path(os.path.realpath(root)).parents if _is_log(Layout(up))), None)
    if around is not None:
        raise UsageError(
            f"{root} lies inside a log",
            seen=f"log.json in {os.path.relpath(around)!r}",
            needed="a new folder that lies in no log",
            fix="rlhf-audit init ANOTHER-FOLDER",
        )
    free = not os.path.lexists(root) or (root.is_dir() and not os.path.lexists(layout.header))
    begun = set(layout.folders) | set(_begun(layout)) | {layout.lock}
    if not free or any(path not in begun for path in root.rglob("*")):
        raise UsageError(
            f"{root} is not empty",
            seen="a log" if _is_log(layout) else "other files, or no folder",
            needed="a new or empty folder",
            fix="rlhf-audit init ANOTHER-FOLDER",
        )


def _is_log(layout: Layout) -> bool:
    return os.path.isfile(layout.header) and os.path.isdir(layout.ledger)  # noqa: PTH112, PTH113 - never raise


def _begun(layout: Layout) -> list[Path]:
    """Return the files of a log that is not yet one: its header is missing, and nobody was enrolled."""
    written = [layout.header, layout.entries, layout.checkpoint, layout.pending, *layout.terms.glob("*.md*")]
    written = [path for path in written if path.parent != layout.terms or _TERMS.fullmatch(path.name)]
    under_way = [path.with_name(path.name + durable.TEMPORARY_SUFFIX) for path in written]
    return [*written, *under_way, layout.ledger_lock]


def clear(layout: Layout) -> None:
    """Remove what an ``init`` that was cut short has left, the header first."""
    for path in _begun(layout):
        path.unlink(missing_ok=True)
    durable.remove_empty(folder for folder in layout.folders if folder.is_dir())


def make_folders(layout: Layout) -> None:
    """Make the folders that are not there: git, for one, keeps no empty ones."""
    for folder in layout.folders:
        if not folder.is_dir():
            durable.make_folder(folder)
            if folder in (layout.keys, layout.journal):
                folder.chmod(0o700)
