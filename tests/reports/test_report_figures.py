"""The figures: well-formed, named, the same again, legible, and a sentence where data are missing."""

import re
from xml.etree import ElementTree

import matplotlib
import pytest

from rlhf_audit.reports import figures, timeline
from rlhf_audit.reports.heat_map import MOST_RATERS, heat_map
from rlhf_audit.reports.svg import draw

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script>$\\frac{a}{b}$\x1b[31m\u202egnp.exe&\ud7ff漢"


def row(subject, value=0.4, **changes):
    return {
        "subject": subject,
        "n": 100,
        "value": value,
        "lower": None if value is None else value - 0.1,
        "upper": None if value is None else value + 0.1,
        "p": 0.01,
        "q": 0.02,
        "flagged": False,
        "note": "ok",
    } | changes


def every_figure(names):
    """All figures about ``names``, the first of whom is flagged and the second scripted."""
    flagged, scripted = set(names[:1]), set(names[1:2])
    rows = [row(name, 0.01 * place, flagged=not place) for place, name in enumerate(names)]
    pairs = [row(f"{a}/{b}") for a in names for b in names if a < b]
    bins = [
        {"rater_id": r, "first": t, "last": t + 1, "n": 9, "mean": 0.5, "n_shared": 9, "residual": 0.1 * t}
        for r in names
        for t in range(10)
    ]
    quantiles = {"n": 9, "p05": 0.1, "p25": 0.5, "p50": 1.0, "p75": 2.0, "p95": 40.0}
    times = {"starts_at": "2026-03-04T09:00:00.000000Z", "ends_at": "2027-03-04T09:00:00.000000Z"}
    return [
        figures.intervals("fig-a", "Severity " + names[0], "units " + names[0], rows, scripted, 0.0),
        figures.agreement("fig-b", rows),
        heat_map("fig-c", [*pairs, *rows[:1]], scripted),
        figures.drift("fig-d", bins, flagged, scripted),
        figures.answers(
            "fig-e", [{"rater_id": r, "n": 9, "n_commonest": 7} for r in names], flagged, scripted
        ),
        figures.latency("fig-f", [{"rater_id": r, **quantiles} for r in names], flagged, scripted),
        figures.episode("fig-g", [{"first": 0, "last": 1, "n_pairs": 9, "n_disagreeing": 2}]),
        timeline.consent(
            "fig-h", [{"rater_id": r, "state": "given", **times} for r in names], scripted, times["starts_at"]
        ),
    ]


def texts(svg):
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def usual():
    return every_figure([f"r-{number:08x}" for number in range(6)])


def test_svg_is_well_formed_named_and_loads_nothing(usual):
    for figure in usual:
        root = ElementTree.fromstring(figure.svg)
        assert root.get("role") == "img"
        first, second = list(root)[:2]
        assert (first.tag, second.tag) == (f"{SVG}title", f"{SVG}desc") and first.text and second.text
        assert root.get("aria-labelledby") == f"{first.get('id')} {second.get('id')}"
        for element in root.iter():
            assert element.tag.removeprefix(SVG) not in (
                "script",
                "style",
                "image",
                "metadata",
                "foreignObject",
            )
            for name, value in element.attrib.items():
                assert not name.startswith("on") and "http" not in value
                assert "href" not in name or value.startswith("#")


def test_ids_are_unique_on_a_page_and_every_reference_holds(usual):
    whole = "".join(figure.svg for figure in usual)
    ids = re.findall(r'\bid="([^"]+)"', whole)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', whole)) <= set(ids)


def test_figures_are_the_same_again_whatever_the_user_s_own_settings(usual):
    own = {
        "font.size": 30,
        "svg.fonttype": "path",
        "axes.grid": False,
        "lines.linewidth": 9,
        "timezone": "CET",
    }
    with matplotlib.rc_context(own):
        again = every_figure([f"r-{number:08x}" for number in range(6)])
    assert again == usual


def test_scripted_and_flagged_are_words_and_signs(usual):
    for figure in (usual[0], usual[2], usual[4], usual[5]):
        assert "▲ r-00000000" in texts(figure.svg)
        assert "r-00000001 (scripted)" in texts(figure.svg)
    assert "▲ r-00000000" in texts(usual[3].svg)


def test_hostile_names_stay_text():
    drawn = [figure for figure in every_figure([HOSTILE, HOSTILE + "2", "r-a"]) if figure.svg]
    assert len(drawn) >= 7, "a pair of names with slashes is no pair: the matrix may have none"
    for figure in drawn:
        root = ElementTree.fromstring(figure.svg)
        assert not list(root.iter(f"{SVG}script"))
        assert "<script" not in figure.svg
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", figure.svg)


def test_two_hundred_raters_stay_legible_and_the_caption_says_what_is_left_out():
    drawings = every_figure([f"r-{number:08x}" for number in range(200)])
    for figure in drawings:
        assert float(ElementTree.fromstring(figure.svg).get("viewBox").split()[3]) < 72 * 9
        if "fig-g" in figure.svg:
            continue
        limit = MOST_RATERS if "fig-c" in figure.svg else figures.MOST_ROWS
        names = {text.removeprefix("▲ ")[:10] for text in texts(figure.svg)}
        assert len({name for name in names if name.startswith("r-")}) <= limit
        assert "of 200" in figure.caption
    assert "▲ r-00000000" in texts(drawings[0].svg), "what is flagged is always drawn"


def test_missing_data_is_a_sentence():
    few = [row("r-a", 0.5, note="insufficient"), row("r-b", None)]
    for figure in (
        figures.intervals("f", "Severity", "units", few, (), 0.0),
        figures.agreement("f", []),
        heat_map("f", few, ()),
        figures.drift("f", [], (), ()),
        figures.answers("f", [], (), ()),
        figures.latency("f", [], (), ()),
        figures.episode("f", []),
        timeline.consent("f", [], (), None),
    ):
        assert figure.svg is None
        assert re.fullmatch("No figure: .+\\.", figure.caption)


@pytest.mark.parametrize("value", [0.0, -1.0, 1.0])
def test_extremes_can_be_drawn(value):
    assert figures.agreement("f", [row("alpha", value, lower=None, upper=None)]).svg
    assert heat_map("f", [row("r-a/r-b", value)], ()).svg
    assert figures.latency(
        "f", [{"rater_id": "r", "n": 1, "p05": 0.0, "p25": 0.0, "p50": 0.0, "p75": 0.0, "p95": 0.0}], (), ()
    ).svg


def test_title_and_description_are_what_was_said():
    svg = draw("f", "A & B", "one < two \x07", 1.5, lambda axes: axes.plot([0, 1]))
    title, description = list(ElementTree.fromstring(svg))[:2]
    assert (title.text, description.text) == ("A & B", "one < two \ufffd")
