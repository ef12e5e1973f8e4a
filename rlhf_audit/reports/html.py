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
from rlhf_audit.clock import from_text
from rlhf_audit.reports import figures, guidance, timeline
from rlhf_audit.reports.document import report_sha256, subject_raters
from rlhf_audit.reports.guidance import Picture
from rlhf_audit.reports.heat_map import heat_map
from rlhf_audit.reports.svg import Figure

MOST_TABLE_ROWS = 300
FIRST_TABLE_ROWS = 15

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_RECORD_PICTURES = (Picture.AGREEMENT, Picture.EPISODE, Picture.DRIFT, Picture.ANSWERS, Picture.LATENCY)


def render_report(document: Mapping[str, Any]) -> str:
    """Return the report page for ``document.build``'s result.

    Determinism:
        A function of ``document`` alone.
    """
    beside, alone = _figures(document)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            document=document,
            audits=[
                {**audit, "figures": beside.get(audit["id"], []), "groups": _row_groups(audit["rows"])}
                for audit in document["audits"]
            ],
            record_figures=[alone[picture] for picture in _RECORD_PICTURES if picture in alone],
            consent_figure=alone[Picture.CONSENT],
            scripts={r["rater_id"]: r["scripted"] for r in document["raters"] if r["scripted"] is not None},
            report_sha256=report_sha256(document),
            most_table_rows=MOST_TABLE_ROWS,
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
    known = [rater["rater_id"] for rater in document["raters"]]
    audits: dict[Picture, list[Mapping[str, Any]]] = {}
    for audit in document["audits"]:
        audits.setdefault(guidance.topic(audit["id"]).picture, []).append(audit)

    def flagged(picture: Picture) -> set[str]:
        subjects = [r["subject"] for audit in audits.get(picture, []) for r in audit["rows"] if r["flagged"]]
        return {name for subject in subjects for name in subject_raters(subject, known)}

    coefficients = [row for audit in audits.get(Picture.AGREEMENT, []) for row in audit["rows"]]
    common = {
        Picture.EPISODE: figures.episode("fig-episode", points["episode"]),
        Picture.DRIFT: figures.drift("fig-drift", points["drift"], flagged(Picture.DRIFT), scripted),
        Picture.ANSWERS: figures.answers(
            "fig-answers", points["answers"], flagged(Picture.ANSWERS), scripted
        ),
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
    for number, audit in enumerate(document["audits"]):
        own = _own_figure(f"fig-{number + 1}", audit, scripted)
        if own is not None:
            beside[audit["id"]] = [own]
    return beside, alone


def _own_figure(uid: str, audit: Mapping[str, Any], scripted: set[str]) -> Figure | None:
    """Return the figure of an audit's own rows; None where the points of the record show it better."""
    topic = guidance.topic(audit["id"])
    if topic.picture is Picture.HEAT_MAP:
        return heat_map(uid, audit["rows"], scripted)
    if topic.picture is Picture.INTERVALS:
        axis = audit["measures"] or "value of the statistic"
        return figures.intervals(uid, audit["title"], axis, audit["rows"], scripted, topic.neutral)
    return None


def _row_groups(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the rows to show at once (findings first, raters before pairs) and those to fold away."""
    ordered = sorted(rows, key=lambda row: (not row["flagged"], "/" in row["subject"]))[:MOST_TABLE_ROWS]
    n_flagged = sum(row["flagged"] for row in ordered)
    cut = len(ordered) if len(ordered) <= FIRST_TABLE_ROWS + 5 else max(FIRST_TABLE_ROWS, n_flagged)
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
        "number": _number,
        "value": _value,
        "prose": _prose,
        "chance": _chance,
        "sure": _sure,
        "interval": _interval,
        "day": _day,
        "moment": _moment,
        "short": _short,
        "whole": _whole,
        "many": _many,
        "tally": _tally,
        "figure": _figure,
    }
    environment.tests["counted"] = _is_counted
    return environment


def _visible(value: Any) -> Any:
    """Replace what could disguise or reorder text; our own markup is left alone."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _UNSAFE.sub("\ufffd", value)


def _figure(figure: Figure) -> Markup:
    # Made by reports.svg, whose XML writer has escaped every text in it.
    return Markup(figure.svg or "")


def _whole(value: int) -> str:
    return f"{value:,}"


def _many(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _tally(value: Any) -> int:
    """Return how many: of a list its length, of a number the number itself."""
    return value if isinstance(value, int) else len(value)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if value == int(value) and abs(value) >= 2:
        return f"{int(value):,}".replace("-", "−")
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def _value(row: Mapping[str, Any]) -> str:
    """Return a row's value; one without an interval or a test may be a count."""
    value = row["value"]
    if value is not None and value == int(value) and row["lower"] is None and row["p"] is None:
        return f"{int(value):,}".replace("-", "−")
    return _number(value)


def _prose(text: str) -> Markup:
    """Return escaped text with `words in backticks` as code, and signs as they are printed."""
    escaped = str(escape(_visible(text)))
    signs = escaped.replace("&lt;=", "≤").replace("&gt;=", "≥")
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", signs))


def _interval(row: Mapping[str, Any]) -> str:
    if row["lower"] is None or row["upper"] is None:
        return "–"
    return f"{_number(row['lower'])} to {_number(row['upper'])}"


def _chance(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _is_counted(row: Mapping[str, Any]) -> bool:
    """Say whether a row is a count that its own note explains: nothing was estimated."""
    return row["lower"] is None and row["p"] is None and row["note"] not in ("", "ok")


def _sure(row: Mapping[str, Any]) -> str:
    """Return how sure a finding is, in words that claim no more than the test does."""
    chance = row["q"] if row["q"] is not None else row["p"]
    if chance is None and _is_counted(row):
        return "this is counted, not estimated"
    if chance is None:
        return "no test of chance applies: the interval says how exact the value is"
    for limit, words in ((0.001, "very unlikely to be chance"), (0.01, "unlikely to be chance")):
        if chance < limit:
            return f"{words} (q {_chance(chance)})"
    return f"chance is not quite excluded (q {_chance(chance)})"


def _short(digest: str | None) -> str:
    return "none" if not digest else digest if len(digest) <= 16 else f"{digest[:12]}…"


def _day(text: str | None) -> str:
    """Return a date in words, ``4 March 2026``; what is no date is shown as it is."""
    return _moment(text).partition(",")[0]


def _moment(text: str | None) -> str:
    if not text:
        return "–"
    try:
        when = from_text(text)
    except ValueError:
        return text
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M} UTC"
