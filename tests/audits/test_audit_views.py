"""The audits on the locked views of a real, empty log, which have the columns of the tests' own."""

from datetime import UTC, datetime
from pathlib import Path

import audit_panel
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit.audits import runner
from rlhf_audit.clock import TickingClock
from rlhf_audit.log import store, views
from rlhf_audit.seeds import SeededEntropy

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def test_the_audits_run_on_the_views_of_a_log(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    log = store.create(tmp_path / "log", TickingClock(NOW), SeededEntropy(1), key)
    with views.connect(log, NOW) as connection:
        for view, columns in audit_panel.TABLES.items():
            found = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {view}").fetchall()}
            wanted = {name.strip('"'): kind for name, kind in columns.items()}
            wanted = {
                name: kind.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE") for name, kind in wanted.items()
            }
            assert wanted.items() <= found.items(), view
        results = runner.run(connection)
    assert not any(result.findings for result in results)
    rows = [row for result in results for row in result.rows]
    assert rows and all((row.n, row.value, row.note) == (0, None, "insufficient") for row in rows)
