"""Every case folder: its audit says what is expected, and what the naive oracle says."""

import math
from pathlib import Path

import audit_cases
import audit_oracle
import audit_oracle_groups
import audit_panel
import pytest

from rlhf_audit.audits import catalogue
from rlhf_audit.types import AuditRow

CASE_ORACLES = audit_oracle_groups.CASE_ORACLES
NUMBERS = ("value", "lower", "upper", "p", "q")
# EM ends where the likelihood does not rise: its parameters are not as exact.
LESS_EXACT = {"truth_inference": 1e-4, "item_controversy": 1e-4}


def close(seen: float | None, wanted: float | None, rel: float = 1e-9) -> bool:
    """NaN: the oracle leaves it to another test."""
    if wanted is not None and math.isnan(wanted):
        return True
    if seen is None or wanted is None:
        return seen is wanted
    return seen == pytest.approx(wanted, rel=rel, abs=rel * 1e-3)


@pytest.mark.parametrize("case", audit_cases.CASES, ids=audit_cases.name)
def test_case_as_expected(case: Path) -> None:
    result = audit_cases.run_case(case)
    expected = audit_cases.read_expected(case)
    assert [(r.subject, r.n, r.flagged, r.note) for r in result.rows] == [
        (r.subject, r.n, r.flagged, r.note) for r in expected
    ]
    for seen, wanted in zip(result.rows, expected, strict=True):
        assert all(close(getattr(seen, name), getattr(wanted, name)) for name in NUMBERS), (seen, wanted)


@pytest.mark.parametrize("case", audit_cases.CASES, ids=audit_cases.name)
def test_case_as_the_oracle(case: Path) -> None:
    audit = case.parent.name
    if audit in CASE_ORACLES:
        wanted = CASE_ORACLES[audit](case)
    elif audit in audit_oracle.ORACLES:
        wanted = audit_oracle.ORACLES[audit](audit_panel.read_csv(case / "given.csv"))
    else:
        check_counting(case)
        return
    rel = LESS_EXACT.get(audit, 1e-9)
    rows = {row.subject: row for row in audit_cases.run_case(case).rows}
    assert set(wanted) <= set(rows)
    for subject, row in rows.items():
        if subject not in wanted:
            assert row.value is None and not row.flagged, row
            continue
        oracle = wanted[subject]
        assert row.n == oracle.n
        for name in ("value", "lower", "upper"):
            assert close(getattr(row, name), getattr(oracle, name), rel), (name, row, oracle)
        if row.p is not None:
            assert oracle.p is not None and close(row.p, oracle.p, rel), (row, oracle)
        elif oracle.p is not None:
            assert row.note == "insufficient"


def check_counting(case: Path) -> None:
    """The audits of consent count: their n is the number of rows given."""
    given = audit_panel.read_csv(case / "given.csv")
    erasures = case / "erasures.csv"
    n_halted = (
        sum(one["halted"] in (True, "true", "yes") for one in audit_panel.read_csv(erasures))
        if erasures.exists()
        else 0
    )
    for row in audit_cases.run_case(case).rows:
        wanted = n_halted if row.subject == "all" else sum(one["rater"] == row.subject for one in given)
        assert row.n == wanted


@pytest.mark.parametrize("audit", catalogue.READING_ORDER)
def test_every_audit_has_its_cases(audit: str) -> None:
    cases = {case.name for case in audit_cases.CASES if case.parent.name == audit}
    needed = {"clean", "flagged", "empty"}
    if (audit in audit_oracle.ORACLES or audit in CASE_ORACLES) and catalogue.find(audit).parameters:
        needed.add("insufficient")
    assert needed <= cases


@pytest.mark.parametrize("case", audit_cases.CASES, ids=audit_cases.name)
def test_case_says_what_its_name_says(case: Path) -> None:
    rows = audit_cases.read_expected(case)
    found = [row for row in rows if row.flagged]
    if case.name in ("clean", "empty", "insufficient", "nobody_else"):
        assert not found
    if case.name == "flagged":
        assert found
    if case.name == "insufficient":
        assert all(row.note == "insufficient" and row.p is None and row.q is None for row in rows)
    if case.name == "empty":
        assert all(row.n == 0 and row.value is None and row.note == "insufficient" for row in rows)


def test_insufficient_rows_are_never_flagged() -> None:
    rows: list[AuditRow] = [row for case in audit_cases.CASES for row in audit_cases.read_expected(case)]
    assert any(row.note == "insufficient" for row in rows)
    assert not any(row.flagged for row in rows if row.note == "insufficient" or (row.q or 0) > 0.05)
