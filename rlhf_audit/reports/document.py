"""The result model: everything a report says, as one JSON document made of plain facts and audit rows.

The HTML page is made from this document alone, so whoever holds report.json can make the page again and
get the same bytes. Nothing here reads a clock, draws a random number or depends on the order of its input.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from typing import Any

from rlhf_audit.audits import catalogue
from rlhf_audit.canonical import json_bytes, sha256_hex
from rlhf_audit.reports import guidance
from rlhf_audit.reports.facts import FigureData, LogFacts
from rlhf_audit.types import AuditResult, AuditRow, Severity

_FAMILY = {name: family for family, names in catalogue.FAMILIES.items() for name in names}
SCHEMA = "rlhf_audit.report/1"
_PLAINEST = ("consent", "raters", "pairs", "groups", "policies", "other", "panel")
_POINTS = ("drift", "latencies", "episode", "disputed", "spells")
_NAMES = re.compile(r"[^/:=,\s]+")
_FIRST_CAUSE = re.compile(r"first cause: (\w+)")
_LOUDEST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_RANK = {severity.value: number for number, severity in enumerate(_LOUDEST_FIRST)}


def build(
    facts: LogFacts,
    audits: Sequence[AuditResult],
    points: FigureData,
    against: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the content of report.json.

    Args:
        facts: Of the log.
        audits: In any order.
        points: Of the figures.
        against: Compares the document with an older one; see ``against.Old.compare``.

    Determinism:
        Every list is sorted by its content; not-a-number and infinity become null.
    """
    raters = _sorted(facts.raters)
    listed = [_audit(_nameable(result, facts)) for result in sorted(audits, key=_reading_order)]
    made = {
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
        "figures": {name: _sorted(getattr(points, name)) for name in _POINTS}
        | {"pictures_note": points.pictures_note},
        "against": None,
    }
    return made if against is None else made | {"against": against(made)}


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
    names = known if isinstance(known, Set) else set(known)
    return [part for part in _NAMES.findall(subject) if part in names]


UNNAMED = "a rater who has withdrawn"
"""Whom a finding is about who may not be named."""


def is_insufficient(row: Mapping[str, Any]) -> bool:
    """Say whether a row of the document had too few data to judge."""
    return bool(row["note"].startswith("insufficient"))


def surest_first(row: Mapping[str, Any]) -> tuple[float, float, str]:
    """Return a sort key: the least chance first, then the largest value."""
    chance = row["q"] if row["q"] is not None else row["p"]
    return (1.0 if chance is None else chance, -abs(row["value"] or 0.0), row["subject"])


def _nameable(result: AuditResult, facts: LogFacts) -> AuditResult:
    """Return the result without those who may not be named: their findings stay, their pseudonyms go.

    Someone who has withdrawn is named where the pending erasure itself is the subject, and nowhere else.
    """
    unnamed = set(facts.erased)
    if guidance.topic(result.id) is not guidance.PENDING:
        unnamed |= {made.rater_id for made in facts.withdrawals} - {rater.rater_id for rater in facts.raters}
    if not unnamed:
        return result
    kept = []
    for row in result.rows:
        if not subject_raters(f"{row.subject} {row.note}", unnamed):
            kept.append(row)
        elif row.flagged:
            kept.append(
                replace(row, subject=UNNAMED, note="" if subject_raters(row.note, unnamed) else row.note)
            )
    return replace(result, rows=tuple(kept))


def _audit(result: AuditResult) -> dict[str, Any]:
    header = guidance.header(result.sql)
    rows = sorted(map(_plain_row, result.rows), key=_by_subject)
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
        "family": _FAMILY.get(result.id, "other"),
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


def _plain_row(row: AuditRow) -> dict[str, Any]:
    # By hand: asdict takes its time, and there may be a row for each two of two hundred raters.
    return {
        "subject": row.subject,
        "n": row.n,
        "value": _finite(row.value),
        "lower": _finite(row.lower),
        "upper": _finite(row.upper),
        "p": _finite(row.p),
        "q": _finite(row.q),
        "flagged": row.flagged,
        "note": row.note,
    }


def _by_subject(row: Mapping[str, Any]) -> tuple[str, int, str, str]:
    # A row each: the rest is for audits that tell of one subject twice.
    return row["subject"], row["n"], repr(row["value"]), row["note"]


def _reading_order(result: AuditResult) -> tuple[int, str]:
    known = (
        catalogue.READING_ORDER.index(result.id)
        if result.id in catalogue.READING_ORDER
        else len(catalogue.READING_ORDER)
    )
    return known, result.id


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else []


def _summary(audits: Sequence[Mapping[str, Any]], raters: set[str]) -> dict[str, Any]:
    found = [audit for audit in audits if audit["verdict"] == "findings"]
    findings = [_finding(audit, raters) for audit in found]
    findings.sort(key=lambda finding: _RANK[finding["severity"]])
    verdicts = {audit["verdict"] for audit in audits}
    return {
        "verdict": next((v for v in ("findings", "clear") if v in verdicts), "insufficient"),
        "n_audits": len(audits),
        "n_findings": sum(audit["n_flagged"] for audit in audits),
        "n_audits_flagged": len(found),
        "n_audits_insufficient": sum(audit["verdict"] == "insufficient" for audit in audits),
        "raters_flagged": sorted({rater for finding in findings for rater in finding["raters"]}),
        "findings": findings,
        "by_rater": _by_rater(found, raters),
    }


def _finding(audit: Mapping[str, Any], raters: set[str]) -> dict[str, Any]:
    rows = sorted((row for row in audit["rows"] if row["flagged"]), key=surest_first)
    about = {row["subject"]: subject_raters(row["subject"], raters) for row in rows}
    general = [row for row in rows if not about[row["subject"]]]
    return {
        "audit": audit["id"],
        "title": audit["title"],
        "severity": audit["severity"],
        "subjects": [row["subject"] for row in rows],
        "raters": sorted({name for names in about.values() for name in names}),
        "strongest": rows[0],
        "n_general": len(general),
        "general": general[0] if general else None,
        "advice": audit["advice"],
    }


def _by_rater(found: Sequence[Mapping[str, Any]], raters: set[str]) -> list[dict[str, Any]]:
    """Return what is flagged about each rater in one piece: the first cause, then what else it trips.

    The audits attribute a finding to its first cause in their notes; of those that name none, or name each
    other, the first in reading order is it: there the plainest causes come first; but for what is about the
    whole panel, which every other cause trips.
    """
    gathered: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    of = {audit["id"]: audit for audit in found}
    about = [
        (audit["id"], row, subject_raters(row["subject"], raters))
        for audit in found
        for row in audit["rows"]
        if row["flagged"]
    ]
    alone = {names[0] for _, _, names in about if len(names) == 1}
    for audit_id, row, names in about:
        # Of two of whom one is flagged alone, it is that one whom the pair's finding is about.
        for rater_id in [name for name in names if name in alone] or names:
            gathered.setdefault(rater_id, {}).setdefault(audit_id, []).append(row)
    merged = [_profile(rater_id, rows, of) for rater_id, rows in gathered.items()]
    return sorted(
        merged,
        key=lambda one: (_RANK[one["severity"]], *surest_first(one["row"])[:2], one["rater_id"]),
    )


def _profile(
    rater_id: str, flagged: Mapping[str, list[Mapping[str, Any]]], of: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    causes = {name: _causes(rows) for name, rows in flagged.items()}
    named = [cause for several in causes.values() for cause in several if cause in flagged]
    own = [name for name, several in causes.items() if not several]
    cause = min(own or named or flagged, key=lambda name: _PLAINEST.index(of[name]["family"]))
    return {
        "rater_id": rater_id,
        "severity": min((of[name]["severity"] for name in flagged), key=_RANK.__getitem__),
        "audit": cause,
        "title": of[cause]["title"],
        "row": min(flagged[cause], key=surest_first),
        "advice": of[cause]["advice"],
        "also": [
            {"audit": name, "title": of[name]["title"], "follows": cause in causes[name]}
            for name in flagged
            if name != cause
        ],
    }


def _causes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({match[1] for row in rows for match in _FIRST_CAUSE.finditer(row["note"])})


def _sorted(items: Iterable[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as JSON objects, ordered by their own canonical bytes after their leading names."""
    plain = [{name: _finite(value) for name, value in asdict(item).items()} for item in items]
    return sorted(plain, key=lambda item: (_leading(item), json_bytes(item)))


def _leading(item: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names = tuple(str(item[key]) for key in ("rater_id", "name", "path", "starts_at") if key in item)
    return names, (int(item.get("first", 0)),)


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        # Minus zero and zero are one value: they must not make two documents.
        return value + 0.0 if math.isfinite(value) else None
    return value
