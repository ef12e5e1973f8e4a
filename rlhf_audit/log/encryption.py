"""What a rater gave, encrypted under a key that goes when their key file goes (``init --sealed``).

A copy on other media, a snapshot or a backup without the keys then says nothing any more.
"""

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from rlhf_audit.log import keys
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.layout import Layout, rater_in

_MAGIC = b"PARE"
"""With this a Parquet file begins whose footer is encrypted."""
_NONCE = 12
# DuckDB takes every page of a column chunk for the first one: there may only be one.
_ONE_PAGE = {"data_page_size": 1 << 30, "max_rows_per_page": 1 << 30, "write_batch_size": 1 << 20}


@dataclass(frozen=True)
class Cipher:
    """Encrypts and decrypts what one rater gave.

    Attributes:
        key: 32 bytes, for AES-256-GCM.

    References:
        Parquet modular encryption (AES_GCM_V1, one key for footer and columns); NIST SP 800-38D; RFC 5869.
    """

    key: bytes = field(repr=False)

    @property
    def name_in_sql(self) -> str:
        """The key as DuckDB's ``add_parquet_key`` takes it."""
        return base64.b64encode(self.key).decode()

    def parquet(self) -> dict[str, Any]:
        """Return the options with which ``pyarrow.parquet.ParquetWriter`` encrypts a file."""
        from pyarrow.parquet import encryption

        return {**_ONE_PAGE, "encryption_properties": encryption.create_encryption_properties(self.key)}

    def encrypt(self, data: bytes, about: str) -> str:
        """Return ``data`` encrypted, in base64; it opens only where ``about`` is the same."""
        nonce = os.urandom(_NONCE)
        return base64.b64encode(nonce + AESGCM(self.key).encrypt(nonce, data, about.encode())).decode()

    def decrypt(self, text: str, about: str) -> bytes:
        """Return what was encrypted.

        Raises:
            ValueError: It was not, or under another key, or about something else.
        """
        try:
            raw = base64.b64decode(text, validate=True)
            return AESGCM(self.key).decrypt(raw[:_NONCE], raw[_NONCE:], about.encode())
        except (InvalidTag, binascii.Error) as error:
            raise ValueError("encrypted under another key") from error


def of(key: RaterKey) -> Cipher:
    """Return the cipher of a rater: from their MAC key, and gone with it."""
    return Cipher(HKDFExpand(SHA256(), 32, b"rlhf_audit/1 sealed").derive(key.mac_key))


def of_rater(layout: Layout, rater_id: str) -> Cipher:
    """Return the cipher of a rater whose key is here.

    Raises:
        LogError: It is missing or damaged.
    """
    return of(keys.read(layout, rater_id))


def opened(layout: Layout, name: str) -> pq.ParquetFile:
    """Open a Parquet file of a log, encrypted or not.

    Args:
        layout: Of the log.
        name: The file as the ledger names it.

    Raises:
        LogError: It is encrypted, and its rater's key is missing or damaged.
        OSError: It can't be read, or not with that key.
        pyarrow.ArrowException: It is no Parquet.
    """
    path = layout.root / name
    with path.open("rb") as file:
        encrypted = file.read(len(_MAGIC)) == _MAGIC
    if not encrypted:
        return pq.ParquetFile(layout.for_arrow(path))
    from pyarrow.parquet import encryption

    cipher = of_rater(layout, rater_in(name))
    return pq.ParquetFile(path, decryption_properties=encryption.create_decryption_properties(cipher.key))
