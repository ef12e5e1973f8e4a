"""One bias trips several checks: the plainest of them is named as the first cause in the others' notes."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rlhf_audit.types import AuditResult, AuditRow

PLAINEST_FIRST = (
    "constant_rater",
    "random_rater",
    "too_fast",
    "straight_lining",
    "central_tendency",
    "action_bias",
    "severity",
    "rasch_severity",
    "drift",
    "fatigue",
    "fatigue_onset",
    "anchoring",
    "halo",
    "position_bias",
    "tie_excess",
    "gold_accuracy",
    "duplicate_raters",
    "copying",
    "intra_rater",
    "rater_fit",
    "pairwise_kappa",
)
"""The audits that judge raters, and pairs of them: the plainest cause before the subtler ones it trips."""


def attribute(results: Iterable[AuditResult]) -> tuple[AuditResult, ...]:
    """Return the results, each finding about a rater whom a plainer audit flags too saying so.

    Only notes change: every finding stays one.
    """
    given = tuple(results)
    first = _first_causes(given)
    return tuple(
        replace(result, rows=tuple(_attributed(row, result.id, first) for row in result.rows))
        if result.id in PLAINEST_FIRST
        else result
        for result in given
    )


def _first_causes(results: Iterable[AuditResult]) -> dict[str, str]:
    """Return, by rater, the plainest audit with a finding about them alone."""
    found: dict[str, str] = {}
    by_id = {result.id: result for result in results}
    for audit in PLAINEST_FIRST:
        for row in by_id[audit].findings if audit in by_id else ():
            if not _explains(audit, row):
                continue
            for rater in _raters(row.subject):
                found.setdefault(rater, audit)
    return found


def _explains(audit: str, row: AuditRow) -> bool:
    """Tell whether a finding accounts for others: a rater who follows the panel somewhat is not random."""
    return audit != "random_rater" or row.lower is None or row.lower <= 0


def _attributed(row: AuditRow, audit: str, first: Mapping[str, str]) -> AuditRow:
    causes = {first[rater] for rater in _raters(row.subject) if rater in first} if row.flagged else set()
    others = [cause for cause in PLAINEST_FIRST if cause in causes and cause != audit]
    if not others or audit in causes:
        return row
    return replace(row, note=f"{row.note}; first cause: {', '.join(others)}")


def _raters(subject: str) -> tuple[str, ...]:
    """Return whom a subject is about.

    >>> _raters("r-a:1"), _raters("r-a/r-b"), _raters("env=CartPole-v1"), _raters("alpha")
    (('r-a',), ('r-a', 'r-b'), (), ())
    """
    if not subject.startswith("r-"):
        return ()
    return tuple(subject.partition(":")[0].split("/"))
