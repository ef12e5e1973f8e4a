"""The Merkle tree over the ledger's lines.

References:
    RFC 6962, section 2.1: leaves are hashed with a 0x00 byte before them, nodes with 0x01.
"""

import hashlib
from collections.abc import Sequence


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
        joined = [
            hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level = joined + level[len(joined) * 2 :]
    return level[0]
