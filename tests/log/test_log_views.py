"""The views: they agree with the register, can't be led outside, and are one text for any DuckDB shell."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.clock import from_text
from rlhf_audit.consent import register, terms
from rlhf_audit.errors import LogError
from rlhf_audit.log import store, view_sql, views
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

VIEWS = [
    "ledger",
    "sessions",
    "files",
    "erasures",
    "withdrawals",
    "grants",
    "raters",
    "policies",
    "reports",
    "exports",
    "episodes",
    "steps",
    "feedback",
    "usable",
    "usable_for_training",
    "usable_for_audit",
]
START = datetime(2026, 3, 4, tzinfo=UTC)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    return connection.sql(sql).to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Log, list[datetime]]:
    """A year and a half of giving, refusing, withdrawing in part and whole, and giving again."""
    clock = Hand()
    log = store.create(tmp_path_factory.mktemp("views") / "log", clock, SeededEntropy(3), small_log.KEY)
    terms.add(log)
    a, b, c, d = (small_log.join(log, purposes=()) for _ in range(4))
    every = tuple(Purpose)
    moments = [START, clock.now()]

    def later(days: float) -> None:
        moments.extend([clock.now(), clock.at + timedelta(microseconds=1)])
        clock.at += timedelta(days=days)
        moments.append(clock.now())

    register.give(log, a, every, "scripted")
    register.give(log, b, [Purpose.AUDIT], "scripted")
    register.refuse(log, c, every, "scripted")
    later(10)
    first = small_log.acts(log, a, n=5)
    small_log.rates(log, b, first)
    register.withdraw(log, a, [Purpose.TRAINING])
    later(100)
    register.give(log, a, [Purpose.TRAINING], "scripted")
    register.give(log, c, [Purpose.TRAINING], "scripted")
    small_log.rates(log, c, first)
    later(200)
    register.withdraw(log, c)
    register.give(log, d, [Purpose.AUDIT, Purpose.TRAINING], "scripted")
    small_log.rates(log, d, first)
    later(60)
    register.give(log, b, every, "scripted")
    later(100)
    for entry in log.ledger.of("consent"):
        end = from_text(entry.body["expires_at"])
        moments += [end - timedelta(microseconds=1), end, end + timedelta(microseconds=1)]
    return log, sorted(moments)


def test_the_views_agree_with_the_register_at_every_moment(eventful: tuple[Log, list[datetime]]) -> None:
    log, moments = eventful
    seen = set()
    for as_of in moments:
        with views.connect(log, as_of) as connection:
            found = rows(connection, "SELECT * FROM grants ORDER BY grant_id")
            used = {
                name: {
                    (row["session_id"], row["row"])
                    for row in rows(connection, f"SELECT session_id, row FROM usable_for_{name}")
                }
                for name in ("training", "audit")
            }
            given = rows(connection, "SELECT session_id, row, grant_id, answered_at FROM feedback")
        needed = register.standings(log, as_of)
        assert [
            (r["grant_id"], r["rater_id"], r["state"], r["purposes"], r["given_at"], r["expires_at"])
            for r in found
        ] == [
            (s.grant_id, s.rater_id, s.state.value, sorted(s.purposes), s.given_at, s.expires_at)
            for s in needed
        ]
        grants = {standing.grant_id: standing for standing in needed}
        for purpose in (Purpose.TRAINING, Purpose.AUDIT):
            assert used[purpose.value] == {
                (row["session_id"], row["row"])
                for row in given
                if grants[row["grant_id"]].state == "given" and purpose in grants[row["grant_id"]].purposes
            }
        seen |= {standing.state.value for standing in needed}
    assert seen == {"given", "refused", "withdrawn", "expired"}


def test_groups_are_shown_only_under_consent_to_audits(eventful: tuple[Log, list[datetime]]) -> None:
    log, moments = eventful
    shown = set()
    for as_of in moments[::3]:
        with views.connect(log, as_of) as connection:
            found = {row["rater_id"]: row["groups"] for row in rows(connection, "SELECT * FROM raters")}
        covered = {
            standing.rater_id
            for standing in register.standings(log, as_of)
            if standing.state == "given" and Purpose.AUDIT in standing.purposes
        }
        assert {rater_id for rater_id, groups in found.items() if groups} == covered
        shown.add(len(covered))
    assert len(shown) > 2


OUTSIDE = [
    "SELECT * FROM read_text('{root}/keys/{rater}.key')",
    "SELECT * FROM read_blob('{root}/keys/{rater}.key')",
    "SELECT * FROM read_csv('{root}/keys/{rater}.key')",
    "SELECT * FROM read_json('{root}/keys/{rater}.key')",
    "SELECT * FROM '{root}/keys/{rater}.key'",
    "SELECT * FROM read_text('{root}/feedback/../keys/{rater}.key')",
    "SELECT * FROM read_text('{root}/feedback/rater_id={rater}/../../keys/{rater}.key')",
    "SELECT * FROM glob('{root}/keys/*')",
    "SELECT * FROM read_text('{root}/log.json')",
    "SELECT * FROM read_text('{root}/ledger/entries.jsonl')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('https://127.0.0.1:9/x.csv')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "COPY (SELECT 1) TO '{root}/keys/out.csv'",
    "COPY (SELECT 1) TO '{root}/ledger/entries.jsonl'",
    "COPY (SELECT 1) TO '{outside}/out.csv'",
    "COPY ledger FROM '{root}/log.json'",
    "EXPORT DATABASE '{outside}/out'",
    "IMPORT DATABASE '{outside}/out'",
    "ATTACH '{outside}/out.db' AS out",
    "ATTACH '{root}/keys/out.db' AS out",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET allowed_directories = ['/']",
    "SET threads = 4",
    "RESET threads",
    "PRAGMA enable_profiling = 'json'; PRAGMA profiling_output = '{outside}/profile.json'",
    "SET temp_directory = '{outside}'",
    "SET GLOBAL home_directory = '{outside}'",
    "CREATE PERSISTENT SECRET s (TYPE s3)",
    "SELECT * FROM sqlite_scan('{outside}/x', 'y')",
    "SELECT getenv('HOME')",
]


def test_nothing_outside_the_views_can_be_reached(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 1)
    (tmp_path / "outside").mkdir()
    for sql in OUTSIDE:
        query = sql.format(root=log.layout.root, rater=raters[0], outside=tmp_path / "outside")
        with views.connect(log, log.clock.now()) as connection, pytest.raises(duckdb.Error) as caught:
            connection.execute(query).fetchall()
        assert "Person" not in str(caught.value), sql
        assert not any((tmp_path / "outside").iterdir()), sql
    assert verify(log.layout.root).ok


def test_a_strangers_sql_may_only_select(tmp_path: Path) -> None:
    """DuckDB can't let read a folder and not write there: the verb lets a single SELECT through."""
    from rlhf_audit.cli._query import NotOneSelectError, fetch

    log, _ = small_log.plain(tmp_path / "log", 1)
    target = log.layout.feedback / "out.csv"
    for sql in (f"COPY (SELECT 1) TO '{target}'", "SELECT 1; SELECT 2", "DROP VIEW feedback", ""):
        with pytest.raises(NotOneSelectError):
            fetch(log, sql, only_select=True)
    with pytest.raises(duckdb.Error):
        fetch(log, f"SELECT * FROM query('COPY (SELECT 1) TO ''{target}''')", only_select=True)
    assert not target.exists() and fetch(log, "SELECT 1 AS one", only_select=True).values == [(1,)]


def tables(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return {
        view: (
            connection.execute(f"DESCRIBE {view}").fetchall(),
            rows(connection, f"SELECT * FROM {view} ORDER BY ALL"),
        )
        for view in VIEWS
    }


@pytest.mark.parametrize("where", ["log", "it's a log", 'a "log"', "a[1]*?{b}", "über/日本", "back\\slash"])
def test_the_printed_script_gives_the_same_rows_anywhere(where: str, tmp_path: Path) -> None:
    root = tmp_path / where / "log"
    root.parent.mkdir(parents=True)
    log, raters = small_log.plain(root, 2)
    register.withdraw(log, raters[1], [Purpose.AUDIT])
    as_of = log.clock.now()
    with views.connect(log, as_of) as connection:
        needed = tables(connection)
    text = view_sql.script(log, as_of, views.consented_groups(log, as_of))
    with duckdb.connect(":memory:") as shell:
        shell.execute(text)
        assert tables(shell) == needed
    assert all(needed[view][1] for view in ("ledger", "sessions", "grants", "raters", "usable_for_training"))
    assert verify(root).ok


def test_a_printed_script_names_no_group(tmp_path: Path) -> None:
    log, _ = small_log.plain(tmp_path / "log", 2)
    assert "language" not in view_sql.script(log, log.clock.now())


def shapes(one: Any) -> list[tuple[str, str]]:
    """A view's columns and types, without the size of a list, which an empty log can't know."""
    return [(column[0], column[1].split("[")[0]) for column in one[0]]


def test_an_empty_log_has_every_view_and_its_columns(tmp_path: Path) -> None:
    log = small_log.empty(tmp_path / "empty")
    full, _ = small_log.plain(tmp_path / "plain", 1)
    with views.connect(log, log.clock.now()) as connection:
        nothing = tables(connection)
    with views.connect(full, full.clock.now()) as connection:
        something = tables(connection)
    for view in VIEWS:
        assert view == "ledger" or nothing[view][1] == []
        names = [
            [(column[0], column[1].split("[")[0]) for column in one[view][0]] for one in (nothing, something)
        ]
        assert names[0] == names[1], view


def test_only_files_of_the_ledger_are_read(tmp_path: Path) -> None:
    """A copy under another name counts no answer twice, and a folder half-destroyed breaks nothing."""
    log, raters = small_log.plain(tmp_path / "log", 2)
    query = "SELECT " + ", ".join(
        f"(SELECT count(*) FROM {view})" for view in ("feedback", "steps", "episodes")
    )
    with views.connect(log, log.clock.now()) as connection:
        needed = connection.execute(query).fetchall()
    for path in list(log.layout.root.rglob("*.parquet")):
        shutil.copy(path, path.with_name("s-0009.parquet"))
    shutil.copytree(log.layout.rater_folder(raters[0]), log.layout.feedback / ".erasing")
    with views.connect(log, log.clock.now()) as connection:
        assert connection.execute(query).fetchall() == needed


def test_no_view_shows_an_erased_rater_even_when_a_backup_is_back(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    shutil.copytree(log.layout.root, tmp_path / "backup")
    erase.apply(log, raters[1])
    old = Log(tmp_path / "backup").layout
    shutil.copytree(old.rater_folder(raters[1]), log.layout.rater_folder(raters[1]))
    shutil.copy(old.key_file(raters[1]), log.layout.key_file(raters[1]))
    with views.connect(log, log.clock.now()) as connection:
        for view in set(VIEWS) - {"ledger", "erasures", "sessions"}:
            for row in rows(connection, f"SELECT * FROM {view}"):
                assert raters[1] not in str(row), view


@pytest.fixture
def footers(tmp_path: Path) -> Iterator[tuple[Log, list[Path]]]:
    log, _ = small_log.plain(tmp_path / "log", 1)
    yield log, sorted(log.layout.root.rglob("*.parquet"))


def test_a_damaged_footer_is_one_plain_error(footers: tuple[Log, list[Path]]) -> None:
    log, files = footers
    refused = 0
    for path in files:
        raw = path.read_bytes()
        for place in range(len(raw) - 700, len(raw), 17):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
            try:
                views.connect(log, log.clock.now()).close()
            except LogError as error:
                refused += 1
                assert str(log.layout.root) not in str(error)
        path.write_bytes(raw)
    assert refused > 5


@pytest.mark.parametrize(
    ("changed", "stands"),
    [
        ("true AS consent", True),
        ("false AS consent", False),
        ("'r-2' AS rater_id", False),
        ("'g-2' AS grant_id", False),
        ("TIMESTAMPTZ '2025-12-31' AS answered_at", False),
        ("TIMESTAMPTZ '2026-01-01' AS answered_at", True),
        ("TIMESTAMPTZ '2027-01-01' AS answered_at", False),
    ],
)
def test_a_grant_stands_for_its_own_rater_in_its_own_time(changed: str, stands: bool) -> None:
    with duckdb.connect(":memory:") as shell:
        shell.execute("SET TimeZone = 'UTC'")
        shell.execute(
            "CREATE TABLE given AS SELECT 'r-1' AS rater_id, 'g-1' AS grant_id, true AS consent, "
            "TIMESTAMPTZ '2026-02-01' AS answered_at"
        )
        shell.execute(f"CREATE VIEW feedback AS SELECT * REPLACE ({changed}) FROM given")
        shell.execute(
            "CREATE TABLE grants AS SELECT 'g-1' AS grant_id, 'r-1' AS rater_id, 'given' AS state, "
            "['audit'] AS purposes, TIMESTAMPTZ '2026-01-01' AS given_at, "
            "TIMESTAMPTZ '2027-01-01' AS expires_at"
        )
        granted = view_sql.of_rows()["granted"]
        found = shell.sql(f"SELECT rater_id FROM ({granted}) WHERE purposes IS NOT NULL").fetchall()
    assert bool(found) == stands
