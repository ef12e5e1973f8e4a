"""The result model: everything a report says, as one JSON document made of plain facts and audit rows.

The HTML page is made from this document alone, so whoever holds report.json can make the page again and
get the same bytes. Nothing here reads a clock, draws a random number or depends on the order of its input.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rlhf_audit.audits.catalogue import READING_ORDER
from rlhf_audit.canonical import json_bytes, sha256_hex
from rlhf_audit.reports import guidance
from rlhf_audit.reports.facts import FigureData, LogFacts
from rlhf_audit.types import AuditResult, Severity

SCHEMA = "rlhf_audit.report/1"
_LOUDEST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.INFO)


def build(facts: LogFacts, audits: Sequence[AuditResult], points: FigureData) -> dict[str, Any]:
    """Return the content of report.json.

    Determinism:
        Every list is sorted by its content; not-a-number and infinity become null.
    """
    raters = _sorted(facts.raters)
    listed = [_audit(_nameable(result, facts)) for result in sorted(audits, key=_reading_order)]
    return {
        "schema": SCHEMA,
        "log": {
            "log_id": facts.log_id,
            "head": facts.head.to_json(),
            "format_version": facts.format_version,
            "as_of": facts.as_of,
        },
        "counts": asdict(facts.counts),
        "summary": _summary(listed, {rater["rater_id"] for rater in raters}),
        "raters": raters,
        "policies": _sorted(facts.policies),
        "exports": _sorted(facts.exports),
        "withdrawals": _sorted(facts.withdrawals),
        "audits": listed,
        "figures": {
            name: _sorted(getattr(points, name))
            for name in ("drift", "latencies", "answers", "episode", "spells")
        },
    }


def report_bytes(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of report.json: canonical JSON and a newline."""
    return json_bytes(document) + b"\n"


def report_sha256(document: Mapping[str, Any]) -> str:
    """Return the digest of report.json, as ``sha256sum`` prints it."""
    return sha256_hex(report_bytes(document))


def subject_raters(subject: str, known: Iterable[str]) -> list[str]:
    """Return the raters that an audit row is about, in the order they are named.

    >>> subject_raters("r-a/r-b", ["r-a", "r-b"]), subject_raters("r-a:1", ["r-a"]), subject_raters("all", [])
    (['r-a', 'r-b'], ['r-a'], [])
    """
    names = set(known)
    return [part for part in re.split("[/:]", subject) if part in names]


def is_insufficient(row: Mapping[str, Any]) -> bool:
    """Say whether a row of the document had too few data to judge."""
    return bool(row["note"].startswith("insufficient"))


def _nameable(result: AuditResult, facts: LogFacts) -> AuditResult:
    """Return the result without those who may not be named: their findings stay, their pseudonyms go.

    Someone who has withdrawn is named where the pending erasure itself is the subject, and nowhere else.
    """
    unnamed = set(facts.erased)
    if guidance.topic(result.id) is not guidance.PENDING:
        unnamed |= {made.rater_id for made in facts.withdrawals} - {rater.rater_id for rater in facts.raters}
    kept = []
    for row in result.rows:
        if not subject_raters(row.subject, unnamed):
            kept.append(row)
        elif row.flagged:
            kept.append(replace(row, subject="a rater who has withdrawn"))
    return replace(result, rows=tuple(kept))


def _audit(result: AuditResult) -> dict[str, Any]:
    header = guidance.header(result.sql)
    rows = _sorted(result.rows)
    n_flagged = sum(row["flagged"] for row in rows)
    n_insufficient = sum(not row["flagged"] and is_insufficient(row) for row in rows)
    if n_flagged:
        verdict = "findings"
    elif n_insufficient == len(rows) and (rows or header.get("n_min", 0 if header else None) != 0):
        # No row at all says nothing, but for an audit that needs no data: there, nobody is concerned.
        verdict = "insufficient"
    else:
        verdict = "clear"
    return {
        "id": result.id,
        "title": result.id.replace("_", " ").replace("-", " ").capitalize(),
        "question": result.question,
        "severity": result.severity.value,
        "verdict": verdict,
        "n_flagged": n_flagged,
        "n_insufficient": n_insufficient,
        "advice": guidance.topic(result.id).advice,
        "measures": _text(header.get("value")),
        "counts": _text(header.get("n_counts")),
        "rule": _text(header.get("flag")),
        "caveats": _texts(header.get("caveats")),
        "references": _texts(header.get("references")),
        "parameters": {name: _finite(value) for name, value in result.parameters.items()},
        "rows": rows,
        "sql": result.sql,
        "sql_sha256": sha256_hex(result.sql.encode()),
    }


def _reading_order(result: AuditResult) -> tuple[int, str]:
    known = READING_ORDER.index(result.id) if result.id in READING_ORDER else len(READING_ORDER)
    return known, result.id


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else []


def _summary(audits: Sequence[Mapping[str, Any]], raters: set[str]) -> dict[str, Any]:
    found = [audit for audit in audits if audit["verdict"] == "findings"]
    findings = [_finding(audit, raters) for audit in found]
    rank = {severity.value: number for number, severity in enumerate(_LOUDEST_FIRST)}
    findings.sort(key=lambda finding: rank[finding["severity"]])
    verdicts = {audit["verdict"] for audit in audits}
    return {
        "verdict": next((v for v in ("findings", "clear") if v in verdicts), "insufficient"),
        "n_audits": len(audits),
        "n_findings": sum(audit["n_flagged"] for audit in audits),
        "n_audits_flagged": len(found),
        "n_audits_insufficient": sum(audit["verdict"] == "insufficient" for audit in audits),
        "raters_flagged": sorted({rater for finding in findings for rater in finding["raters"]}),
        "findings": findings,
    }


def _finding(audit: Mapping[str, Any], raters: set[str]) -> dict[str, Any]:
    rows = sorted((row for row in audit["rows"] if row["flagged"]), key=_surest_first)
    return {
        "audit": audit["id"],
        "title": audit["title"],
        "severity": audit["severity"],
        "subjects": [row["subject"] for row in rows],
        "raters": sorted({name for row in rows for name in subject_raters(row["subject"], raters)}),
        "strongest": rows[0],
        "advice": audit["advice"],
    }


def _surest_first(row: Mapping[str, Any]) -> tuple[float, float, str]:
    chance = row["q"] if row["q"] is not None else row["p"]
    return (1.0 if chance is None else chance, -abs(row["value"] or 0.0), row["subject"])


def _sorted(items: Iterable[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as JSON objects, ordered by their own canonical bytes after their leading names."""
    plain = [{name: _finite(value) for name, value in asdict(item).items()} for item in items]
    return sorted(plain, key=lambda item: (_leading(item), json_bytes(item)))


def _leading(item: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names = tuple(
        str(item[key]) for key in ("subject", "rater_id", "name", "path", "starts_at") if key in item
    )
    return names, (int(item.get("first", 0)),)


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        # Minus zero and zero are one value: they must not make two documents.
        return value + 0.0 if math.isfinite(value) else None
    return value
