"""Signed notes of what is under way: carrying one out removes files, so a forged one must move nothing."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rlhf_audit import canonical
from rlhf_audit.errors import LogError
from rlhf_audit.log import durable


def write(path: Path, key: Ed25519PrivateKey, schema: str, body: Mapping[str, Any]) -> None:
    """Write an intent; ``body`` has the ``log_id``."""
    signed = {"schema": schema, **body}
    signature = key.sign(canonical.json_bytes(signed)).hex()
    durable.write(path, canonical.json_bytes(signed | {"signature": signature}) + b"\n")


def read(path: Path, schema: str, log_id: str, public_key: bytes) -> dict[str, Any] | None:
    """Return the body of an intent that a crash has left, or that another process is just carrying out.

    Raises:
        LogError: It is damaged, or is not this log's.
    """
    if not os.path.lexists(path):
        return None
    try:
        body = canonical.parse_object(canonical.read_file(path))
        signature = bytes.fromhex(body.pop("signature"))
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, canonical.json_bytes(body))
        if body.pop("schema") == schema and body["log_id"] == log_id:
            return body
    except FileNotFoundError:
        # Another process has ended it between the two looks.
        return None
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise _not_ours(path, "other content, or another signature") from error
    raise _not_ours(path, "another log's")


def _not_ours(path: Path, seen: str) -> LogError:
    return LogError(
        f"{path.name} is not as this log wrote it",
        seen=seen,
        needed="what a crash left there, as it was, or no such file",
        fix=f"rlhf-audit verify LOG; remove {path.name} when you know why",
    )
