"""The sealed files of what a rater gave, and what the ledger says of them."""

from typing import Any

import pyarrow as pa

from rlhf_audit import canonical
from rlhf_audit.log import encryption, sealing
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.store import Log


def options(log: Log, key: RaterKey) -> dict[str, Any]:
    """Return the options of ``pyarrow.parquet.ParquetWriter`` for a rater's files."""
    # No dictionary pages: they would outlive a filtered row.
    found: dict[str, Any] = {"compression": "zstd", "use_dictionary": False, "store_schema": False}
    return found | (encryption.of(key).parquet() if log.is_sealed else {})


def write(log: Log, session_id: str, key: RaterKey, table: pa.Table) -> dict[str, Any]:
    """Write what was given in a session; return what the ledger says of the file."""
    path = log.layout.feedback_file(key.rater_id, session_id)
    sealing.write(path, table, table.schema, **options(log, key))
    return {
        "path": log.layout.relative(path),
        "rows": table.num_rows,
        "rows_mac": canonical.hmac_hex(key.mac_key, "rows", canonical.table_bytes(table)),
        "file_mac": key.file_mac(path),
    }
