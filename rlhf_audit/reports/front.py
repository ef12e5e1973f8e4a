"""The first page of a report, for who has to decide: deadlines, then people, then everything else.

It is to fit one printed page, whatever was found: so each list is short, the most urgent first, and says how
many more there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rlhf_audit.clock import from_text
from rlhf_audit.reports import guidance

MOST_DEADLINES, MOST_RATERS, MOST_OTHERS = 3, 5, 3
_SOON = timedelta(days=30)

Finding = Mapping[str, Any]


@dataclass(frozen=True)
class Front:
    """What stands on it.

    Attributes:
        deadlines: Withdrawals whose erasure is due, overdue ones first; ``note`` says what still holds them.
        n_deadlines: How many there are in all; likewise the others.
        n_overdue: How many of these are overdue.
        ends: The day on which the next consent ends, and how many end within 30 days from then.
        raters: ``summary.by_rater``.
        others: Findings about no single rater: the panel, groups, policies.
        tainted: Policies, not replaced yet, that learnt from somebody who has withdrawn since.
    """

    deadlines: Sequence[Finding]
    n_deadlines: int
    n_overdue: int
    ends: tuple[str, int] | None
    raters: Sequence[Finding]
    n_raters: int
    others: Sequence[Finding]
    n_others: int
    tainted: int


def front(document: Mapping[str, Any]) -> Front:
    """Return the first page of a document."""
    summary = document["summary"]
    notes = {
        row["subject"]: row["note"]
        for audit in document["audits"]
        if guidance.topic(audit["id"]) is guidance.PENDING
        for row in audit["rows"]
    }
    # What is due, which the note says first, is said already.
    held = {rater_id: note.partition("; ")[2] for rater_id, note in notes.items()}
    due = [one | {"note": held.get(one["rater_id"], "")} for one in document["withdrawals"]]
    due.sort(key=lambda one: (not one["overdue"], one["held"], one["erase_by"] or "", one["rater_id"]))
    names = {one["rater_id"] for one in due}
    others = [one for one in summary["findings"] if one["n_general"]]
    # Those are the deadlines already.
    others = [one for one in others if one["general"]["subject"] not in names or not _is_pending(one)]
    return Front(
        due[:MOST_DEADLINES],
        len(due),
        sum(one["overdue"] for one in due),
        _next_end(document["raters"]),
        summary["by_rater"][:MOST_RATERS],
        len(summary["by_rater"]),
        others[:MOST_OTHERS],
        len(others),
        sum(policy["n_withdrawn"] > 0 and policy["state"] == "current" for policy in document["policies"]),
    )


def _is_pending(finding: Finding) -> bool:
    return guidance.topic(finding["audit"]) is guidance.PENDING


def _next_end(raters: Sequence[Mapping[str, Any]]) -> tuple[str, int] | None:
    try:
        ends = sorted(from_text(rater["expires_at"]) for rater in raters if rater["expires_at"])
    except ValueError:  # not a page that build has made
        return None
    if not ends:
        return None
    first = min(rater["expires_at"] for rater in raters if rater["expires_at"])
    return first, sum(end <= ends[0] + _SOON for end in ends)
