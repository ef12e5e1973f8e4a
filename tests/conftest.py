"""What every test shares: withdrawal codes at a cost that suits throw-away raters."""

from collections.abc import Iterator

import pytest

from rlhf_audit.consent import codes

COST = dict(codes.SCRYPT)
"""The real cost, for what compares bytes with a log that was made outside of tests."""


@pytest.fixture(scope="session", autouse=True)
def _quick_codes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "SCRYPT", {"n": 16, "r": 8, "p": 1})
        yield


@pytest.fixture
def real_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash codes as the program does."""
    monkeypatch.setattr(codes, "SCRYPT", COST)
