"""Every estimate has an interval: over all audits, all case folders and simulated logs of each kind."""

from collections.abc import Iterator, Mapping
from typing import Any

import audit_cases
import audit_habits as habits
import audit_panel
import numpy as np
import pytest

from rlhf_audit.audits import catalogue, runner
from rlhf_audit.types import AuditRow

COUNTED = "what is there is counted, nothing is estimated"
NO_ESTIMATE: Mapping[str, str] = {
    "consent_validity": COUNTED,
    "use_without_consent": COUNTED,
    "pending_withdrawals": COUNTED,
    "erased_returned": COUNTED,
    "terms_changed": COUNTED,
    "policy_share": "a share of training rows that are all known",
    "duplicate_raters": "how much of two raters' rows is the same, of rows that are all known",
}
NO_ESTIMATE_OF = {("rasch_severity", "fixed chi2"): "a test's statistic: p says what it tells"}
ELSEWHERE = {
    "group_cohesion": "the ends are what random groups of that size have: a value outside is the finding",
    "withdrawal_sensitivity": "the ends are alpha's own interval about 0, which the change is held against",
}
"""Audits whose ends are not about the value, as their headers say."""


def problems(audit: str, row: AuditRow) -> str | None:
    """Return what is wrong with a row's interval; None if nothing is."""
    if row.value is None or row.note == "insufficient":
        return None
    if audit in NO_ESTIMATE or (audit, row.subject.partition(":")[0]) in NO_ESTIMATE_OF:
        return None if row.lower is None and row.upper is None else "it counts, and has an interval"
    if row.lower is None or row.upper is None:
        return "no interval"
    if row.lower > row.upper:
        return "ends the wrong way round"
    inside = row.lower <= row.value + 1e-9 and row.value <= row.upper + 1e-9
    return None if inside or audit in ELSEWHERE else "the value is outside"


def test_the_exceptions_are_audits_that_there_are() -> None:
    named = {*NO_ESTIMATE, *ELSEWHERE, *(audit for audit, _ in NO_ESTIMATE_OF)}
    assert named <= set(catalogue.READING_ORDER)
    # What is tested is estimated, and so has an interval.
    assert not [name for name in NO_ESTIMATE if catalogue.find(name).test is not None]


def test_rows_of_the_cases_have_intervals() -> None:
    found = {
        (audit_cases.name(case), row.subject): problem
        for case in audit_cases.CASES
        for row in audit_cases.read_expected(case)
        if (problem := problems(case.parent.name, row)) is not None
    }
    assert found == {}
    with_ends = {
        case.parent.name
        for case in audit_cases.CASES
        for row in audit_cases.read_expected(case)
        if row.lower is not None and row.note != "insufficient"
    }
    assert with_ends == set(catalogue.READING_ORDER) - set(NO_ESTIMATE)


def logs() -> Iterator[tuple[str, Mapping[str, Any]]]:
    random = np.random.default_rng(11)
    yield "ratings", habits.ratings(random, habits.names(4, habits.RATING_HABITS), 150, 4)
    yield "scales", habits.scales(random, habits.names(5, habits.SCALE_HABITS), 150, 4)
    yield "comparisons", habits.comparisons(random, habits.names(5, habits.COMPARISON_HABITS), 150, 4)
    yield "criteria", habits.criteria(random, habits.names(4, habits.CRITERIA_HABITS), 120, 4)
    every = habits.ratings(random, habits.names(5, ("always-yes", "inverted")), 120, 7)
    yield "everybody rates all", every
    yield "all agree", every | {"value": np.ones(len(every["value"]))}


@pytest.mark.parametrize(("kind", "columns"), list(logs()), ids=[kind for kind, _ in logs()])
def test_rows_of_simulated_logs_have_intervals(kind: str, columns: Mapping[str, Any]) -> None:
    given = dict(columns)
    raters = sorted(set(given["rater_id"]))
    told = [
        {"rater_id": rater, "groups": f"{{site={'north' if i % 2 else 'south'}}}"}
        for i, rater in enumerate(raters)
    ]
    connection = habits.connect(given, audit_panel.connect(raters=told))
    ids = [name for name in catalogue.READING_ORDER if name not in NO_ESTIMATE]
    found = {
        (result.id, row.subject): problem
        for result in runner.run(connection, ids)
        for row in result.rows
        if (problem := problems(result.id, row)) is not None
    }
    connection.close()
    assert found == {}, kind
