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
from report_panel import Panel, receipt

from rlhf_audit import canonical
from rlhf_audit.reports import document, html

_VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = (
    '"></code></title><script src="https://evil.example/x.js">alert(1)</script><svg onload=x>\x1b[2J\u202egnp'
)


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
    assert not {"script", "iframe", "object", "embed", "form", "img", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("href", "src", "xlink:href", "action"):
            assert value.startswith(("#", "data:,")), (tag, value)
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
    order = [page.index(f'id="{name}"') for name in ("summary", "audits", "raters", "consent", "check")]
    assert order == sorted(order)
    assert "scripted: always-yes" in text
    assert panel.erased not in page


def test_no_figure_stands_alone(report, page):
    """Where raters disagree is drawn beside how much they do; without that audit, with the other pictures."""
    assert "The feedback in pictures" not in page and page.count("Disagreement along the episode:") == 1
    agreement = page.partition('<h3 id="audit-3">Agreement</h3>')[2].partition("</article>")[0]
    assert agreement.count("<figure>") == 2 and "Disagreement along the episode:" in agreement
    without = report | {"audits": [audit for audit in report["audits"] if audit["id"] != "agreement"]}
    pictures = html.render_report(without).partition("The feedback in pictures")[2].partition("</section>")[0]
    assert "Disagreement along the episode:" in pictures
    check(html.render_report(without))


def test_a_count_is_told_in_its_own_words(page):
    text = " ".join(Page(page).text.split())
    pending = text.partition("Pending withdrawals ▲ warning")[2].partition("What to do:")[0]
    assert (
        ": overdue (audit, publication, training); rows 240; files 1; " in pending and "n = " not in pending
    )
    assert "How sure: this is counted, not estimated." in pending
    agreement = text.partition("Agreement ▲ warning")[2].partition("What to do:")[0]
    assert "95 % interval" in agreement and "the interval says how exact the value is" in agreement


def test_too_few_data_is_no_all_clear(document_of):
    text = Page(html.render_report(document_of(Panel(1, 80, habits=False)))).text
    assert "not an all-clear" in text and "too few data to say" in text
    assert "Nothing was found by 10" not in " ".join(text.split())


@pytest.mark.parametrize("n_raters", [0, 1, 200])
def test_empty_small_and_large_logs(document_of, n_raters):
    built = document_of(Panel(n_raters, 40 if n_raters else 0))
    page = check(html.render_report(built))
    assert page.tags.count("tr") < 10 * html.MOST_TABLE_ROWS
    if n_raters == 200:
        assert "all of them are in report.json" in page.text


def test_report_without_any_audit(report):
    bare = document.build.__globals__["_summary"]([], set())
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
    assert html._number(value) == text


def test_receipt_says_what_went_what_stays_and_whom_to_ask():
    page = check(html.render_receipt(receipt()))
    text = " ".join(page.text.split())
    for words in (
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
        assert words in text


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
