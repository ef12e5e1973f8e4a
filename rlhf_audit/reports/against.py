"""What has changed since an older report: findings, coefficients, raters, parameters and SQL.

Personal data:
    The older report may name somebody who has been erased since, or a group that is too small by now. So no
    text of it is repeated but the names of audits and parameters: what the new report doesn't name itself is
    only counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.errors import DamagedError
from rlhf_audit.reports.document import SCHEMA, is_insufficient, subject_raters

JSON = "report.json"
MOST_MOVED = 40
"""Coefficients that are listed, those that moved most first; all are counted."""

_HEX = re.compile(r"[0-9a-f]{64}")
_NUMBERS = ("value", "lower", "upper", "q")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _OldAudit:
    rows: Mapping[str, Row]
    parameters: Mapping[str, float | None]
    sql_sha256: str


@dataclass(frozen=True)
class Old:
    """What is used of an older report.

    Attributes:
        raters: Those whose feedback could be audited then.
    """

    sha256: str
    log_id: str
    size: int
    audits: Mapping[str, _OldAudit]
    raters: frozenset[str]

    def compare(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part ``against`` of a new document."""
        now = {audit["id"]: audit for audit in document["audits"]}
        shared = [audit for audit in document["audits"] if audit["id"] in self.audits]
        findings = [self._finding(audit) for audit in document["audits"]]
        raters = {one["rater_id"] for one in document["raters"]}
        moved = [one for audit in shared for one in self._moved(audit, raters)]
        moved.sort(key=lambda one: (not one["clear"], -abs(one["now"]["value"] - one["before"]["value"])))
        return {
            "sha256": self.sha256,
            "same_log": self.log_id == document["log"]["log_id"],
            "size": self.size,
            "findings": [one for one in findings if one["new"] or one["gone"] or one["n_gone_unnamed"]],
            "n_kept": sum(one["n_kept"] for one in findings),
            "moved": moved[:MOST_MOVED],
            "n_moved": len(moved),
            "raters_new": sorted(raters - self.raters),
            # By number only: they may have been erased.
            "n_raters_gone": len(self.raters - raters),
            "audits_new": [name for name in now if name not in self.audits],
            "audits_gone": sorted(name for name in self.audits if name not in now),
            "parameters": [one for audit in shared for one in self._parameters(audit)],
            "sql": [
                audit["id"] for audit in shared if audit["sql_sha256"] != self.audits[audit["id"]].sql_sha256
            ],
        }

    def _finding(self, audit: Mapping[str, Any]) -> dict[str, Any]:
        old = self.audits.get(audit["id"], _OldAudit({}, {}, ""))
        before = {subject for subject, row in old.rows.items() if row["flagged"]}
        after = {row["subject"]: row for row in audit["rows"] if row["flagged"]}
        rows = {row["subject"]: row for row in audit["rows"]}
        gone = before - set(after)
        tellable = sorted(gone & set(rows))
        return {
            "audit": audit["id"],
            "title": audit["title"],
            "new": sorted(set(after) - before),
            "gone": [
                {"subject": subject, "why": _why_gone(rows[subject], old.rows[subject])}
                for subject in tellable
            ],
            "n_gone_unnamed": len(gone) - len(tellable),
            "n_kept": len(before & set(after)),
        }

    def _moved(self, audit: Mapping[str, Any], raters: set[str]) -> list[dict[str, Any]]:
        """Return the rows whose value moved: all about no rater, and those clear of their old interval."""
        found = []
        for row in audit["rows"]:
            before = self.audits[audit["id"]].rows.get(row["subject"])
            if before is None or is_insufficient(row) or row["value"] is None or before["value"] is None:
                continue
            clear = _apart(before, row)
            panel = not subject_raters(row["subject"], raters)
            if clear or (panel and row["value"] != before["value"]):
                told = {name: {key: one[key] for key in _NUMBERS} for name, one in _two(before, row)}
                found.append({"audit": audit["id"], "subject": row["subject"], "clear": clear, **told})
        return found

    def _parameters(self, audit: Mapping[str, Any]) -> list[dict[str, Any]]:
        before, now = self.audits[audit["id"]].parameters, audit["parameters"]
        return [
            {"audit": audit["id"], "name": name, "before": before.get(name), "now": now.get(name)}
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]


def read(path: Path) -> Old:
    """Return an older report.

    Args:
        path: A report.json, or its folder.

    Raises:
        DamagedError: It is none, or can't be read.
    """
    file = path / JSON if path.is_dir() else path
    try:
        raw = canonical.read_file(file)
        found = canonical.parse_object(raw)
    except OSError as error:
        raise _no_report(error.strerror or "no file") from error
    except ValueError as error:
        raise _no_report("no JSON document") from error
    if found.get("schema") != SCHEMA:
        raise _no_report(f"schema {str(found.get('schema'))[:60]!r}")
    try:
        return _parsed(found, canonical.sha256_hex(raw))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_report("a report whose parts are not what they should be") from error


def _no_report(seen: str) -> DamagedError:
    return DamagedError(
        "that is no report to compare with",
        seen=seen,
        needed=f"{SCHEMA}: a report.json, or the folder that it is in",
        fix="rlhf-audit report LOG --to DIR --against OLD/report.json",
    )


def _parsed(found: Mapping[str, Any], sha256: str) -> Old:
    """Return what a stranger's document says, of the right types or not at all."""
    audits = {}
    for audit in found["audits"]:
        rows = {_text(row["subject"]): _row(row) for row in audit["rows"]}
        parameters = {_name(name): _number(value) for name, value in audit["parameters"].items()}
        if not _HEX.fullmatch(_text(audit["sql_sha256"])):
            raise ValueError("a digest is none")
        audits[_name(audit["id"])] = _OldAudit(rows, parameters, audit["sql_sha256"])
    raters = frozenset(_text(one["rater_id"]) for one in found["raters"])
    size = found["log"]["head"]["size"]
    if type(size) is not int or size < 0:
        raise ValueError("the head has no size")
    return Old(sha256, _text(found["log"]["log_id"]), size, audits, raters)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    if type(row["flagged"]) is not bool:
        raise ValueError("flagged or not")
    return {name: _number(row[name]) for name in _NUMBERS} | {"flagged": row["flagged"]}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _name(value: Any) -> str:
    """Return a name that may be repeated in the new report: ours are words, and hold nobody's pseudonym."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", _text(value)):
        raise ValueError("no name of ours")
    return _text(value)


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("no number")
    return value


def _two(before: Row, now: Row) -> Sequence[tuple[str, Row]]:
    return ("before", before), ("now", now)


def _apart(before: Row, now: Row) -> bool:
    """Say whether the two intervals share nothing."""
    if None in (before["lower"], before["upper"], now["lower"], now["upper"]):
        return False
    return bool(now["lower"] > before["upper"] or now["upper"] < before["lower"])


def _why_gone(now: Row, before: Row) -> str:
    if is_insufficient(now):
        return "too few data by now"
    return "no longer reaches the threshold" if now["value"] != before["value"] else "no longer significant"
