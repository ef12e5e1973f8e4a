"""The one file that links a pseudonym to a person: destroy it and every commitment to them says nothing.

Personal data: alias and groups. The file is 0600 and belongs in no backup.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.errors import LogError
from rlhf_audit.log import durable
from rlhf_audit.log.layout import Layout


@dataclass(frozen=True)
class RaterKey:
    """A rater's key file.

    Attributes:
        mac_key: 32 bytes.
        alias: What the operator calls them; may be empty.
        groups: Group names and values that they told us.
    """

    rater_id: str
    mac_key: bytes = field(repr=False)
    alias: str = field(repr=False)
    groups: dict[str, str] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the file's bytes: canonical JSON and a newline."""
        body: dict[str, Any] = {
            "rater_id": self.rater_id,
            "mac_key": self.mac_key.hex(),
            "alias": self.alias,
            "groups": self.groups,
        }
        return canonical.json_bytes(body) + b"\n"

    @property
    def commitment(self) -> str:
        """What the ledger holds of this file: a MAC under the key inside it."""
        return self.mac("key-file", self.to_bytes())

    def mac(self, purpose: str, data: bytes) -> str:
        """Return the keyed commitment to ``data``, 64 hex digits."""
        return canonical.hmac_hex(self.mac_key, purpose, [data])

    def file_mac(self, path: Path) -> str:
        """Return the keyed commitment to a file's bytes."""
        return canonical.hmac_hex(self.mac_key, "file", canonical.file_chunks(path))


def write(layout: Layout, key: RaterKey) -> None:
    """Write a rater's key file, 0600."""
    durable.write(layout.key_file(key.rater_id), key.to_bytes(), mode=0o600)


def read(layout: Layout, rater_id: str) -> RaterKey:
    """Read a rater's key file.

    Raises:
        LogError: It is missing or is not one.
    """
    name = layout.relative(layout.key_file(rater_id))
    try:
        raw = canonical.read_file(layout.key_file(rater_id))
        body = canonical.parse_object(raw)
        key = RaterKey(
            _text(body["rater_id"]),
            bytes.fromhex(body["mac_key"]),
            _text(body["alias"]),
            {_text(group): _text(value) for group, value in body["groups"].items()},
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(f"{name} is missing", "no such file") from error
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(f"{name} is not a rater's key", "other content") from error
    if key.to_bytes() != raw or key.rater_id != rater_id:
        raise _damaged(f"{name} is not as it was written", "other bytes")
    return key


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _damaged(what: str, seen: str) -> LogError:
    return LogError(
        what,
        seen=seen,
        needed="the rater's key file as enroll wrote it",
        fix="rlhf-audit verify LOG; put the file back from a copy, or erase its rater",
    )
