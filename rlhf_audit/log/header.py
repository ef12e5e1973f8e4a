"""``log.json``: what a log says of itself, written once by ``init``."""

from typing import Any

from rlhf_audit import canonical
from rlhf_audit.errors import LogError
from rlhf_audit.log.layout import Layout
from rlhf_audit.schema import FORMAT_VERSION


def read(layout: Layout) -> dict[str, Any]:
    """Return the header of a log.

    Raises:
        LogError: There is none, it is not as it was written, or it is of another format.
    """
    try:
        raw = canonical.read_file(layout.header)
    except PermissionError:
        raise
    except OSError as error:
        raise LogError(
            "there is no log here",
            seen=f"no log.json in {str(layout.root)!r}",
            needed="a folder made by init",
            fix="rlhf-audit init LOG",
        ) from error
    try:
        header = canonical.parse_object(raw)
        version = header["format_version"]
        if version == FORMAT_VERSION and canonical.json_bytes(header) + b"\n" == raw:
            bytes.fromhex(header["public_key"]), str(header["log_id"])
            return header
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours("log.json can't be read", "no JSON object of ours") from error
    if version == FORMAT_VERSION:
        raise _not_ours("log.json is not as init wrote it", "other bytes")
    raise LogError(
        "this log is of another format",
        seen=f"log.json says format {ascii(version)[:40]}",
        needed=f"format {FORMAT_VERSION}",
        fix="install the rlhf-audit that wrote it, or a newer one",
    )


def _not_ours(what: str, seen: str) -> LogError:
    return LogError(
        what, seen=seen, needed="the file as init wrote it", fix="rlhf-audit verify LOG, or put it back"
    )
