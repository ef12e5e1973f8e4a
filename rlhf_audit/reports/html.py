"""Makes the two pages that people read: a report from report.json alone, and a receipt for one rater.

A page is one file with nothing to load and nothing that runs; every text from outside is escaped, and control
or direction-changing characters in it are made visible, so that a name cannot disguise itself.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rlhf_audit.canonical import json_bytes, sha256_hex
from rlhf_audit.reports import figures, guidance, svg, timeline, words
from rlhf_audit.reports.document import is_insufficient, report_sha256, subject_raters, surest_first
from rlhf_audit.reports.front import front
from rlhf_audit.reports.guidance import Picture
from rlhf_audit.reports.heat_map import heat_map
from rlhf_audit.reports.svg import Figure

MOST_TABLE_ROWS = 60
FIRST_TABLE_ROWS, MOST_KEYS = 12, 7
MOST_FINDINGS = 200
"""Rows of one audit that the page holds; of findings more, as they are what it is for."""

_WHOLE = ("panel", "groups", "policies")
_RECORD_PICTURES = (Picture.AGREEMENT, Picture.EPISODE, Picture.DRIFT, Picture.LATENCY)


def render_report(document: Mapping[str, Any]) -> str:
    """Return the report page for ``document.build``'s result.

    Determinism:
        A function of ``document`` alone.
    """
    beside, alone = _figures(document)
    families: dict[str, list[dict[str, Any]]] = {}
    for number, audit in enumerate(document["audits"], 1):
        shown = {
            "number": number,
            "figures": beside.get(audit["id"], []),
            "groups": _row_groups(audit["rows"]),
            "key": _key_rows(audit),
            "disputes": number == _of_disputes(document["audits"]),
        }
        families.setdefault(audit["family"], []).append({**audit, **shown})
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            document=document,
            front=front(document),
            families=[
                (name, guidance.FAMILIES.get(name, "Other audits"), audits)
                for name, audits in families.items()
            ],
            record_figures=[alone[picture] for picture in _RECORD_PICTURES if picture in alone],
            disputed_alone=not _of_disputes(document["audits"]),
            consent_figure=alone[Picture.CONSENT],
            scripts={r["rater_id"]: r["scripted"] for r in document["raters"] if r["scripted"] is not None},
            report_sha256=report_sha256(document),
        )
    )


def render_receipt(receipt: Mapping[str, Any]) -> str:
    """Return the page that tells a rater, in plain words, what was deleted and what could not be."""
    unsigned = {key: value for key, value in receipt.items() if key != "signature"}
    return (
        _environment()
        .get_template("receipt.html.j2")
        .render(
            receipt=receipt,
            signed_sha256=sha256_hex(json_bytes(unsigned)),
            hex_keys=bool(re.fullmatch("[0-9a-f]{64}", str(receipt["signature"]["public_key"]))),
        )
    )


def _figures(document: Mapping[str, Any]) -> tuple[dict[str, list[Figure]], dict[Picture, Figure]]:
    """Return the figures by id of the audit that they stand beside, and those that no audit is about."""
    points = document["figures"]
    scripted = {rater["rater_id"] for rater in document["raters"] if rater["scripted"] is not None}
    known = {rater["rater_id"] for rater in document["raters"]}
    audits: dict[Picture, list[Mapping[str, Any]]] = {}
    for audit in document["audits"]:
        audits.setdefault(guidance.topic(audit["id"]).picture, []).append(audit)

    def flagged(picture: Picture) -> set[str]:
        subjects = [r["subject"] for audit in audits.get(picture, []) for r in audit["rows"] if r["flagged"]]
        return {name for subject in subjects for name in subject_raters(subject, known)}

    coefficients = [row for audit in audits.get(Picture.AGREEMENT, [])[:1] for row in audit["rows"]]
    common = {
        Picture.EPISODE: figures.episode("fig-episode", points["episode"]),
        Picture.DRIFT: figures.drift("fig-drift", points["drift"], flagged(Picture.DRIFT), scripted),
        Picture.LATENCY: figures.latency(
            "fig-latency", points["latencies"], flagged(Picture.LATENCY), scripted
        ),
        Picture.AGREEMENT: figures.agreement("fig-agreement", coefficients),
    }
    # Where raters disagree is read beside how much they do, where no audit is about it.
    places = {picture: found[0]["id"] for picture, found in audits.items()}
    if Picture.AGREEMENT in places:
        places.setdefault(Picture.EPISODE, places[Picture.AGREEMENT])
    beside: dict[str, list[Figure]] = {}
    for picture in (one for one in _RECORD_PICTURES if one in places):
        beside.setdefault(places[picture], []).append(common[picture])
    alone = {picture: figure for picture, figure in common.items() if picture not in places}
    as_of = document["log"]["as_of"]
    alone[Picture.CONSENT] = timeline.consent("fig-consent", points["spells"], scripted, as_of)
    for number, audit in enumerate(document["audits"], 1):
        own = _own_figure(f"fig-{number}", audit, scripted, audit["id"] == places.get(Picture.AGREEMENT))
        beside.setdefault(audit["id"], []).extend(own)
    return beside, alone


def _own_figure(uid: str, audit: Mapping[str, Any], scripted: set[str], drawn: bool) -> list[Figure]:
    """Return the figure of an audit's own rows, unless they are drawn already, or only counted."""
    topic = guidance.topic(audit["id"])
    if topic.picture is Picture.HEAT_MAP:
        return [heat_map(uid, audit["rows"], scripted)]
    if drawn or topic.picture is Picture.CONSENT:
        return []
    return [figures.intervals(uid, audit, topic, scripted)] if audit["rows"] else []


def _of_disputes(audits: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the audit that the disputed steps are shown with; 0 if none is about them."""
    for picture in (Picture.EPISODE, Picture.AGREEMENT):
        for number, audit in enumerate(audits, 1):
            if guidance.topic(audit["id"]).picture is picture:
                return number
    return 0


def _key_rows(audit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows that tell most: a panel's few, else the surest finding or the nearest to one."""
    rows = audit["rows"]
    judged = [row for row in rows if row["value"] is not None and not is_insufficient(row)]
    # What is only counted, and in order, tells nothing.
    judged = [row for row in judged if row["flagged"] or row["lower"] is not None or row["p"] is not None]
    judged.sort(key=lambda row: (not row["flagged"], *surest_first(row)))
    few = audit["family"] in _WHOLE and len(judged) <= MOST_KEYS
    if few:
        return judged
    # Without a test nothing says which row is nearest to a finding.
    return [row for row in judged[:1] if row["flagged"] or row["p"] is not None]


def _row_groups(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the rows to show at once (findings first, raters before pairs) and those to fold away."""
    ordered = sorted(rows, key=lambda row: (not row["flagged"], "/" in row["subject"], surest_first(row)))
    n_flagged = sum(row["flagged"] for row in ordered)
    ordered = ordered[: max(MOST_TABLE_ROWS, min(n_flagged, MOST_FINDINGS))]
    if len(ordered) <= FIRST_TABLE_ROWS + 4:
        return ordered, []
    # Where nothing is found the figure says it all.
    cut = max(FIRST_TABLE_ROWS, min(n_flagged, 30)) if n_flagged else 0
    return ordered[:cut], ordered[cut:]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlhf_audit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(words, name)
        for name in (
            "number",
            "label",
            "value",
            "told",
            "chance",
            "sure",
            "interval",
            "day",
            "moment",
            "short",
        )
    }
    environment.filters |= {
        "whole": words.whole,
        "many": words.many,
        "prose": _prose,
        "in_short": guidance.in_short,
        "tally": _tally,
        "figure": _figure,
    }
    environment.tests["counted"] = words.is_counted
    environment.globals["palette"] = svg.PALETTE
    return environment


def _visible(value: Any) -> Any:
    """Replace what could disguise or reorder text; our own markup is left alone."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return words.visible(value)


def _figure(figure: Figure) -> Markup:
    # Made by reports.svg, whose XML writer has escaped every text in it.
    return Markup(figure.svg or "")


def _tally(value: Any) -> int:
    """Return how many: of a list its length, of a number the number itself."""
    return value if isinstance(value, int) else len(value)


def _prose(text: str) -> Markup:
    """Return escaped text with `words in backticks` as code, and signs as they are printed."""
    escaped = str(escape(words.visible(text)))
    signs = escaped.replace("&lt;=", "≤").replace("&gt;=", "≥")
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", signs))
