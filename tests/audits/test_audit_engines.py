"""Where audits run: DuckDB in pieces, in any order and with any threads."""

import random
from typing import Any

import audit_panel
import duckdb
import pytest

from rlhf_audit.audits import engines, prepared
from rlhf_audit.audits.engines import DuckDBEngine

RATERS = [f"r-{number:08x}" for number in range(12)]


def ratings(seed: int = 3) -> list[dict[str, Any]]:
    """Return ratings and comparisons of a dozen raters, many of them given twice."""
    rng = random.Random(seed)
    found: list[dict[str, Any]] = []
    for rater in RATERS:
        for number in range(60):
            own = {"rater": rater, "item": f"e-{rng.randrange(9)}:{rng.randrange(5)}", "value": rng.random()}
            own |= {"session_n": rng.randrange(1, 4), "row": number, "latency_s": rng.choice([1.0, 2.0, 3.0])}
            if number % 3 == 0:
                own |= {"kind": "comparison", "value": rng.choice([0, 0.5, 1]), "n_steps": 5}
                own |= {"other_episode_id": f"e-{rng.randrange(9)}", "other_step": rng.randrange(5)}
            else:
                own["action"] = int(own["item"][-1]) % 2
            found.append(own)
    return found


def made(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()


def files(rows: int) -> list[dict[str, Any]]:
    # One of the raters is named by no file.
    return [{"path": "f", "session_id": "s", "rater_id": rater, "rows": rows} for rater in RATERS[1:]]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("piece", [1, 150, 10_000])
def test_in_pieces_and_by_any_threads_the_bits_of_the_plain_views(
    monkeypatch: pytest.MonkeyPatch, piece: int, threads: int
) -> None:
    given = ratings()
    with audit_panel.connect(given) as plain:
        plain.execute(prepared.script())
        expected = {
            name: made(plain, name)
            for name in ("answers", "items", "ratings", "compositions", "same_answers", "pair_answers")
        }
    monkeypatch.setattr(engines, "_PIECE", piece)
    monkeypatch.setattr(engines, "BLOCK", piece)
    random.Random(piece).shuffle(given)
    with audit_panel.connect(given, threads=threads, files=files(60)) as connection:
        engine = DuckDBEngine(connection)
        for one in prepared.load().values():
            engine.prepare(one)
        assert {name: made(connection, name) for name in expected} == expected


def test_blocks_are_as_large_as_the_sql_has_them() -> None:
    by_block = [one for one in prepared.load().values() if one.parts is prepared.Parts.BLOCKS]
    assert by_block
    for one in by_block:
        assert f"floor((item - 1) / {prepared.BLOCK}) AS block" in one.sql


def test_nothing_is_kept_that_nobody_reads() -> None:
    with audit_panel.connect(ratings(), files=files(60)) as connection:
        engine = DuckDBEngine(connection)
        for one in prepared.load().values():
            engine.prepare(one)
        kept = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'prepared'")
        assert {name for (name,) in kept.fetchall()} == {
            "items", "ratings", "rater_groups", "compositions", "same_answers", "pair_answers",
        }  # fmt: skip


def test_what_is_kept_is_compressed() -> None:
    with audit_panel.connect(ratings(), files=files(60)) as connection:
        engine = DuckDBEngine(connection)
        for one in prepared.load().values():
            engine.prepare(one)
        ways = connection.execute(
            "SELECT compression FROM pragma_storage_info('prepared.ratings') WHERE column_name = 't'"
        )
        assert "Uncompressed" not in {way for (way,) in ways.fetchall()}
