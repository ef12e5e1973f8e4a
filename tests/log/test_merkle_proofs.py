"""RFC 9162's proofs: Certificate Transparency's vectors, the definition word by word, every wrong proof."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_audit.log import merkle

# Inputs, roots and proofs of certificate-transparency's merkle_tree_test.cc and transparency-dev/merkle.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
A, B, C, D = (
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
)
E, F = (
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
)
INCLUSION = [
    (0, 1, []),
    (0, 8, [A, B, C]),
    (5, 8, [D, E, F]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", B, D]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [A, B, C]),
    (6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", E, F]),
    (2, 5, [B, D]),
]


def published(size: int) -> list[bytes]:
    return [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:size]]


def made(size: int) -> list[bytes]:
    return [merkle.leaf_hash(bytes([number])) for number in range(size)]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    leaves = published(size)
    found = merkle.inclusion_proof(leaves, index)
    assert [node.hex() for node in found] == proof
    assert merkle.includes(index, size, leaves[index], found, merkle.root(leaves))


@pytest.mark.parametrize(("first", "second", "proof"), CONSISTENCY)
def test_published_consistency_proofs(first: int, second: int, proof: list[str]) -> None:
    leaves = published(second)
    found = merkle.consistency_proof(leaves, first)
    assert [node.hex() for node in found] == proof
    assert merkle.extends(first, second, merkle.root(leaves[:first]), merkle.root(leaves), found)


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def rebuilt(index: int, size: int, leaf: bytes, proof: list[bytes]) -> bytes:
    """The root that a proof leads to, by the tree's definition and nothing of section 2.1.3.2."""
    if size == 1:
        assert not proof
        return leaf
    k = 1
    while k * 2 < size:
        k *= 2
    if index < k:
        return node(rebuilt(index, k, leaf, proof[:-1]), proof[-1])
    return node(proof[-1], rebuilt(index - k, size - k, leaf, proof[:-1]))


@pytest.mark.parametrize("size", range(1, 71))
def test_every_inclusion_proof_of_every_size(size: int) -> None:
    leaves = made(size)
    root = merkle.root(leaves)
    for index in range(size):
        proof = merkle.inclusion_proof(leaves, index)
        assert rebuilt(index, size, leaves[index], proof) == root
        assert merkle.includes(index, size, leaves[index], proof, root)
        others = {(index + 1) % size, 0, size - 1} - {index}
        assert not any(merkle.includes(other, size, leaves[index], proof, root) for other in others)
        assert not merkle.includes(index, size, leaves[index - 1], proof, root) or size == 1
    with pytest.raises(IndexError):
        merkle.inclusion_proof(leaves, size)
    assert not merkle.includes(size, size, leaves[0], [], root)
    assert not merkle.includes(-1, size, leaves[0], [], root)


@pytest.mark.parametrize("second", range(71))
def test_every_consistency_proof_of_every_size(second: int) -> None:
    leaves = made(second)
    root = merkle.root(leaves)
    for first in range(second + 1):
        before, proof = merkle.root(leaves[:first]), merkle.consistency_proof(leaves, first)
        assert merkle.extends(first, second, before, root, proof)
        if first > 0:
            forked = [*leaves[: first - 1], merkle.leaf_hash(b"another")]
            assert not merkle.extends(first, second, merkle.root(forked), root, proof)
        if 0 < first < second:
            assert not merkle.extends(first + 1, second, before, root, proof)
            assert not merkle.extends(first, second, before, before, proof)
            assert not merkle.extends(second, first, root, before, proof)
    with pytest.raises(IndexError):
        merkle.consistency_proof(leaves, second + 1)


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 70), st.data())
def test_no_changed_proof_passes(size: int, data: st.DataObject) -> None:
    """A byte changed, a node lost, doubled, moved or added: in either kind of proof."""
    leaves = made(size)
    root, index = merkle.root(leaves), data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size - 1))
    before = merkle.root(leaves[:first])
    for proof, holds in (
        (
            merkle.inclusion_proof(leaves, index),
            lambda wrong: merkle.includes(index, size, leaves[index], wrong, root),
        ),
        (
            merkle.consistency_proof(leaves, first),
            lambda wrong: merkle.extends(first, size, before, root, wrong),
        ),
    ):
        at = data.draw(st.integers(0, len(proof) - 1))
        bit = data.draw(st.integers(0, 255))
        changed = (int.from_bytes(proof[at], "big") ^ (1 << bit)).to_bytes(32, "big")
        for wrong in (
            [*proof[:at], changed, *proof[at + 1 :]],
            [*proof[:at], *proof[at + 1 :]],
            [*proof[:at], proof[at], *proof[at:]],
            [*proof, bytes(32)],
            [bytes(32), *proof],
            proof[:at] + proof[at:][::-1],
        ):
            assert holds(wrong) == (wrong == proof)
