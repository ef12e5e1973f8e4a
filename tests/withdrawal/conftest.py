import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

from small_log import remove_full, signing_key

__all__ = ["signing_key"]


@pytest.fixture(scope="session", autouse=True)
def _swept() -> Iterator[None]:
    yield
    remove_full()
