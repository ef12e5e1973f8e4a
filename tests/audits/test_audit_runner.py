"""The machinery: headers, catalogue, parameters, p and q, what is handed to the reader."""

import re
from pathlib import Path
from typing import Any

import audit_cases
import audit_panel
import duckdb
import pyarrow as pa
import pytest
from scipy import stats

from rlhf_audit.audits import catalogue, header, prepared, runner
from rlhf_audit.audits.header import AuditFile, Distribution
from rlhf_audit.audits.prepared import Prepared
from rlhf_audit.errors import UsageError
from rlhf_audit.types import AuditRow, Severity

AUDITS = list(catalogue.load().values())
BY_ID = pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit.id)
# Of the others the text is what an estimator reads.
BY_SQL = [audit for audit in AUDITS if audit.estimator is None]
FLAGGED = [
    case
    for case in audit_cases.CASES
    if case.name == "flagged" and case.parent.name in {audit.id for audit in BY_SQL}
]

PANEL_WHOLE = {
    "place", "n_alike", "n_k", "c_a", "c_b", "c * far * far", "CASE WHEN m >= 2 THEN n_alike ELSE 0 END",
    "CASE WHEN m >= 2 THEN m * n_alike ELSE 0 END", "CASE WHEN m >= 2 THEN n_ik * n_alike ELSE 0 END",
    "CASE WHEN counts.m >= 2 THEN n_ik * n_alike ELSE 0 END", "CASE WHEN va = vb THEN c ELSE 0 END",
    "CASE WHEN va = vb THEN c * far ELSE 0 END",
    # decimals
    "pull", "linear", "quadratic", "ordinal",
}  # fmt: skip

MINIMAL = """/*
id = "x"
question = "?"
severity = "info"
reads = ["feedback"]
grain = "one row"
n_min = 3
n_counts = "rows"
value = "v"
flag = "f"
{more}
*/
{body}
"""


def text(more: str = "", body: str = "SELECT $n_min") -> str:
    return MINIMAL.format(more=more, body=body)


class Canned:
    """An engine that answers with rows made up by the test."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.asked: list[str] = []

    def prepare(self, one: Prepared) -> None:
        pass

    def table(self, sql: str) -> pa.Table:
        return pa.Table.from_pylist(self.query(sql))

    def query(self, sql: str) -> list[dict[str, Any]]:
        self.asked.append(sql)
        return self.rows


def made_up(
    subject: str, statistic: float | None, *, flagged: bool = True, note: str = "ok"
) -> dict[str, Any]:
    contract = {"subject": subject, "n": 50, "value": 0.5, "lower": 0.4, "upper": 0.6}
    return contract | {"flagged": flagged, "note": note, "statistic": statistic}


def severity_of(rows: list[dict[str, Any]]) -> dict[str, AuditRow]:
    return {row.subject: row for row in runner.run_on(Canned(rows), ["severity"])[0].rows}


@BY_ID
def test_an_audit_is_one_select_on_the_views_it_names(audit: AuditFile) -> None:
    (statement,) = duckdb.extract_statements(runner.printable_sql(audit))
    assert statement.type == duckdb.StatementType.SELECT
    made = set(prepared.load())
    # What is prepared reads these itself; `files` says how many rows there are of whom.
    behind = {"usable_for_audit", "steps", "files"} if made & set(audit.reads) else set()
    read = set(audit.reads) - made | behind
    read |= {"raters"} if "rater_groups" in audit.reads else set()
    with audit_panel.connect() as connection:
        for table in set(audit_panel.TABLES) - read:
            connection.execute(f"DROP TABLE {table}")
        (result,) = runner.run(connection, [audit.id])
    assert result.id == audit.id
    for view in read:
        with audit_panel.connect() as connection, pytest.raises(duckdb.CatalogException):
            connection.execute(f"DROP TABLE {view}")
            runner.run(connection, [audit.id])


@pytest.mark.parametrize("audit", BY_SQL, ids=lambda audit: audit.id)
def test_columns_are_the_contract_and_what_the_test_needs(audit: AuditFile) -> None:
    with audit_panel.connect() as connection:
        connection.execute(prepared.script())
        cursor = connection.execute(runner.printable_sql(audit))
        kinds = {column[0]: str(column[1]) for column in cursor.description}
    if audit.estimator is not None:
        return  # its SELECT reads the data; what it makes of them is seen in the cases
    extra = [*audit.test.distribution.columns, audit.test.family] if audit.test else []
    assert [name for name in kinds if name not in extra] == list(runner._CONTRACT)
    assert set(extra) - {None} <= set(kinds)
    assert (kinds["value"], kinds["lower"], kinds["upper"]) == ("DOUBLE",) * 3
    assert (kinds["n"], kinds["flagged"], kinds["note"]) == ("BIGINT", "BOOLEAN", "VARCHAR")


@BY_ID
def test_no_sum_of_doubles_is_left_unordered(audit: AuditFile) -> None:
    """Unordered sums may add up whole numbers and decimals only; medians and counts have no order."""
    whole = """
        c
        c * c
        c_a * c_b
        k
        m
        n
        n_items
        n_items * m
        2 * (place - first_place) + 1
        n_ik
        n_ik * (n_ik - 1)
        n_ik * n_ik
        n * n
        n_k * n_k
        n_alike
        n_lost
        n_lost * n_k
        n_lost * n_lost
        n_own
        n_raters
        n_same
        n_rk
        n_rk * n_rk
        n_rk * n_rk * n_rk
        policy_rows.rows
        runs
        t
        t * t
    """
    exact_sums = {line.strip() for line in whole.splitlines()}
    exact_sums |= PANEL_WHOLE
    body = header._COMMENT.sub("", audit.body)
    for start in (i for i in range(len(body)) if body.startswith("sum(", i)):
        depth, end = 1, start + 4
        while depth:
            depth += {"(": 1, ")": -1}.get(body[end], 0)
            end += 1
        inner = body[start + 4 : end - 1]
        decimal = "CAST(" in inner and re.search(r"AS DECIMAL\(38, 1[58]\)\)$", inner)
        assert "ORDER BY" in inner or inner in exact_sums or decimal, inner
    assert "avg(" not in body and "corr(" not in body and "stddev" not in body


@pytest.mark.parametrize("case", FLAGGED, ids=audit_cases.name)
def test_the_printed_text_gives_the_same_rows_in_a_plain_shell(case: Path) -> None:
    result = audit_cases.run_case(case)
    tables = {
        p.stem: audit_panel.read_csv(p) for p in case.glob("*.csv") if p.stem not in ("given", "expected")
    }
    with audit_panel.connect(audit_panel.read_csv(case / "given.csv"), **tables) as connection:
        connection.execute(prepared.script())
        rows = connection.execute(result.sql).fetchall()
    if catalogue.find(case.parent.name).estimator is None:
        assert [(row[0], row[1], row[2]) for row in rows] == [(r.subject, r.n, r.value) for r in result.rows]
    assert "$" not in header._COMMENT.sub("", result.sql)
    assert result.sql.startswith("/*") and result.sql.endswith("\n;\n")


def test_all_audits_run_in_reading_order_and_tell_their_progress() -> None:
    told: list[str] = []
    with audit_panel.connect() as connection:
        results = runner.run(connection, progress=told.append)
    assert [result.id for result in results] == list(catalogue.READING_ORDER) == list(catalogue.load())
    assert told == [*prepared.load(), *catalogue.READING_ORDER]


def test_audits_run_in_the_order_asked_for_and_once() -> None:
    with audit_panel.connect() as connection:
        results = runner.run(connection, ["drift", "agreement", "drift"])
    assert [result.id for result in results] == ["drift", "agreement"]


def test_a_locked_connection_is_enough() -> None:
    with audit_panel.connect() as connection:
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        assert len(runner.run(connection)) == len(AUDITS)


def test_a_finding_needs_effect_and_significance() -> None:
    rows = severity_of(
        [
            made_up("r-both", 9.0, note="lenient"),
            made_up("r-effect", 0.1, note="lenient"),
            made_up("r-significant", 9.0, flagged=False),
            made_up("r-few", 9.0, note="insufficient"),
            made_up("r-undefined", None, note="lenient"),
        ]
    )
    assert [subject for subject, row in rows.items() if row.flagged] == ["r-both"]
    assert rows["r-effect"].note == rows["r-undefined"].note == "lenient; not significant"
    assert (rows["r-few"].note, rows["r-few"].p, rows["r-few"].q) == ("insufficient", None, None)


def test_q_is_over_the_rows_that_have_a_p() -> None:
    rows = severity_of(
        [made_up("a", 3.0), made_up("b", -2.1), made_up("c", 0.5), made_up("d", 9.0, note="insufficient")]
    )
    p = {subject: row.p for subject, row in rows.items()}
    assert p["a"] == pytest.approx(2 * stats.norm.sf(3.0), rel=1e-12)
    assert rows["a"].q == pytest.approx(3 * p["a"])
    assert rows["b"].q == pytest.approx(1.5 * p["b"])
    assert rows["b"].flagged is (1.5 * p["b"] <= 0.05)


def test_an_infinite_statistic_is_certain_and_stays_printable() -> None:
    rows = severity_of([{**made_up("a", float("inf")), "lower": float("nan"), "upper": float("inf")}])
    assert (rows["a"].p, rows["a"].q, rows["a"].lower, rows["a"].upper) == (0.0, 0.0, None, None)


def test_student_and_binomial_p_values_are_scipys() -> None:
    row = made_up("a", 2.5)
    student = header.Test(Distribution.STUDENT, "")
    assert runner._p_values([{**row, "df": 7}], student)[0] == pytest.approx(2 * stats.t.sf(2.5, 7))
    binomial = header.Test(Distribution.BINOMIAL, "")
    assert runner._p_values([{**row, "k": 9, "trials": 10, "p0": 0.5}], binomial)[0] == pytest.approx(
        22 / 1024
    )
    assert runner._p_values([{**row, "k": 9, "trials": 10, "p0": None}], binomial) == [None]


def test_families_are_corrected_apart() -> None:
    rows = [{**made_up("a", 2.0), "action": 0}, {**made_up("b", 0.1), "action": 1}]
    p = [0.04, 0.9]
    one = header.Test(Distribution.NORMAL, "")
    assert runner._q_values(rows, p, one) == pytest.approx([0.08, 0.9])
    two = header.Test(Distribution.NORMAL, "", family="action")
    assert runner._q_values(rows, p, two) == pytest.approx([0.04, 0.9])


def test_benjamini_hochberg_by_hand() -> None:
    p = [0.01, 0.02, 0.03, 0.5]
    assert runner.benjamini_hochberg(p) == pytest.approx([0.04, 0.04, 0.04, 0.5])
    assert runner.benjamini_hochberg([]) == []


def test_overrides_reach_the_sql_the_result_and_the_verdict() -> None:
    case = audit_cases.HERE / "severity" / "flagged"
    overrides = runner.parse_overrides(["severity.threshold=.6", "severity.n_min=10"])
    assert overrides == {"severity": {"threshold": 0.6, "n_min": 10}}
    with audit_panel.connect(audit_panel.read_csv(case / "given.csv")) as connection:
        (before,) = runner.run(connection, ["severity"])
        (after,) = runner.run(connection, ["severity"], overrides)
    assert before.findings and not after.findings
    assert after.parameters == {"n_min": 10, "threshold": 0.6}
    assert "CAST(0.6 AS DOUBLE)" in after.sql and "n >= 10" in after.sql
    assert before.parameters == {"n_min": 30, "threshold": 0.25}


@pytest.mark.parametrize(
    ("setting", "seen", "hint"),
    [
        ("severty.threshold=1", "severty", "did you mean severity?"),
        ("severity.treshold=1", "treshold", "did you mean threshold?"),
        ("severity.threshold=much", "much", "a finite number"),
        ("severity.threshold=nan", "nan", "a finite number"),
        ("severity.threshold=", "", "a finite number"),
        ("severity.n_min=2.5", "2.5", "a whole number"),
        ("severity.n_min=-1", "-1", "a whole number"),
        ("severity.n_min=1); DROP TABLE steps; --", "DROP", "a whole number"),
        ("severity=1", "severity=1", "ID.param=V"),
        ("threshold", "threshold", "ID.param=V"),
    ],
)
def test_wrong_settings_are_usage_errors(setting: str, seen: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        runner.parse_overrides([setting])
    assert seen in str(caught.value) and hint in str(caught.value)
    assert caught.value.exit_code == 2


def test_unknown_audits_and_overrides_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="did you mean drift"):
        catalogue.find("drfit")
    with audit_panel.connect() as connection:
        with pytest.raises(UsageError, match="there is no audit"):
            runner.run(connection, ["nothing"])
        with pytest.raises(UsageError, match="there is no audit"):
            runner.run(connection, ["drift"], {"nothing": {"n_min": 1}})
        with pytest.raises(UsageError, match="no parameter"):
            runner.run(connection, ["drift"], {"drift": {"nothing": 1}})
    assert runner.parse_overrides(["drift.n_min=1", "drift.n_min=2"]) == {"drift": {"n_min": 2}}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("SELECT 1", "opens with a comment"),
        (text().replace('value = "v"\n', ""), "missing \\['value'\\]"),
        (text(body="SELECT 1"), "uses \\[\\]"),
        (text(more="colour = 1"), "unknown \\['colour'\\]"),
        (text(body="SELECT $n_min, $other"), "uses \\['n_min', 'other'\\]"),
        (text(more='[params.t]\ntype = "float"\ndefault = 1.0\nmeaning = "m"'), "explains"),
        (
            text(more='[params.t]\ntype = "int"\ndefault = 1.0\nmeaning = "m"', body="SELECT $t"),
            "parameter t",
        ),
        (text().replace('"info"', '"loud"'), "loud"),
    ],
)
def test_broken_headers_are_refused(broken: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        header.parse(broken)


def test_a_header_is_read_whole() -> None:
    more = '[test]\ndistribution = "normal"\nhypothesis = "h"\nfamily = "action"'
    audit = header.parse(text(more, "SELECT $n_min -- for $nobody\n;\n"))
    assert audit.severity is Severity.INFO and audit.reads == ("feedback",)
    assert audit.test == header.Test(Distribution.NORMAL, "h", "action")
    assert runner.printable_sql(audit).endswith("\nSELECT 3 -- for $nobody\n;\n")


def test_every_file_is_in_the_catalogue_under_its_own_name() -> None:
    folder = Path(catalogue.__file__).parent / "sql"
    found = [(path.parent.name, path.stem) for path in folder.glob("*/*.sql")]
    wanted = [(family, name) for family, names in catalogue.FAMILIES.items() for name in names]
    assert sorted(found) == sorted([*wanted, *(("prepared", name) for name in prepared.load())])
    for name in catalogue.READING_ORDER:
        assert catalogue.find(name).id == name


def test_docs_are_made_from_the_headers() -> None:
    written = Path(__file__).parents[2] / "docs" / "audits.md"
    assert written.read_text(encoding="utf-8") == catalogue.markdown(), (
        "make docs/audits.md again: see its head"
    )
