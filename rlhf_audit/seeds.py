"""Randomness: named children of one root seed, and fresh secrets."""

import hashlib
import secrets
from typing import Protocol

import numpy as np


def child_seed(root: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on ``root`` and the names only.

    >>> child_seed(0, "env", 3) == child_seed(0, "env", 3) != child_seed(0, "env", 4)
    True
    """
    text = "\0".join([str(root), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """Return an independent generator (Philox, the same on every machine) for a named use of ``root``."""
    return np.random.Generator(np.random.Philox(child_seed(root, *names)))


class Entropy(Protocol):
    """Source of pseudonyms, keys and codes."""

    def token(self, n_bytes: int) -> bytes:
        """Return ``n_bytes`` fresh bytes."""
        ...


class SystemEntropy:
    """The operating system's generator: the only one for real people."""

    def token(self, n_bytes: int) -> bytes:
        return secrets.token_bytes(n_bytes)


class SeededEntropy:
    """A repeatable source, for the sample log and for tests; never for a person's secrets."""

    def __init__(self, root: int) -> None:
        self._generator = generator(root, "entropy")

    def token(self, n_bytes: int) -> bytes:
        return self._generator.bytes(n_bytes)
