"""What is found of raters is carried on to the policies that they taught."""

import audit_panel
from audit_simulate import simulate

from rlhf_audit.audits import marks, runner
from rlhf_audit.types import AuditResult, AuditRow, Severity

TABLES = {
    "policy_rows": [
        {"name": policy, "path": f"../{policy}", "rater_id": f"r-{name}", "rows": rows}
        for policy, name, rows in (
            ("p", "clean-0", 300),
            ("p", "clean-1", 300),
            ("p", "always-yes-0", 100),
            ("q", "clean-0", 300),
            ("q", "always-yes-0", 10),
        )
    ],
    "grants": [
        {"grant_id": f"g-{name}", "rater_id": f"r-{name}", "state": "given", "purposes": ["audit"]}
        for name in ("clean-0", "clean-1", "always-yes-0")
    ],
}


def shares(ids: list[str]) -> dict[str, AuditRow]:
    with audit_panel.connect(simulate(1, ["always-yes"], 4, 200), **TABLES) as connection:
        results = runner.run(connection, ids)
    return {row.subject: row for row in next(one for one in results if one.id == "policy_share").rows}


def test_flagged_raters_are_marked_and_small_shares_are_no_finding() -> None:
    found = shares(["constant_rater", "policy_share"])
    assert found["r-always-yes-0:p"].flagged and "flagged by constant_rater" in found["r-always-yes-0:p"].note
    assert "flagged by" in found["r-always-yes-0:q"].note and not found["r-always-yes-0:q"].flagged
    assert (found["r-clean-0:p"].note, found["r-clean-0:p"].flagged) == ("ok", False)


def test_alone_it_marks_nobody() -> None:
    assert {row.note for row in shares(["policy_share"]).values()} == {"ok"}


def test_raters_are_found_beside_actions_and_in_pairs_that_share_a_cause() -> None:
    """Groups are no raters; and of two who differ one may be as the others are."""
    rows = tuple(
        AuditRow(subject, 9, 1.0, None, None, None, None, True, "x")
        for subject in ("r-a/r-b", "r-c:1", "all", "language=en", "item e:1")
    )
    results = [AuditResult(name, "?", Severity.INFO, rows, "", {}) for name in ("copying", "differ")]
    both = ("copying", "differ")
    assert marks.flagged_raters(results) == {"r-a": ("copying",), "r-b": ("copying",), "r-c": both}
