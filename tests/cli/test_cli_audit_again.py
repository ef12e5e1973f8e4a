"""``audit`` beside a writer that merges files under it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from rlhf_audit.audits import runner
from rlhf_audit.errors import LogChangedError
from rlhf_audit.types import AuditResult

SAMPLE = Path(__file__).parents[2] / "sample_data" / "panel"


@pytest.mark.parametrize(("times", "code"), [(3, 0), (4, 4)])
def test_it_begins_again_when_the_log_has_changed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, code: int
) -> None:
    log = shutil.copytree(SAMPLE, tmp_path / "log")
    begun, run = [], runner.run

    def changing(connection: Any, ids: Sequence[str], *rest: Any) -> tuple[AuditResult, ...]:
        begun.append(connection)
        if len(begun) <= times:
            raise LogChangedError("the log has changed while it was read")
        return run(connection, ids, *rest)

    monkeypatch.setattr(runner, "run", changing)
    reply = cli("audit", log, "severity", "--fail-on", "never", "--json")
    assert reply.code == code
    # Each on a connection of its own.
    assert len(set(map(id, begun))) == len(begun) == min(times + 1, 4)
    if code == 0:
        assert reply.result["audits"][0]["rows"]
