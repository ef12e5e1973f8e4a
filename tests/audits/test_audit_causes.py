"""First causes: planted raters of each kind, and results made up by hand."""

import audit_habits as habits
import numpy as np
import pytest

from rlhf_audit.audits import catalogue, causes, runner
from rlhf_audit.types import AuditResult, AuditRow, Severity


def row(subject: str, *, flagged: bool = True, lower: float = -0.1) -> AuditRow:
    return AuditRow(subject, 100, 0.5, lower, 0.6, 0.001, 0.001, flagged, "found" if flagged else "ok")


def result(audit: str, *rows: AuditRow) -> AuditResult:
    return AuditResult(audit, "?", Severity.WARNING, rows, "SELECT", {})


def notes(*results: AuditResult) -> dict[tuple[str, str], str]:
    return {(one.id, row.subject): row.note for one in causes.attribute(results) for row in one.rows}


def test_the_plainest_cause_is_named_in_the_others_notes_only() -> None:
    found = notes(
        result("drift", row("r-a"), row("r-b")),
        result("severity", row("r-a"), row("r-c", flagged=False)),
        result("constant_rater", row("r-a"), row("r-c")),
    )
    assert found["constant_rater", "r-a"] == found["drift", "r-b"] == "found"
    assert found["severity", "r-a"] == found["drift", "r-a"] == "found; first cause: constant_rater"
    assert found["severity", "r-c"] == "ok"


def test_parts_and_pairs_of_raters_count_as_the_raters() -> None:
    found = notes(
        result("action_bias", row("r-a:1")),
        result("rater_fit", row("r-a:infit")),
        result("copying", row("r-b/r-c")),
        result("pairwise_kappa", row("r-a"), row("r-a/r-b")),
    )
    assert found["rater_fit", "r-a:infit"] == "found; first cause: action_bias"
    assert found["pairwise_kappa", "r-a"] == "found; first cause: action_bias"
    assert found["pairwise_kappa", "r-a/r-b"] == "found; first cause: action_bias, copying"


def test_who_follows_the_panel_somewhat_is_not_random() -> None:
    found = notes(result("random_rater", row("r-a", lower=0.1)), result("severity", row("r-a")))
    assert found["random_rater", "r-a"] == "found; first cause: severity"
    assert found["severity", "r-a"] == "found"


def test_findings_about_no_rater_are_left_as_they_are() -> None:
    found = notes(result("agreement", row("alpha")), result("tie_excess", row("env=Sim-v0")))
    assert set(found.values()) == {"found"}


def test_every_audit_of_raters_has_a_place() -> None:
    assert set(catalogue.FAMILIES["raters"]) <= set(causes.PLAINEST_FIRST)
    assert len(set(causes.PLAINEST_FIRST)) == len(causes.PLAINEST_FIRST)


FIRST = {
    "always-yes": "constant_rater", "random": "random_rater", "inverted": "random_rater", "fast": "too_fast",
    "repeats": "straight_lining", "favours-1": "action_bias", "lenient": "severity", "drifts": "drift",
    "tires": "fatigue", "contrasts": "anchoring",
}  # fmt: skip


@pytest.fixture(scope="module")
def planted() -> dict[str, dict[str, str]]:
    """By habit: note by audit, of one panel with one rater of each kind among thirty."""
    raters = habits.names(30, list(FIRST))
    columns = habits.ratings(np.random.default_rng(2), raters, 300, 6)
    with habits.connect(columns) as connection:
        results = runner.run(connection, catalogue.FAMILIES["raters"])
    return {
        habit: {
            one.id: row.note
            for one in results
            for row in one.findings
            if row.subject.startswith(f"r-{habit}-")
        }
        for habit in FIRST
    }


@pytest.mark.parametrize("habit", FIRST)
def test_a_planted_rater_is_attributed_to_what_was_planted(
    planted: dict[str, dict[str, str]], habit: str
) -> None:
    found = planted[habit]
    assert FIRST[habit] in found
    for audit, note in found.items():
        named = note.partition("first cause: ")[2]
        assert named == ("" if audit == FIRST[habit] else FIRST[habit]), (audit, note)
