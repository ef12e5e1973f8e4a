"""Reading a policy back: nothing is believed but what fits together, and no room is made for a claim."""

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_audit import canonical
from rlhf_audit.errors import DigestMismatchError, LogError, UsageError
from rlhf_audit.policy import store
from rlhf_audit.policy.network import NetworkSpec, initial_weights, weight_names, weights_sha256

SPEC = NetworkSpec(4, 2, (8,))
WEIGHTS = initial_weights(SPEC, 1)
BOX = {"type": "Box", "dtype": "float32", "shape": [4], "low": ["-inf"] * 4, "high": ["inf"] * 4}
DISCRETE = {"type": "Discrete", "dtype": "int64", "shape": [], "n": 2, "start": 0}
ENV = {"env_id": "CartPole-v1", "observation_space": BOX, "action_space": DISCRETE}
MANIFEST: dict[str, Any] = {
    "schema": "rlhf_audit.policy/1",
    "name": "p",
    "log_id": "x",
    "log_head": {},
    "env": ENV,
    "network": SPEC.to_json(),
    "weights": list(weight_names(SPEC)),
    "weights_sha256": weights_sha256(WEIGHTS),
    "algorithm": "likelihood",
    "parameters": {},
    "seed": 0,
    "mode": "offline",
    "recipe": {},
    "rows": 1,
    "raters": [],
    "sessions": [],
    "files": [],
}


def packed(arrays: Any, kind: int = zipfile.ZIP_STORED, names: Any = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, array in arrays:
            member = io.BytesIO()
            np.lib.format.write_array(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def folder(path: Path, manifest: Any = MANIFEST, weights: bytes | None = None) -> Path:
    path.mkdir()
    raw = manifest if isinstance(manifest, bytes) else canonical.json_bytes(manifest)
    (path / store.MANIFEST).write_bytes(raw)
    (path / store.WEIGHTS).write_bytes(packed(WEIGHTS) if weights is None else weights)
    return path


def test_a_policy_is_read_back(tmp_path: Path) -> None:
    found = store.load(folder(tmp_path / "p"))
    assert found.spec == SPEC and found.weights_sha256 == MANIFEST["weights_sha256"]
    assert weights_sha256(found.weights) == weights_sha256(WEIGHTS)
    found.weights[0][1][0, 0] = 1.0  # a copy of one's own


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no policy"):
        store.load(tmp_path / "none")


def test_other_weights_of_the_same_shape(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError):
        store.load(folder(tmp_path / "p", weights=packed(initial_weights(SPEC, 2))))


def _with(change: Callable[[Any], Any]) -> tuple[dict[str, Any], bytes]:
    """A policy that agrees with itself: its digest is that of the changed weights."""
    arrays = tuple((name, change(array)) for name, array in WEIGHTS)
    return MANIFEST | {"weights_sha256": weights_sha256(arrays)}, packed(arrays)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nan": lambda a: a * np.float32(np.nan),
    "infinite": lambda a: a + np.float32(np.inf),
    "flat": lambda a: a.reshape(-1, 1),
    "transposed": lambda a: np.ascontiguousarray(a.T)[..., None],
    "double": lambda a: a.astype(np.float64),
    "whole": lambda a: a.astype(np.int32),
    "complex": lambda a: a.astype(np.complex64),
    "text": lambda a: a.astype("U5"),
    "true": lambda a: a > 0,
    "empty": lambda a: a[:0],
    "big-endian": lambda a: a.astype(">f4"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_weights_that_are_not_the_networks(tmp_path: Path, name: str) -> None:
    manifest, raw = _with(CHANGES[name])
    with pytest.raises(LogError, match="the policy p can't be read"):
        store.load(folder(tmp_path / "p", manifest, raw))


def _flagged(raw: bytes, local: int, central: int, value: int) -> bytes:
    """The archive with one byte of each member's two headers changed."""
    changed = bytearray(raw)
    for mark, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + offset] = value
            at = changed.find(mark, at + 4)
    return bytes(changed)


def _huge() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, _ in WEIGHTS:
            member = io.BytesIO()
            header = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
            np.lib.format.write_array_header_1_0(member, header)
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "garbage": lambda: bytes(range(256)) * 3,
    "encrypted": lambda: _flagged(packed(WEIGHTS), 6, 8, 1),
    "odd compression": lambda: _flagged(packed(WEIGHTS), 8, 10, 99),
    "compressed": lambda: packed(WEIGHTS, zipfile.ZIP_DEFLATED),
    "compressed badly": lambda: packed(WEIGHTS, zipfile.ZIP_LZMA).replace(b"\x00" * 8, b"\x5d" * 8),
    "huge": _huge,
    "a member too few": lambda: packed(WEIGHTS[:-1]),
    "a member too many": lambda: packed([*WEIGHTS, ("x", np.zeros(9))]),
    "a member twice": lambda: packed([*WEIGHTS[:-1], WEIGHTS[0]]),
    "cut short": lambda: packed(WEIGHTS)[:-30],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_none_of_ours(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path / "p", weights=ARCHIVES[name]())
    tracemalloc.start()
    try:
        with pytest.raises(LogError, match="the policy p can't be read"):
            store.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


NETWORKS: tuple[Any, ...] = (
    None, [], {}, {"hidden": [8]}, SPEC.to_json() | {"hidden": []}, SPEC.to_json() | {"hidden": [3, 3]},
    SPEC.to_json() | {"hidden": [10**12]}, SPEC.to_json() | {"hidden": ["8"]},
    SPEC.to_json() | {"hidden": [-8]},
    SPEC.to_json() | {"n_actions": 0}, SPEC.to_json() | {"observation_dim": 6}, SPEC.to_json() | {"x": 1},
)  # fmt: skip
ENVS: tuple[Any, ...] = (
    None, [], {}, "CartPole-v1", {"env_id": 5}, ENV | {"env_id": 5},
    ENV | {"action_space": DISCRETE | {"n": 3}},
    ENV | {"action_space": DISCRETE | {"type": []}}, ENV | {"action_space": []},
    ENV | {"action_space": {"type": "MultiBinary", "dtype": "int8", "shape": [10**12]}},
    ENV | {"action_space": BOX | {"shape": [-1]}}, ENV | {"action_space": BOX | {"low": {}}},
    ENV | {"observation_space": {"shape": 4}}, ENV | {"observation_space": None},
    ENV | {"observation_space": BOX | {"shape": [10**12, 2]}},
    ENV | {"observation_space": BOX | {"dtype": "x"}},
    ENV | {"observation_space": {"type": "Dict", "spaces": [5]}},
    ENV | {"observation_space": {"type": "Tuple", "spaces": [BOX, {"type": "Text"}]}},
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *({"network": one} for one in NETWORKS),
        *({"env": one} for one in ENVS),
        {"weights": []},
        {"weights": 5},
        {"weights": MANIFEST["weights"][::-1]},
        {"schema": "rlhf_audit.policy/2"},
        {"seed": True},
        {"weights_sha256": 5},
    ],
)
def test_a_manifest_that_does_not_fit(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(LogError, match="the policy p can't be read") as caught:
        store.load(folder(tmp_path / "p", MANIFEST | change))
    assert caught.value.seen and caught.value.needed and caught.value.fix


@pytest.mark.parametrize("name", MANIFEST)
def test_a_manifest_without_a_field(tmp_path: Path, name: str) -> None:
    with pytest.raises(LogError, match="can't be read"):
        store.load(folder(tmp_path / "p", {key: value for key, value in MANIFEST.items() if key != name}))


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b'{"seed":NaN}', b'{"a":"\\ud800"}'],
)
def test_a_manifest_that_is_no_json(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(LogError, match="can't be read"):
        store.load(folder(tmp_path / "p", raw))


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    raw = json.dumps(MANIFEST)[:-1].encode() + b',"seed":1}'
    with pytest.raises(LogError, match="can't be read"):
        store.load(folder(tmp_path / "p", raw))
