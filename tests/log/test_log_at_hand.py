"""Answers that are kept in memory: the same rows, whatever the pieces they are read in."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import small_log
from small_log import signing_key  # noqa: F401 - a fixture for every test here

from rlhf_audit.errors import LogError
from rlhf_audit.log import at_hand, compaction, store, view_sql, views
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import SeededEntropy

VIEWS = (*view_sql.of_rows(), *view_sql.of_ledger(datetime(2026, 1, 1, tzinfo=UTC)))


def made(root: Path, *, sealed: bool = False) -> Log:
    log = store.create(root, entropy=SeededEntropy(1), signing_key=small_log.KEY, sealed=sealed)
    small_log.terms.add(log)
    for seed in (3, 4):
        rater = small_log.join(log)
        for session in range(2):
            small_log.acts(log, rater, n=6, seed=10 * seed + session)
    return log


def rows(log: Log, **how: bool) -> list[list[dict[str, object]]]:
    with views.connect(log, log.clock.now(), **how) as connection:
        named = [f"SELECT * FROM {view} ORDER BY ALL" for view in VIEWS]
        return [views.query(connection, sql).to_pylist() for sql in named]


@pytest.mark.parametrize("piece", [1, 7, 250_000])
@pytest.mark.parametrize("how", ["plain", "sealed", "compacted"])
def test_the_same_rows_as_from_the_files(
    how: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = made(tmp_path / "log", sealed=how == "sealed")
    if how == "compacted":
        compaction.compact(log)
    expected = rows(log)
    assert {name: len(found) for name, found in zip(VIEWS, expected, strict=True)}["usable"] == 24
    monkeypatch.setattr(at_hand, "_PIECE", piece)
    assert rows(log, read_once=True) == expected


def test_what_is_kept_is_read_no_more(tmp_path: Path) -> None:
    log = made(tmp_path / "log")
    with views.connect(log, log.clock.now(), read_once=True) as connection:
        for path in (tmp_path / "log" / "feedback").rglob("*.parquet"):
            path.unlink()
        assert connection.execute("SELECT count(*) FROM usable_for_audit").fetchall() == [(24,)]


def test_an_empty_log_has_nothing_to_keep(tmp_path: Path) -> None:
    assert rows(small_log.empty(tmp_path / "log"), read_once=True)[0] == []


def test_it_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = made(tmp_path / "log")
    monkeypatch.setattr(at_hand, "_PIECE", 12)
    told: list[str] = []
    views.connect(log, log.clock.now(), read_once=True, progress=told.append).close()
    assert told == ["reading feedback (0 %)", "reading feedback (50 %)"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    log = made(tmp_path / "log")
    path = sorted((tmp_path / "log" / "feedback").rglob("*.parquet"))[2]
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(LogError, match=path.stem):
        views.connect(log, log.clock.now(), read_once=True)
