"""One panel and one document for all tests of reports: both are only read."""

from collections.abc import Callable
from typing import Any

import pytest
from report_panel import AS_OF, HEAD, Panel

from rlhf_audit.audits import runner
from rlhf_audit.reports import document, gather


@pytest.fixture(scope="session")
def document_of() -> Callable[..., dict[str, Any]]:
    """Give a function that makes the document of a panel, its rows in any order."""

    def make(panel: Panel, shuffle: int | None = None) -> dict[str, Any]:
        with panel.connect(shuffle) as connection:
            facts, points = gather.gather(connection, "0123456789abcdef", HEAD, AS_OF)
            return document.build(facts, runner.run(connection), points)

    return make


@pytest.fixture(scope="session")
def panel() -> Panel:
    return Panel(12)


@pytest.fixture(scope="session")
def report(panel: Panel, document_of: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return document_of(panel)
