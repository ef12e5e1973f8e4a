"""The ledger's benchmark runs, on a few rows: what it prints is there when somebody asks for it."""

import pytest

from benchmarks import ledger


def test_it_prints_every_figure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in {"RATERS": 2, "RUNS": 1, "SAMPLE": 1_000}.items():
        monkeypatch.setattr(ledger, name, few)
    ledger.main(80)
    told = capsys.readouterr().out
    assert told.count("rows/s") == 2
    assert all(way in told for way in ("ours", "SHA-256 chain", "RFC 6962", "Ed25519"))
