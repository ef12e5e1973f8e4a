"""The figures: well-formed, named, the same again, legible, and a sentence where data are missing."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import pytest
from report_panel import contrast

from rlhf_audit.reports import figures, guidance, svg, timeline
from rlhf_audit.reports.forest import MOST_LABELLED, MOST_NAMED
from rlhf_audit.reports.heat_map import heat_map
from rlhf_audit.reports.svg import draw

SEVERITY = guidance.topic("severity")
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


def audit(rows, title="Severity", measures="units"):
    return {
        "title": title,
        "measures": measures,
        "rows": rows,
        "parameters": {"threshold": 0.25, "n_min": 30},
    }


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
        figures.intervals(
            "fig-a", audit(rows, "Severity " + names[0], "units " + names[0]), SEVERITY, scripted
        ),
        figures.agreement("fig-b", rows),
        heat_map("fig-c", [*pairs, *rows[:1]], scripted),
        figures.drift("fig-d", bins, flagged, scripted),
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
                "metadata",
                "foreignObject",
            )
            for name, value in element.attrib.items():
                assert not name.startswith("on") and "http" not in value
                inside = value.startswith("data:image/png;base64,") if element.tag == f"{SVG}image" else False
                assert "href" not in name or value.startswith("#") or inside


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
    for figure in (usual[0], usual[2], usual[4]):
        assert "▲ r-00000000" in texts(figure.svg)
        assert "r-00000001 (scripted)" in texts(figure.svg)
    assert "▲ r-00000000" in texts(usual[3].svg)


def test_hostile_names_stay_text():
    drawn = [figure for figure in every_figure([HOSTILE, HOSTILE + "2", "r-a"]) if figure.svg]
    assert len(drawn) >= 6, "a pair of names with slashes is no pair: the matrix may have none"
    for figure in drawn:
        root = ElementTree.fromstring(figure.svg)
        assert not list(root.iter(f"{SVG}script"))
        assert "<script" not in figure.svg
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", figure.svg)


def test_two_hundred_raters_stay_legible():
    names = [f"r-{number:08x}" for number in range(200)]
    drawings = every_figure(names)
    for figure in drawings:
        assert float(ElementTree.fromstring(figure.svg).get("viewBox").split()[3]) < 72 * 9
        shown = {text.removeprefix("▲ ")[:10] for text in texts(figure.svg)}
        assert len({name for name in shown if name.startswith("r-")}) <= MOST_LABELLED
        assert len(figure.svg) < 80_000
    assert "▲ r-00000000" in texts(drawings[0].svg), "what is flagged is always drawn, and named"
    assert drawings[0].caption == (
        "Severity r-00000000: value and 95 % interval. All 200 subjects are drawn; what is flagged is named."
    )
    (timeline_figure,) = [figure for figure in drawings if "fig-h" in figure.svg]
    assert "Only 18 of 200 raters are drawn" in timeline_figure.caption


def test_of_twenty_thousand_pairs_the_flagged_and_the_most_extreme_are_drawn():
    rows = [row(f"r-{a:03d}/r-{b:03d}", 0.001 * (b - a)) for a in range(200) for b in range(a)]
    rows[7]["flagged"] = True
    figure = figures.intervals("f", audit(rows), SEVERITY, ())
    assert "Only 30 of 19,900 subjects are drawn" in figure.caption
    drawn = texts(figure.svg)
    assert f"▲ {rows[7]['subject']}" in drawn and "r-199/r-000" in drawn and "r-001/r-000" not in drawn


def test_labels_of_many_flagged_rows_do_not_overlap():
    rows = [row(f"r-{number:08x}", 0.5 + 0.001 * number, flagged=number % 5 == 0) for number in range(200)]
    drawn = figures.intervals("f", audit(rows), SEVERITY, ())
    places = [
        float(element.get("y"))
        for element in ElementTree.fromstring(drawn.svg).iter(f"{SVG}text")
        if (element.text or "").startswith("▲ r-")
    ]
    assert len(places) == MOST_NAMED and "24 of them, is named" in drawn.caption
    assert all(below - above >= 8.9 for above, below in pairwise(places))
    top, bottom = 0, float(ElementTree.fromstring(drawn.svg).get("viewBox").split()[3])
    assert all(top < place < bottom for place in places)


def test_thresholds_are_drawn_where_the_audit_has_them():
    def dashed(topic, **parameters):
        one = audit([row("r-a", 0.1), row("r-b", 0.3)]) | {"parameters": parameters}
        return figures.intervals("f", one, topic, ()).svg.count("stroke-dasharray:3 2")

    # One more is the legend's.
    assert dashed(SEVERITY, threshold=0.25) == 3
    assert dashed(guidance.topic("random_rater"), threshold=0.35) == 2
    assert dashed(guidance.topic("severity"), n_min=3) == 0


def test_the_matrix_puts_those_together_who_agree():
    """Two camps, their raters named in turn: the order of the rows must part them."""
    names = [f"r-{number}" for number in range(10)]
    rows = [
        row(f"{a}/{b}", 0.8 if int(a[2:]) % 2 == int(b[2:]) % 2 else 0.1)
        for a in names
        for b in names
        if a < b
    ]
    labels = [text for text in texts(heat_map("f", rows, ()).svg) if text.startswith("r-")][:10]
    camps = [int(label[2:]) % 2 for label in labels]
    assert camps in ([0] * 5 + [1] * 5, [1] * 5 + [0] * 5)


def test_pictures_do_not_depend_on_the_order_of_rows():
    names = [f"r-{number:08x}" for number in range(12)]
    rows = [row(f"{a}/{b}", 0.01 * (int(a[2:], 16) * 7 % 5)) for a in names for b in names if a < b]
    assert heat_map("f", rows[::-1], ()) == heat_map("f", rows, ())
    own = [row(name, 0.1) for name in names]
    assert figures.intervals("f", audit(own[::-1]), SEVERITY, ()) == figures.intervals(
        "f", audit(own), SEVERITY, ()
    )


@pytest.mark.parametrize("scheme", [1, 2])
def test_figures_have_contrast_in_both_schemes(scheme):
    shades = {name: colours[scheme] for name, colours in svg.PALETTE.items()}
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01), "WCAG's own example"
    for name in ("ink", "axis"):
        assert contrast(shades[name], shades["paper"]) >= 4.5 <= contrast(shades[name], shades["band"])
    for name in ("blue", "orange", "green", "pink", "olive", "grey", "faint"):
        assert contrast(shades[name], shades["paper"]) >= 3, name


def test_every_colour_of_a_figure_is_one_of_the_page_s(usual):
    for figure in usual:
        named_only = re.sub('data:image/png;base64,[^"]*', "", figure.svg)
        if "fig-c" not in named_only:  # the matrix has a scale of its own, whatever the scheme
            assert not re.search('#[0-9a-fA-F]{3,8}[;"]', named_only)


def test_missing_data_is_a_sentence():
    few = [row("r-a", 0.5, note="insufficient"), row("r-b", None)]
    for figure in (
        figures.intervals("f", audit(few), SEVERITY, ()),
        figures.agreement("f", []),
        heat_map("f", few, ()),
        figures.drift("f", [], (), ()),
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
