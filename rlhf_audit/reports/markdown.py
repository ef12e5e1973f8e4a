"""report.md: the same first page and one line a row, for an issue, a wiki or a diff."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlhf_audit.reports import guidance
from rlhf_audit.reports.document import surest_first
from rlhf_audit.reports.front import Front, front
from rlhf_audit.reports.words import chance, day, interval, many, moment, sure, told, value, visible, whole

MOST_ROWS = 20
# Signs that mean something anywhere, at a line's start, or in what would become a link. Not the hyphen
# within: an erasure searches for pseudonyms as they are.
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~@]|^[-+=]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
_CODE = re.compile(r"`([^`]+)`")

Row = Mapping[str, Any]


def render(document: Mapping[str, Any]) -> str:
    """Return the Markdown of ``document.build``'s result; a function of it alone."""
    log, counts = document["log"], document["counts"]
    when = f", as of {moment(log['as_of'])}" if log["as_of"] else ""
    lines = [f"# Feedback audit of log {safe(log['log_id'])}{when}", ""]
    lines += [*_first(document, front(document)), ""]
    named = ("sessions", "episodes", "steps", "feedback", "raters", "scripted", "erased")
    lines += ["Counted: " + ", ".join(f"{whole(counts[name])} {name}" for name in named) + ".", ""]
    lines += _against(document["against"]) if document["against"] else []
    families: dict[str, list[Mapping[str, Any]]] = {}
    for audit in document["audits"]:
        families.setdefault(audit["family"], []).append(audit)
    for family, audits in families.items():
        lines += [f"## {safe(guidance.FAMILIES.get(family, family))}", ""]
        for audit in audits:
            lines += _audit(audit)
    lines += ["## Check", "", f"Ledger: {many(log['head']['size'], 'entry', 'entries')}, root"]
    lines += [f"`{log['head']['root']}`. SQL, every row and all parameters are in report.json.", ""]
    return "\n".join(lines)


def safe(text: str) -> str:
    r"""Return text that Markdown shows as it is: nothing is a link, a tag or a sign.

    >>> safe("[x](y) <b>")
    '\\[x\\](y) &lt;b&gt;'
    """
    flat = " ".join(visible(text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", flat)


def _prose(text: str) -> str:
    """Return our own words: code in backticks stays code."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if odd % 2 else safe(part) for odd, part in enumerate(parts))


def _measured(audit_id: str, row: Row) -> str:
    return safe(f"{guidance.in_short(audit_id)} {told(row)}")


def _first(document: Mapping[str, Any], page: Front) -> Iterator[str]:
    summary = document["summary"]
    found, audits = summary["n_findings"], many(summary["n_audits"], "audit")
    yield f"**{many(found, 'finding')}** in {summary['n_audits_flagged']} of {audits};" + (
        f" {many(summary['n_audits_insufficient'], 'audit')} had too few data, which is no all-clear."
    )
    if page.deadlines:
        yield f"\n**Erasures due: {page.n_deadlines}, overdue: {page.n_overdue}.**\n"
        for one in page.deadlines:
            state = "held" if one["held"] else "OVERDUE" if one["overdue"] else "due"
            yield f"- {safe(one['rater_id'])}: {state}, by {day(one['erase_by'])}. {safe(one['note'])}"
    if page.ends:
        yield f"\nThe next consent ends on {day(page.ends[0])}; {page.ends[1]} within 30 days from then."
    if page.raters:
        yield "\n**Raters to ask, by first cause**\n"
    for one in page.raters:
        also = ", ".join(safe(other["title"]) + " (follows)" * other["follows"] for other in one["also"])
        also = f" Also: {also}." if also else ""
        said = f"{_measured(one['audit'], one['row'])}; {sure(one['row'])}.{also} {_prose(one['advice'])}"
        yield f"- {safe(one['rater_id'])}: {safe(one['title'])}: {said}"
    if page.n_raters > len(page.raters):
        yield f"- and {page.n_raters - len(page.raters)} more in report-findings.csv"
    if page.others:
        yield "\n**About no single rater**\n"
    for one in page.others:
        row = one["general"]
        yield (
            f"- {safe(one['title'])}: {safe(row['subject'])}: {_measured(one['audit'], row)}; {sure(row)}."
            + (f" {_prose(one['advice'])}")
        )


def _audit(audit: Mapping[str, Any]) -> Iterator[str]:
    verdict = {"findings": many(audit["n_flagged"], "finding"), "clear": "nothing found"}
    yield f"### {safe(audit['title'])}: {verdict.get(audit['verdict'], 'too few data to say')}\n"
    yield f"{safe(audit['question'])}\n"
    rows = sorted(
        audit["rows"], key=lambda row: (not row["flagged"], "/" in row["subject"], surest_first(row))
    )
    if rows:
        yield "| subject | n | value | 95 % interval | p | q | flagged | note |"
        yield "|---|--:|--:|--:|--:|--:|---|---|"
    for row in rows[:MOST_ROWS]:
        cells = (
            *(safe(row["subject"]), whole(row["n"]), value(row), interval(row), chance(row["p"])),
            *(chance(row["q"]), "yes" if row["flagged"] else "no", safe(row["note"])),
        )
        yield f"| {' | '.join(cells)} |"
    if len(rows) > MOST_ROWS:
        yield f"\n{whole(len(rows) - MOST_ROWS)} more in report-rows.csv."
    yield ""


def _against(change: Mapping[str, Any]) -> Sequence[str]:
    lines = ["## Since the older report", ""]
    for one in change["findings"]:
        new = [f"new {safe(subject)}" for subject in one["new"]]
        gone = [f"gone {safe(old['subject'])} ({safe(old['why'])})" for old in one["gone"]]
        unnamed = [f"{one['n_gone_unnamed']} gone that are no longer judged"] * bool(one["n_gone_unnamed"])
        lines.append(f"- {safe(one['title'])}: " + "; ".join([*new, *gone, *unnamed]))
    lines.append(f"- {many(change['n_kept'], 'finding')} as before")
    for one in change["moved"]:
        before, now = value_of(one["before"]), value_of(one["now"])
        lines.append(f"- {safe(one['audit'])} {safe(one['subject'])}: {before}, now {now}")
    new_raters = ", ".join(map(safe, change["raters_new"])) or "none"
    lines.append(f"- raters new: {new_raters}; no longer listed: {change['n_raters_gone']}")
    for name in ("audits_new", "audits_gone", "sql"):
        if change[name]:
            lines.append(f"- {name.replace('_', ' ')}: {', '.join(map(safe, change[name]))}")
    lines += [
        f"- parameter {safe(one['audit'])}.{safe(one['name'])}: {one['before']}, now {one['now']}"
        for one in change["parameters"]
    ]
    return [*lines, ""]


def value_of(numbers: Row) -> str:
    """Return a value with its interval."""
    row = {**numbers, "p": None}
    known = numbers["lower"] is not None and numbers["upper"] is not None
    return value(row) + (f" ({interval(row)})" if known else "")
