"""A policy's folder: weights, manifest and card, put in place all at once."""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit import canonical
from rlhf_audit.errors import DigestMismatchError, LogError, UsageError
from rlhf_audit.log import durable
from rlhf_audit.policy.manifest import Manifest, card
from rlhf_audit.policy.network import NetworkSpec, weights_sha256
from rlhf_audit.types import Weights

WEIGHTS, MANIFEST, CARD = _FILES = "weights.npz", "manifest.json", "CARD.md"


@dataclass(frozen=True)
class StoredPolicy:
    """A policy read back, its digest checked."""

    spec: NetworkSpec
    weights: Weights
    weights_sha256: str
    manifest: Mapping[str, Any]


def save(folder: Path, weights: Weights, manifest: Manifest) -> dict[str, str]:
    """Write a policy's folder in place of what is there; return each file's SHA-256.

    Raises:
        UsageError: ``folder`` holds something that is not a policy.
    """
    check_free(folder)
    files = {
        WEIGHTS: _pack(weights),
        MANIFEST: canonical.json_bytes(manifest.to_json()) + b"\n",
        CARD: card(manifest).encode(),
    }
    durable.make_folder(folder.parent)
    coming, going = _beside(folder)
    for leftover in (coming, going):
        durable.destroy_tree(leftover)
    coming.mkdir()
    for name, data in files.items():
        durable.write(coming / name, data)
    if folder.exists():
        folder.rename(going)
    coming.rename(folder)
    durable.sync_folder(folder.parent)
    durable.destroy_tree(going)
    return {name: canonical.sha256_hex(data) for name, data in files.items()}


def check_free(folder: Path) -> None:
    """Refuse a folder that a policy may not be put into; to be asked before hours of work.

    Raises:
        UsageError: It holds something that is not a policy, or is no folder.
    """
    taken = folder.is_symlink() or any(
        path.exists() and not path.is_dir() for path in (folder, *folder.parents)
    )
    own = {*_FILES, *(name + durable.TEMPORARY_SUFFIX for name in _FILES)}
    places = [place for place in (folder, *_beside(folder)) if place.is_dir()]
    if taken or any(path.name not in own for place in places for path in place.iterdir()):
        raise UsageError(
            f"{os.fspath(folder)!r} holds something else", needed="a new name, or a policy to replace"
        )


def destroy(folder: Path) -> None:
    """Overwrite and remove a policy, and what an interrupted ``save`` may have left beside it.

    Somebody else's files in these places are left alone.
    """
    for path in (folder, *_beside(folder)):
        if path.is_dir() and not path.is_symlink():
            for name in _FILES:
                durable.destroy(path / name)
                durable.destroy(path / (name + durable.TEMPORARY_SUFFIX))
            if not any(path.iterdir()):
                path.rmdir()
                durable.sync_folder(path.parent)


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def load(folder: Path) -> StoredPolicy:
    """Read a policy and check its digest.

    Raises:
        UsageError: There is none.
        LogError: A file of it is damaged.
        DigestMismatchError: The weights are not those of the manifest.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        with np.load(folder / WEIGHTS, allow_pickle=False) as archive:
            weights: Weights = tuple((name, archive[name]) for name in manifest["weights"])
        spec = NetworkSpec.from_json(manifest["network"])
        needed = str(manifest["weights_sha256"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"there is no policy in {os.fspath(folder)!r}",
            needed="a folder that retrain or record --learn --to has written",
            fix=f"rlhf-audit retrain LOG --to {os.fspath(folder)}",
        ) from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise LogError(f"the policy {folder.name} can't be read", fix="retrain it") from error
    found = weights_sha256(weights)
    if found != needed:
        raise DigestMismatchError(
            f"the weights of {folder.name} are not those of its manifest",
            seen=found[:16],
            needed=needed[:16],
            fix=f"rlhf-audit retrain LOG --to {os.fspath(folder)}",
        )
    return StoredPolicy(spec, weights, found, manifest)


def _pack(weights: Weights) -> bytes:
    # Not np.savez: its members carry the time of writing on some versions; these bytes are always the same.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in weights:
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return buffer.getvalue()
