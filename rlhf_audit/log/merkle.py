"""The Merkle tree over the ledger's lines, and the two proofs that others can check without having them.

References:
    RFC 9162, section 2.1 (the same tree as RFC 6962's): leaves are hashed with a 0x00 byte before them, nodes
    with 0x01; inclusion proofs are section 2.1.3, consistency proofs section 2.1.4.
"""

import hashlib
import itertools
from collections.abc import Iterable, Sequence


def leaf_hash(line: bytes) -> bytes:
    """Return the 32-byte hash of one ledger line (without its newline)."""
    return hashlib.sha256(b"\x00" + line).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the 32-byte root over ``leaves`` (hashes), SHA-256 of nothing for an empty tree.

    >>> root([]).hex()[:8], root([leaf_hash(b"")]).hex()[:8]
    ('e3b0c442', '6e340b9c')
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        # Joining neighbours and carrying an odd last one up is RFC 6962's split at a power of two.
        joined = [_node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        level = joined + level[len(joined) * 2 :]
    return level[0]


class Tree:
    """A tree that grows a leaf at a time, and tells its root at any size without hashing it all again.

    >>> leaves = [leaf_hash(bytes([n])) for n in range(7)]
    >>> [Tree(leaves).root(n) == root(leaves[:n]) for n in range(8)] == [True] * 8
    True
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        # In row k the hashes over 2^k leaves each: only whole ones, so that none ever changes.
        self._rows: list[list[bytes]] = [[]]
        for leaf in leaves:
            self._append(leaf)

    def grown(self, leaves: Iterable[bytes]) -> "Tree":
        """Return a tree with more leaves; this one stays as it is."""
        tree = Tree()
        tree._rows = [row.copy() for row in self._rows]
        for leaf in leaves:
            tree._append(leaf)
        return tree

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first ``size`` leaves, or over all."""
        size = len(self._rows[0]) if size is None else size
        found: bytes | None = None
        for level, row in enumerate(self._rows):
            if size >> level & 1:
                whole = row[(size >> level) - 1]
                found = whole if found is None else hashlib.sha256(b"\x01" + whole + found).digest()
        return found or hashlib.sha256(b"").digest()

    def _append(self, leaf: bytes) -> None:
        for level in itertools.count():
            if level == len(self._rows):
                self._rows.append([])
            row = self._rows[level]
            row.append(leaf)
            if len(row) % 2:
                return
            leaf = hashlib.sha256(b"\x01" + row[-2] + row[-1]).digest()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return ``PATH(index, leaves)`` of section 2.1.3.1: the hashes that lead from a leaf to the root.

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), root(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), root(leaves[:k])]


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Return ``PROOF(first, leaves)`` of section 2.1.4.1: that the tree of ``first`` leaves begins this one.

    Nothing is to be shown of an empty tree, with which every other begins.

    Raises:
        IndexError: There are not so many leaves.
    """
    if not 0 <= first <= len(leaves):
        raise IndexError("not so many leaves")
    return _subproof(leaves, first, True) if first else []


def _subproof(leaves: Sequence[bytes], first: int, is_known: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if is_known else [root(leaves)]
    k = _split(len(leaves))
    if first <= k:
        return [*_subproof(leaves[:k], first, is_known), root(leaves[k:])]
    return [*_subproof(leaves[k:], first - k, False), root(leaves[:k])]


def includes(index: int, size: int, leaf: bytes, proof: Sequence[bytes], tree: bytes) -> bool:
    """Say whether a proof shows that ``leaf`` is number ``index`` under a root (section 2.1.3.2).

    Args:
        index: From 0.
        size: Of the tree, in leaves.
        leaf: 32-byte hash.
        proof: 32-byte hashes, as ``inclusion_proof`` gives them.
        tree: 32-byte root.
    """
    if not 0 <= index < size:
        return False
    fn, sn, found = index, size - 1, leaf
    for node in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            found = _node(node, found)
            fn, sn = _to_odd(fn, sn)
        else:
            found = _node(found, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and found == tree


def extends(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether a proof shows that a tree begins with all of an earlier one (section 2.1.4.2).

    Args:
        first: The earlier tree's size, in leaves.
        second: The later one's.
        first_root: 32 bytes.
        second_root: 32 bytes.
        proof: 32-byte hashes, as ``consistency_proof`` gives them.
    """
    if not 0 <= first <= second:
        return False
    if first in (0, second):
        needed = root([]) if first == 0 else second_root
        return not proof and first_root == needed and (second > 0 or second_root == needed)
    # Of a whole power of two the root itself is where the way begins: it is not sent.
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not proof:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    before = after = path[0]
    for node in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            before, after = _node(node, before), _node(node, after)
            fn, sn = _to_odd(fn, sn)
        else:
            after = _node(after, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and before == first_root and after == second_root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two that is less than ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _to_odd(fn: int, sn: int) -> tuple[int, int]:
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn
