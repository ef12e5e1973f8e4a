"""A sealed log says what a plain one says, to whom has the keys; to others what raters gave is noise."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compact_world
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_log
from small_log import signing_key  # noqa: F401 - a fixture for every test here

from rlhf_audit.cli.app import main
from rlhf_audit.clock import TickingClock
from rlhf_audit.consent import terms
from rlhf_audit.errors import LogError
from rlhf_audit.log import (
    compaction,
    encryption,
    journal,
    keys,
    reader,
    reopened,
    sealing,
    store,
    view_sql,
    viewed,
    views,
    writer,
)
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan

START = datetime(2026, 3, 4, 9, tzinfo=UTC)


def made(root: Path, *, sealed: bool) -> tuple[Log, list[str]]:
    """Two raters, four sessions, one of which taught; the same but for being sealed."""
    log = store.create(root, TickingClock(START), SeededEntropy(5), small_log.KEY, sealed=sealed)
    terms.add(log)
    raters = [small_log.join(log, alias=f"Quintessa Number {n}") for n in range(2)]
    first = small_log.acts(log, raters[0], n=4)
    small_log.rates(log, raters[1], first)
    small_log.acts(log, raters[0], n=3, seed=8)
    compact_world.learns(log, raters[1], n=2)
    return log, raters


def answer_files(log: Log) -> list[Path]:
    return sorted(log.layout.feedback.rglob("*.parquet"))


def test_whoever_has_the_keys_reads_what_a_plain_log_says(tmp_path: Path) -> None:
    plain, _ = made(tmp_path / "plain", sealed=False)
    sealed, _ = made(tmp_path / "sealed", sealed=True)
    assert (plain.is_sealed, sealed.is_sealed) == (False, True)
    expected = compact_world.everything(plain)
    assert compact_world.everything(sealed) == expected
    assert verify(sealed.layout.root).ok
    compaction.compact(sealed)
    assert compact_world.everything(sealed) == expected
    assert verify(sealed.layout.root).ok
    for path in answer_files(sealed):
        assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PARE"


def test_without_the_keys_nobody_reads_what_was_given(tmp_path: Path) -> None:
    log, _ = made(tmp_path / "log", sealed=True)
    words = [b"rating", b"s-0001-e0000", b"grant_id", b"answered_at"]
    plain, _ = made(tmp_path / "plain", sealed=False)
    table = pq.ParquetFile(answer_files(plain)[0]).read()
    clear = tmp_path / "clear.parquet"
    pq.write_table(table, clear, compression="none", use_dictionary=False)
    # They would be found, if they were there to be read.
    assert all(word in clear.read_bytes() for word in words)
    for path in answer_files(log):
        assert not any(word in path.read_bytes() for word in words)
        with pytest.raises((OSError, pa.ArrowException)):
            pq.ParquetFile(path)
    copy = tmp_path / "copy"
    shutil.copytree(log.layout.root, copy, ignore=shutil.ignore_patterns("keys"))
    with pytest.raises(LogError, match="key"):
        views.connect(Log(copy), START)
    with pytest.raises(LogError, match="key"):
        _ = reader.session(Log(copy), "s-0001").feedback


def test_a_copy_dies_with_the_key_that_an_erasure_destroys(tmp_path: Path) -> None:
    log, raters = made(tmp_path / "log", sealed=True)
    copy = tmp_path / "copy"
    shutil.copytree(log.layout.root, copy)
    erase.apply(log, raters[0])
    assert verify(log.layout.root).ok
    # The copy's files are all there; the key, which belongs in no backup, is what is gone.
    (copy / "keys" / f"{raters[0]}.key").unlink()
    assert list((copy / "feedback" / f"rater_id={raters[0]}").iterdir())
    with pytest.raises(LogError, match="missing"):
        _ = reader.session(Log(copy), "s-0001").feedback
    # The other's are read as before.
    assert reader.session(Log(copy), "s-0002").feedback == reader.session(log, "s-0002").feedback != ()


def test_an_open_session_holds_no_answer_in_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    found = {}
    for sealed in (True, False):
        log = store.create(
            tmp_path / str(sealed), TickingClock(START), SeededEntropy(5), small_log.KEY, sealed=sealed
        )
        terms.add(log)
        rater_id = small_log.join(log)
        with monkeypatch.context() as patched:
            patched.setattr(writer, "seal", kill)
            with pytest.raises(Killed):
                compact_world.learns(log, rater_id, n=3)
        events = (log.layout.journal_folder("s-0001") / "events.jsonl").read_bytes()
        assert all((word in events) != sealed for word in (b'"value"', b"answered_at", b'"sha256"'))
        left = reopened.read(log.layout, "s-0001")
        assert left is not None and left.n_feedback == 3 and len(left.learnt or ()) == 3
        log = Log(log.layout.root, log.clock, signing_key=small_log.KEY)
        with log.writing():
            assert writer.recover(log) == ["s-0001"]
        found[sealed] = reader.session(log, "s-0001").feedback
        assert verify(log.layout.root).ok
    assert found[True] == found[False] and len(found[True]) == 3


def test_an_open_session_whose_key_is_gone_is_named_and_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = store.create(tmp_path / "log", TickingClock(START), SeededEntropy(5), small_log.KEY, sealed=True)
    terms.add(log)
    rater_id = small_log.join(log)
    with monkeypatch.context() as patched:
        patched.setattr(writer, "seal", lambda *_: False)
        small_log.acts(log, rater_id, n=2)
    key_file = log.layout.key_file(rater_id)
    kept = key_file.read_bytes()
    key_file.unlink()
    with pytest.raises(LogError, match="missing"):
        list(journal.read(log.layout, "s-0001"))
    assert not verify(log.layout.root).ok
    key_file.write_bytes(kept)
    assert plan.make(log, rater_id).rows == 2
    erase.apply(log, rater_id)
    assert not list(log.layout.journal.iterdir()) and verify(log.layout.root).ok


@pytest.mark.parametrize("n_rows", [0, 1, 20_001, 70_000])
def test_duckdb_reads_files_of_any_length(tmp_path: Path, n_rows: int) -> None:
    cipher = encryption.Cipher(bytes(range(32)))
    table = pa.table(
        {"row": np.arange(n_rows), "kind": ["rating"] * n_rows, "none": pa.nulls(n_rows, pa.string())}
    )
    path = tmp_path / "file.parquet"
    sealing.write(path, table, table.schema, row_group_size=30_000, use_dictionary=False, **cipher.parquet())
    with duckdb.connect() as connection:
        connection.execute(f"PRAGMA add_parquet_key('k', '{cipher.name_in_sql}')")
        read = f"read_parquet('{path}', encryption_config = {{footer_key: 'k'}})"
        found = connection.sql(f"SELECT count(*), coalesce(sum(row), 0), count(none) FROM {read}").fetchall()
    assert found == [(n_rows, n_rows * (n_rows - 1) // 2, 0)]


_QUERIES = (
    "SELECT row, kind FROM rows WHERE row = 7",
    "SELECT row, kind FROM rows ORDER BY row DESC LIMIT 3",
    "SELECT max(row), min(none) FROM rows WHERE kind = 'skip'",
    "SELECT count(*) FROM rows AS a JOIN rows AS b ON a.row = b.row + 1 WHERE b.kind = 'skip'",
    "SELECT kind, count(*), sum(row) FROM rows WHERE row % 3 = 1 GROUP BY kind ORDER BY kind",
    "SELECT row FROM rows WHERE row IN (SELECT row * 2 FROM rows WHERE kind = 'skip') ORDER BY row LIMIT 5",
    "SELECT row FROM rows QUALIFY row_number() OVER (PARTITION BY kind ORDER BY row) = 2 ORDER BY row",
    "SELECT row FROM rows LIMIT 3 OFFSET 11111",
)


@pytest.mark.parametrize("query", _QUERIES)
def test_filters_and_sorts_pass_over_nothing(tmp_path: Path, query: str) -> None:
    """DuckDB's own reading of encrypted files fails where a filter lets it pass over values."""
    cipher = encryption.Cipher(bytes(range(32)))
    kinds = ["skip" if n % 5 == 0 else "rating" for n in range(12_000)]
    table = pa.table({"row": np.arange(12_000), "kind": kinds, "none": pa.nulls(12_000, pa.string())})
    path = tmp_path / "feedback" / "rater_id=r-00000000" / "s-0001.parquet"
    sealing.write(path, table, table.schema, row_group_size=5_000, use_dictionary=False, **cipher.parquet())
    kind = viewed.Kind("feedback_rows")
    with duckdb.connect() as connection:
        connection.execute(f"PRAGMA add_parquet_key('r-00000000', '{cipher.name_in_sql}')")
        (select,) = view_sql.selects(kind, [path], sealed=True)
        connection.execute(f"CREATE VIEW rows AS {select}")
        found = connection.sql(query).fetchall()
        connection.execute("DROP VIEW rows")
        connection.register("rows", table)
        assert found == connection.sql(query).fetchall() != []


def test_another_raters_key_opens_nothing(tmp_path: Path) -> None:
    log, raters = made(tmp_path / "log", sealed=True)
    ours, other = (encryption.of_rater(log.layout, rater_id) for rater_id in raters)
    text = ours.encrypt(b"yes", "s-0001")
    assert ours.decrypt(text, "s-0001") == b"yes"
    for cipher, about, changed in (
        (other, "s-0001", text),
        (ours, "s-0002", text),
        (ours, "s-0001", text[:-8]),
    ):
        with pytest.raises(ValueError):
            cipher.decrypt(changed, about)
    with pytest.raises(ValueError):
        ours.decrypt("no base64!", "s-0001")
    # Equal answers don't look alike.
    assert ours.encrypt(b"yes", "s-0001") != text
    one, two = (next(iter(log.layout.rater_folder(rater_id).iterdir())) for rater_id in raters)
    one.write_bytes(two.read_bytes())
    assert log.layout.relative(one) in {problem.file for problem in verify(log.layout.root).problems}
    with pytest.raises(LogError, match="can't be read"):
        _ = reader.session(log, "s-0001").feedback


def test_the_printed_sql_asks_for_the_keys_and_does_not_hold_them(tmp_path: Path) -> None:
    log, raters = made(tmp_path / "log", sealed=True)
    text = view_sql.script(log, START)
    for rater_id in raters:
        cipher = encryption.of_rater(log.layout, rater_id)
        assert cipher.name_in_sql not in text and keys.read(log.layout, rater_id).mac_key.hex() not in text
        asked = f"-- PRAGMA add_parquet_key('{rater_id}', 'the key of {rater_id}, in base64');"
        assert asked in text
        text = text.replace(asked, f"PRAGMA add_parquet_key('{rater_id}', '{cipher.name_in_sql}');")
    with duckdb.connect() as connection:
        connection.execute(text)
        found = connection.sql("SELECT count(*) FROM feedback").fetchall()
    assert found == [(sum(facts["n_feedback"] for facts in log.whereabouts.sessions.values()),)]


def test_init_makes_a_sealed_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "log"), "--sealed"]) == 0
    assert main(["verify", str(tmp_path / "log")]) == 0
    assert Log(tmp_path / "log").is_sealed
