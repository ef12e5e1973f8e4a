"""A policy's folder: weights, manifest and card."""

import io
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit import canonical
from rlhf_audit.errors import DigestMismatchError, LogError, UsageError
from rlhf_audit.log import durable, placing
from rlhf_audit.policy.manifest import Manifest, card
from rlhf_audit.policy.manifest import read as read_manifest
from rlhf_audit.policy.network import NetworkSpec, weight_shapes, weights_sha256
from rlhf_audit.types import Weights

WEIGHTS, MANIFEST, CARD = _FILES = "weights.npz", "manifest.json", "CARD.md"
# Of a file that is being put in place.
_UNDER_WAY = (placing.STAGED_SUFFIX, placing.STAGED_SUFFIX + durable.TEMPORARY_SUFFIX)


@dataclass(frozen=True)
class StoredPolicy:
    """A policy read back, its digest checked."""

    spec: NetworkSpec
    weights: Weights
    weights_sha256: str
    manifest: Mapping[str, Any]


def files(weights: Weights, manifest: Manifest) -> dict[str, bytes]:
    """Return a policy's files, name and content: always the same bytes for the same policy."""
    return {
        WEIGHTS: _pack(weights),
        MANIFEST: canonical.json_bytes(manifest.to_json()) + b"\n",
        CARD: card(manifest).encode(),
    }


def check_free(folder: Path) -> None:
    """Refuse a folder that a policy may not be put into; to be asked before hours of work.

    Raises:
        UsageError: It holds something that is not a policy, or is no folder.
        OSError: Nothing can be written there.
    """
    taken = folder.is_symlink() or any(
        path.exists() and not path.is_dir() for path in (folder, *folder.parents)
    )
    own = {*_FILES, *(name + suffix for name in _FILES for suffix in _UNDER_WAY)}
    if taken or (folder.is_dir() and any(path.name not in own for path in folder.iterdir())):
        raise UsageError(
            f"{os.fspath(folder)!r} holds something else",
            seen="files that are no policy's, a link, or no folder at all",
            needed="a new name, or a policy to replace",
            fix="--to policies/ANOTHER-NAME",
        )
    durable.check_writable(folder)


def destroy(folder: Path) -> None:
    """Overwrite and remove a policy; somebody else's files in its folder are left alone."""
    if folder.is_dir() and not folder.is_symlink():
        for name in _FILES:
            for suffix in ("", *_UNDER_WAY):
                durable.destroy(folder / (name + suffix))
        if not any(folder.iterdir()):
            folder.rmdir()
            durable.sync_folder(folder.parent)


def load(folder: Path) -> StoredPolicy:
    """Read a policy and check its digest.

    Raises:
        UsageError: There is none.
        LogError: A file of it is damaged.
        DigestMismatchError: The weights are not those of the manifest.
    """
    again = f"rlhf-audit retrain LOG --to {os.fspath(folder)}"
    try:
        manifest, spec = read_manifest(canonical.read_file(folder / MANIFEST))
        weights = _unpack(canonical.read_file(folder / WEIGHTS), spec)
        needed = manifest["weights_sha256"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"there is no policy in {os.fspath(folder)!r}",
            seen=f"no {MANIFEST}, or no {WEIGHTS}",
            needed="a folder that retrain or record --learn --to has written",
            fix=again,
        ) from error
    except PermissionError:
        raise
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, struct.error) as error:
        # All that zipfile may make of bytes that are none of its own.
        raise _damaged(folder, str(error) if isinstance(error, ValueError) else "damaged files") from error
    found = weights_sha256(weights)
    if found != needed:
        raise DigestMismatchError(
            f"the weights of {folder.name} are not those of its manifest",
            seen=found[:16],
            needed=needed[:16],
            fix=again,
        )
    if not all(np.isfinite(array).all() for _, array in weights):
        raise _damaged(folder, "weights that are not numbers")
    return StoredPolicy(spec, weights, found, manifest)


def _damaged(folder: Path, seen: str) -> LogError:
    return LogError(
        f"the policy {folder.name} can't be read",
        seen=seen,
        needed=f"{MANIFEST} and {WEIGHTS} as they were written, of one shape",
        fix=f"rlhf-audit retrain LOG --to {os.fspath(folder)}",
    )


def _unpack(raw: bytes, spec: NetworkSpec) -> Weights:
    """Return the weights that ``_pack`` wrote; nothing is believed, or made room for, but what ``spec`` says.

    Raises:
        ValueError: They are others.
    """
    wanted = weight_shapes(spec)
    weights = []
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        if archive.namelist() != [f"{name}.npy" for name, _ in wanted]:
            raise ValueError("weights of other names than the network has")
        for (name, shape), member in zip(wanted, archive.infolist(), strict=True):
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(raw):
                raise ValueError("weights that were packed otherwise")
            data = archive.read(member)
            start = 10 + int.from_bytes(data[8:10], "little")
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
            # Not np.load: it would make room for whatever a header claims.
            if data[:8] != b"\x93NUMPY\x01\x00" or data[10:start].decode("latin-1").strip() != header:
                raise ValueError("weights of another shape or type than the network's")
            if len(data) - start != 4 * math.prod(shape):
                raise ValueError("weights that are cut short, or go on")
            weights.append((name, np.frombuffer(data, "<f4", offset=start).reshape(shape).copy()))
    return tuple(weights)


def _pack(weights: Weights) -> bytes:
    # Not np.savez: its members carry the time of writing on some versions; these bytes are always the same.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in weights:
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return buffer.getvalue()
