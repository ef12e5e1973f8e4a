"""An append to the ledger that is decided and not yet carried out: its lines and their checkpoint."""

import contextlib
from collections.abc import Sequence

from rlhf_audit import canonical
from rlhf_audit.errors import LedgerError
from rlhf_audit.log import durable
from rlhf_audit.log.layout import Layout


def write(layout: Layout, lines: Sequence[bytes], note: bytes) -> None:
    """Decide an append: afterwards it is on the disk and counts, or it is not and never will."""
    body = {"lines": [line.decode() for line in lines], "checkpoint": note.decode()}
    try:
        durable.write(layout.pending, canonical.json_bytes(body))
    except OSError:
        # The name may have been there already when the sync of its folder failed.
        with contextlib.suppress(OSError):
            layout.pending.unlink(missing_ok=True)
        if not layout.pending.exists():
            raise


def read(layout: Layout) -> tuple[list[bytes], bytes]:
    """Return the lines of the pending append, and its checkpoint."""
    try:
        raw = canonical.read_file(layout.pending)
        pending = canonical.parse_object(raw)
        lines = [line.encode() for line in pending["lines"]]
        new_note = pending["checkpoint"].encode()
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # Missing: between two looks of a reader the append has ended.
        raise LedgerError("ledger/pending.json can't be read") from error
    if canonical.json_bytes(pending) != raw:
        raise LedgerError("ledger/pending.json is not as it was written")
    return lines, new_note
