"""The two pages: the same bytes again, nothing that runs or loads, whole HTML, and hostile text as text."""

import copy
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from report_panel import FACTS, HOSTILE, Panel, contrast, receipt

from rlhf_audit import canonical
from rlhf_audit.reports import document, front, guidance, html, words
from rlhf_audit.reports.facts import FigureData
from rlhf_audit.reports.guidance import Picture

_VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and notes what a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.headings, self.ids, self.attributes = [], [], [], [], []
        self.tables, self.captions, self.text = 0, 0, ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def _note(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def check(text):
    """Everything that holds of every page; returns it parsed."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("href", "src", "xlink:href", "action"):
            picture = value.startswith("data:image/png;base64,") and tag in ("img", "image")
            assert picture or value.startswith(("#", "data:,")), (tag, value)
        assert "://" not in (value or "") or name in ("xmlns", "aria-label")
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(page.ids) == len(set(page.ids))
    links = {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")}
    assert links <= set(page.ids)
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.tags.count("table") == page.tags.count("caption")
    assert all(scope in ("col", "row") for tag, name, scope in page.attributes if name == "scope")
    n_scoped = sum(name == "scope" for _, name, _ in page.attributes)
    assert n_scoped == page.tags.count("th")
    return page


@pytest.fixture(scope="module")
def page(report):
    return html.render_report(report)


def test_report_is_whole_and_loads_nothing(page):
    assert "<svg" in page
    check(page)


def test_receipt_is_the_same_again():
    assert html.render_receipt(receipt()) == html.render_receipt(receipt())


def test_another_process_makes_the_same_page_from_the_json_alone(tmp_path, report, page):
    source = tmp_path / "report.json"
    source.write_bytes(document.report_bytes(report))
    program = (
        "import json, sys; from rlhf_audit.reports import html; "
        "sys.stdout.buffer.write(html.render_report(json.load(open(sys.argv[1], 'rb'))).encode())"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, str(source)],
        env=os.environ | {"PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"},
        check=True,
        capture_output=True,
    )
    assert made.stdout.decode() == page


def test_report_tells_how_to_check_itself(tmp_path, report, page):
    file = tmp_path / "report.json"
    file.write_bytes(document.report_bytes(report))
    assert canonical.file_sha256(file) in page
    assert report["log"]["head"]["root"] in page
    for command in ("rlhf-audit verify LOG", "rlhf-audit audit LOG"):
        assert command in page
    for audit in report["audits"]:
        assert audit["sql"] in unescape(page)


def test_summary_comes_first_and_says_what_matters(panel, report, page):
    text = Page(page).text
    assert f"{report['summary']['n_findings']} findings" in text
    assert "1 erasure is overdue" in text
    order = [page.index(f'id="{name}"') for name in ("summary", "contents", "consent", "raters", "check")]
    assert order == sorted(order)
    assert "scripted: always-yes" in text
    assert panel.erased not in page


def article(page, title):
    return page.partition(f">{title}</h3>")[2].partition("</article>")[0]


def test_no_figure_stands_alone(report, page):
    """Where raters disagree is drawn beside how much they do; without that audit, with the other pictures."""
    assert "The feedback in pictures" not in page and page.count("Disagreement along the episode:") == 1
    kinds = {audit["title"]: guidance.topic(audit["id"]).picture for audit in report["audits"]}
    about = [title for title, kind in kinds.items() if kind is Picture.EPISODE] or ["Agreement"]
    shown = article(page, about[0])
    assert "Disagreement along the episode:" in shown and page.count("The most disputed steps") == 1
    assert "The most disputed steps" in shown and "<figure>" in article(page, "Agreement")
    left = [
        one for one in report["audits"] if kinds[one["title"]] not in (Picture.EPISODE, Picture.AGREEMENT)
    ]
    without = report | {"audits": left}
    pictures = html.render_report(without).partition("The feedback in pictures")[2].partition("</section>")[0]
    assert "Disagreement along the episode:" in pictures and "The most disputed steps" in pictures
    check(html.render_report(without))


def test_deadlines_come_before_people_and_people_before_the_rest(panel, page):
    text = " ".join(Page(page).text.split())
    first = text.partition("First: deadlines")[2].partition("Contents")[0]
    assert first.index("1 erasure is overdue; 2 withdrawals pending") < first.index("Raters to ask")
    assert "Still held: rows 240; files 1; policies 1 (agreeable); reports 0; exports 1." in first
    assert first.index(panel.overdue) < first.index(panel.pending), "overdue first"
    assert first.index("Raters to ask") < first.index("About no single rater") < first.index("Agreement")
    assert "the interval says how exact the value is" in first and "n\u00a0=\u00a0" in page
    assert "How sure: this is counted, not estimated." not in first, "deadlines are no rater's finding"


def test_the_first_page_is_short_whatever_was_found(document_of):
    """Print breaks behind it: a page of A4 holds its lists at their longest, as was looked at."""
    built = copy.deepcopy(document_of(Panel(14)))
    by_rater = built["summary"]["by_rater"]
    built["summary"]["by_rater"] = by_rater * 40
    built["withdrawals"] *= 40
    built["summary"]["findings"] *= 40
    first = html.render_report(built).partition('class="front"')[2].partition("</section>")[0]
    assert first.count("<li ") <= front.MOST_DEADLINES + front.MOST_RATERS + front.MOST_OTHERS
    assert f"And {len(by_rater) * 40 - front.MOST_RATERS} more raters" in first
    assert len(Page(f"<div>{first}</div>".replace("<div> aria", "<div aria")).text.split()) < 900


def test_a_rater_is_told_of_once_with_the_first_cause(report):
    merged = report["summary"]["by_rater"]
    names = [one["rater_id"] for one in merged]
    assert len(names) == len(set(names)) and set(names) <= set(report["summary"]["raters_flagged"])
    for one in merged:
        assert one["audit"] != "pairwise_kappa" or not one["also"], "the panel's audits name no cause"


def test_every_audit_has_a_family_and_an_unknown_one_a_figure_and_advice(report):
    known = {audit["family"] for audit in report["audits"]}
    assert known <= set(guidance.FAMILIES) - {"other"}
    new = next(audit for audit in report["audits"] if audit["id"] == "severity")
    new = new | {"id": "novel_measure", "title": "Novel measure", "family": "other"}
    page = html.render_report(report | {"audits": [*report["audits"], new]})
    check(page)
    own = article(page, "Novel measure")
    assert "Other audits" in page and own.count("<svg") == 1 and "stroke-dasharray" in own
    assert guidance.topic("novel_measure").advice


@pytest.mark.parametrize(
    ("audit_id", "part"),
    [
        ("consent_validity", "Stop using"),
        ("pending_withdrawals", "Erase now"),
        ("erased_returned", "backup"),
        ("terms_changed", "new terms"),
        ("withdrawal_sensitivity", "withdrawn feedback"),
        ("policy_share", "Train the policy again"),
        ("pairwise_kappa", "what the flagged rater was shown"),
        ("copying", "keep only one"),
        ("duplicate_raters", "two pseudonyms"),
        ("marginal_homogeneity", "what each label means"),
        ("rasch_severity", "Correct for severity"),
        ("severity", "explain it again"),
        ("rater_fit", "noise"),
        ("drift", "first and the last"),
        ("fatigue", "breaks"),
        ("fatigue_onset", "breaks"),
        ("gold_accuracy", "contradict the known labels"),
        ("central_tendency", "both ends"),
        ("straight_lining", "longest run"),
        ("halo", "one criterion"),
        ("anchoring", "random order"),
        ("position_bias", "two sides"),
        ("tie_excess", "task before the rater"),
        ("intra_rater", "clear"),
        ("item_controversy", "instructions"),
        ("simpson", "stratum"),
        ("group_bias", "leaving a group out"),
        ("group_cohesion", "leaving a group out"),
        ("truth_inference", "inferred labels"),
        ("icc", "instructions"),
        ("kendall_w", "instructions"),
        ("agreement_bootstrap", "instructions"),
    ],
)
def test_each_audit_has_advice_of_its_own(audit_id, part):
    assert part in guidance.topic(audit_id).advice


def test_what_scrolls_can_be_reached_and_what_is_a_picture_has_words(page):
    parsed = Page(page)
    regions = [tag for tag, name, value in parsed.attributes if (name, value) == ("class", "scroll")]
    focusable = [tag for tag, name, value in parsed.attributes if (name, value) == ("tabindex", "0")]
    assert len(focusable) == len(regions) + parsed.tags.count("pre")
    assert {"header", "nav", "main", "footer"} <= set(parsed.tags)
    n_drawn = parsed.tags.count("svg")
    assert n_drawn == sum(value == "img" for _, name, value in parsed.attributes if name == "role")
    assert sum(name == "alt" for _, name, _ in parsed.attributes) == parsed.tags.count("img")
    assert all("SQL" in one or "row" in one or "rater" in one for one in re.findall("<summary>(.*?)</", page))


def test_pictures_of_disputed_steps_are_embedded(report):
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
    steps = [one | {"picture": dot} for one in report["figures"]["disputed"]]
    page = html.render_report(report | {"figures": report["figures"] | {"disputed": steps}})
    assert check(page).tags.count("img") == len(steps) > 1
    assert f"What raters saw at step {steps[0]['step']} of episode {steps[0]['episode_id']}" in page
    left_out = report["figures"] | {"pictures_note": "No-v0 has no pictures"}
    assert "No picture: No-v0 has no pictures." in html.render_report(report | {"figures": left_out})


def shades(page, scheme):
    """The page's own colours by name; the first block is the light scheme's, the second the dark's."""
    blocks = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    return {name: value for name, value in re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme])}


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_contrast_in_both_schemes(page, scheme):
    colours = shades(page, scheme)
    for ground in ("page", "card", "tint"):
        for ink in ("ink", "quiet", "link"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for kind in ("bad", "unsure", "good"):
        assert contrast(colours[kind], colours[f"{kind}-tint"]) >= 4.5
        assert contrast(colours[kind], colours["page"]) >= 3, "the edge of a card"
    assert contrast(colours["ink"], colours["bad-tint"]) >= 4.5


def test_too_few_data_is_no_all_clear(document_of):
    text = Page(html.render_report(document_of(Panel(1, 80, habits=False)))).text
    assert "not an all-clear" in text and "too few data to say" in text
    assert "Nothing was found by 10" not in " ".join(text.split())


@pytest.mark.parametrize("n_raters", [0, 1, 200])
def test_empty_small_and_large_logs(document_of, n_raters):
    built = document_of(Panel(n_raters, 40 if n_raters else 0))
    text = html.render_report(built)
    page = check(text)
    assert page.tags.count("tr") < (5 + len(built["audits"])) * html.MOST_TABLE_ROWS
    if n_raters == 200:
        assert "all of them are in report.json" in page.text
        assert len(text) < 60_000 * len(built["audits"]) + 300_000


def test_report_without_any_audit(report):
    bare = document.build(FACTS, [], FigureData())["summary"]
    check(html.render_report(report | {"audits": [], "summary": bare}))


def poison(value):
    """Put the hostile string wherever a text is free."""
    if isinstance(value, dict):
        kept = (
            "schema",
            "state",
            "verdict",
            "severity",
            "public_key",
            "rater_id",
            "starts_at",
            "ends_at",
            "as_of",
        )
        return {key: part if key in kept else poison(part) for key, part in value.items()}
    if isinstance(value, list):
        return [poison(part) for part in value]
    return HOSTILE if isinstance(value, str) else value


def harmless(text):
    check(text)
    assert "<script" not in text and "<svg onload" not in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069]", text)
    assert "&lt;script" in text


def test_hostile_text_is_escaped_everywhere(report):
    poisoned = poison(copy.deepcopy(report))
    for number, audit in enumerate(poisoned["audits"]):
        audit["id"] = f"audit{number}{HOSTILE}"
    poisoned["raters"][0]["rater_id"] = HOSTILE
    harmless(html.render_report(poisoned))
    harmless(html.render_receipt(poison(receipt())))


def test_markup_in_prose_is_only_code():
    assert html._prose("`a<b` <i> <= 1") == "<code>a&lt;b</code> &lt;i&gt; ≤ 1"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (-0.0001, "0.000"), (-0.5, "−0.500"), (1.0, "1.000"), (1234.0, "1,234")]
)
def test_numbers_are_printed_alike(value, text):
    assert words.number(value) == text


def test_receipt_says_what_went_what_stays_and_whom_to_ask():
    page = check(html.render_receipt(receipt()))
    text = " ".join(page.text.split())
    for phrase in (
        "Your feedback has been deleted",
        "1,310 answers of yours, in 4 files.",
        "4 March 2026, 09:12 UTC",
        "abababababab…",
        "removed: nobody else taught it",
        "Backups on other media",
        "University of Somewhere",
        "We found nothing beyond what this page says must stay.",
        "Whom to ask",
        "e-9c41d2",
    ):
        assert phrase in text


def test_receipt_does_not_claim_what_is_not_so():
    unfinished = Page(html.render_receipt(receipt(completed_at=None))).text
    assert "being deleted" in unfinished and "has been deleted" not in unfinished
    traces = Page(html.render_receipt(receipt(residue_scan={"bytes": 9, "structures": 1, "found": 2}))).text
    assert "still found you in 2 places" in traces and "found nothing" not in traces
    alone = Page(html.render_receipt(receipt(exports=[], stays=[]))).text
    assert "No copy with your answers" in alone


def test_the_program_on_the_receipt_checks_the_signature(tmp_path):
    key = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
    signed = receipt(rater_id="r-é")
    text = canonical.json_bytes({name: value for name, value in signed.items() if name != "signature"})
    signed["signature"] = {
        "algorithm": "Ed25519",
        "public_key": key.public_key().public_bytes_raw().hex(),
        "value": key.sign(text).hex(),
    }
    program = unescape(re.search(r"<pre[^>]*><code>(.*?)</code></pre>", html.render_receipt(signed), re.S)[1])
    for changed, code in ((False, 0), (True, 1)):
        body = signed | ({"rater_id": "r-other"} if changed else {})
        (tmp_path / "receipt.json").write_bytes(canonical.json_bytes(body))
        run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
        assert run.returncode == code, run.stderr
