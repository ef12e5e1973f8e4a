"""What the audits found of raters, carried on to the policies that these raters taught."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rlhf_audit.types import AuditResult, AuditRow

_SHARES = "policy_share"
_BLAME_BOTH = frozenset({"copying", "duplicate_raters"})
"""Audits whose finding about a pair is one about each of the two; elsewhere one of them may be the cause."""


def flagged_raters(results: Sequence[AuditResult]) -> Mapping[str, tuple[str, ...]]:
    """Return by which audits each rater is flagged: alone, with an action, or as one of two who share it."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for one in results:
        for row in one.findings if one.id != _SHARES else ():
            alone = "/" not in row.subject
            if row.subject.startswith("r-") and (alone or one.id in _BLAME_BOTH):
                for rater in row.subject.partition(":")[0].split("/"):
                    found[rater][one.id] = None
    return {rater: tuple(audits) for rater, audits in found.items()}


def taught_by_flagged(results: Sequence[AuditResult]) -> tuple[AuditResult, ...]:
    """Return the results, and mark in policy_share the raters whom another audit flags."""
    flagged = flagged_raters(results)
    return tuple(
        replace(one, rows=tuple(_marked(row, flagged, one.parameters["marked"]) for row in one.rows))
        if one.id == _SHARES
        else one
        for one in results
    )


def _marked(row: AuditRow, flagged: Mapping[str, tuple[str, ...]], least: float) -> AuditRow:
    audits = flagged.get(row.subject.partition(":")[0])
    if audits is None or row.note == "insufficient":
        return row
    known = "" if row.note == "ok" else f"{row.note}; "
    large = row.value is not None and row.value >= least
    return replace(row, flagged=row.flagged or large, note=f"{known}flagged by {', '.join(audits)}")
