"""Two reports compared: what is new, gone and moved is told; whoever is not named any more never is."""

import copy
import json
from dataclasses import replace

import pytest
from report_panel import FACTS, HOSTILE, Panel

from rlhf_audit.errors import DamagedError
from rlhf_audit.reports import against, document, html, markdown
from rlhf_audit.reports.facts import FigureData, RaterFacts
from rlhf_audit.types import AuditResult, AuditRow, Severity

ALPHA = AuditRow("alpha", 90, 0.7, 0.65, 0.75, None, None, False, "ok")
ROW = AuditRow("r-aaaa", 50, 0.5, 0.4, 0.6, 0.01, 0.02, True, "severe")
SEVERITY = AuditResult("severity", "Severe?", Severity.WARNING, (ROW,), "SELECT 1", {"threshold": 0.25})
AGREEMENT = AuditResult("agreement", "Agree?", Severity.WARNING, (ALPHA,), "SELECT 2", {"threshold": 0.667})


def facts(*names):
    raters = tuple(RaterFacts(name, None, 50, 1, "given", ("audit",), None, ()) for name in names)
    return replace(FACTS, raters=raters)


def written(folder, built):
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_bytes(document.report_bytes(built))
    return folder


def compared(tmp_path, before, after):
    """The document of ``after``, each a pair of facts and audits, against that of ``before``."""
    old = against.read(written(tmp_path / "old", document.build(before[0], before[1], FigureData())))
    return document.build(after[0], after[1], FigureData(), old.compare)


def test_findings_new_gone_and_kept(tmp_path):
    rows = {name: replace(ROW, subject=name) for name in ("r-aaaa", "r-bbbb", "r-cccc", "r-dddd")}
    before = (rows["r-aaaa"], rows["r-bbbb"], rows["r-dddd"], replace(rows["r-cccc"], flagged=False))
    milder = replace(rows["r-bbbb"], value=0.1, flagged=False)
    few = replace(rows["r-dddd"], value=None, flagged=False, note="insufficient")
    after = (rows["r-aaaa"], milder, rows["r-cccc"], few)
    everybody = facts(*rows)
    built = compared(
        tmp_path,
        (everybody, [replace(SEVERITY, rows=before)]),
        (everybody, [replace(SEVERITY, rows=after)]),
    )
    (told,) = built["against"]["findings"]
    assert told["new"] == ["r-cccc"] and told["n_kept"] == 1 and told["n_gone_unnamed"] == 0
    assert told["gone"] == [
        {"subject": "r-bbbb", "why": "no longer reaches the threshold"},
        {"subject": "r-dddd", "why": "too few data by now"},
    ]


def test_coefficients_that_moved_with_both_intervals(tmp_path):
    far = replace(ALPHA, value=0.9, lower=0.88, upper=0.92)
    near, same = replace(ROW, value=0.52), replace(ROW, subject="r-bbbb")
    clear = replace(ROW, subject="r-cccc", value=-0.5, lower=-0.6, upper=-0.4)
    everybody = facts("r-aaaa", "r-bbbb", "r-cccc")
    before = [AGREEMENT, replace(SEVERITY, rows=(ROW, same, replace(ROW, subject="r-cccc")))]
    after = [replace(AGREEMENT, rows=(far,)), replace(SEVERITY, rows=(near, same, clear))]
    moved = compared(tmp_path, (everybody, before), (everybody, after))["against"]["moved"]
    # Of a rater only what chance does not explain.
    assert [(one["subject"], one["clear"]) for one in moved] == [("r-cccc", True), ("alpha", True)]
    assert moved[1]["before"] == {"value": 0.7, "lower": 0.65, "upper": 0.75, "q": None}
    assert moved[1]["now"]["lower"] == 0.88


def test_raters_parameters_sql_and_audits(tmp_path):
    changed = replace(SEVERITY, sql="SELECT 3", parameters={"threshold": 0.3})
    drift = replace(SEVERITY, id="drift")
    built = compared(
        tmp_path,
        (facts("r-aaaa", "r-bbbb"), [SEVERITY, AGREEMENT]),
        (facts("r-bbbb", "r-cccc"), [changed, drift]),
    )
    told = built["against"]
    assert (told["raters_new"], told["n_raters_gone"]) == (["r-cccc"], 1)
    assert told["parameters"] == [{"audit": "severity", "name": "threshold", "before": 0.25, "now": 0.3}]
    assert (told["sql"], told["audits_new"], told["audits_gone"]) == (["severity"], ["drift"], ["agreement"])
    assert told["same_log"] and told["size"] == FACTS.head.size


def test_the_same_report_has_not_changed(tmp_path):
    state = (facts("r-aaaa"), [SEVERITY, AGREEMENT])
    told = compared(tmp_path, state, state)["against"]
    assert told["n_kept"] == 1 and told["sha256"]
    lists = ("findings", "moved", "raters_new", "audits_new", "audits_gone", "parameters", "sql")
    assert not any(told[name] for name in lists) and told["n_raters_gone"] == 0


def test_whoever_is_not_named_any_more_does_not_come_back(tmp_path):
    gone = "r-0badc0de"
    rows = (
        replace(ROW, subject=gone, note=f"copies {gone}"),
        replace(ROW, subject=f"{gone}/r-bbbb"),
        replace(ROW, subject=f"region={gone}"),
        replace(ROW, subject="r-bbbb", note=f"as {gone} does"),
    )
    before = (facts(gone, "r-bbbb"), [replace(SEVERITY, rows=rows)])
    built = compared(
        tmp_path, before, (facts("r-bbbb"), [replace(SEVERITY, rows=(replace(ROW, subject="r-bbbb"),))])
    )
    for made in (document.report_bytes(built).decode(), html.render_report(built), markdown.render(built)):
        assert gone not in made
    (told,) = built["against"]["findings"]
    assert (told["gone"], told["n_gone_unnamed"], told["n_kept"]) == ([], 3, 1)
    assert "3 no longer judged" in html.render_report(built)


def test_the_page_and_the_markdown_tell_it(tmp_path):
    far = replace(ALPHA, value=0.9, lower=0.88, upper=0.92)
    before = (facts("r-aaaa"), [AGREEMENT, replace(SEVERITY, rows=())])
    after = (facts("r-aaaa", "r-bbbb"), [replace(AGREEMENT, rows=(far,)), SEVERITY])
    built = compared(tmp_path, before, after)
    page, text = html.render_report(built), markdown.render(built)
    for words in ("Since the older report", "Findings: 1 new, 0 gone, 0 as before", "▲ the intervals part"):
        assert words in page
    assert "agreement alpha: 0.700 (0.650 to 0.750), now 0.900 (0.880 to 0.920)" in text
    assert "Severity: new r-aaaa" in text and "raters new: r-bbbb; no longer listed: 0" in text


@pytest.fixture(scope="module")
def real(document_of):
    return json.loads(document.report_bytes(document_of(Panel(4, 80))))


def test_a_real_report_is_read(tmp_path, real):
    assert against.read(written(tmp_path, real)) == against.read(tmp_path / "report.json")


def broken(real):
    """Documents that are nearly a report."""
    yield {"schema": "rlhf_audit.receipt/1"}
    for name in ("audits", "raters", "log"):
        yield {key: value for key, value in real.items() if key != name}
        yield real | {name: 7}
    yield real | {"audits": [7]}
    yield real | {"log": real["log"] | {"head": {"size": True}}}
    yield real | {"raters": [{"rater_id": 7}]}
    for name, value in (
        ("id", HOSTILE),
        ("id", "r-0badc0de"),
        ("rows", [7]),
        ("sql_sha256", "<b>"),
        ("parameters", {HOSTILE: 1.0}),
        ("parameters", {"threshold": HOSTILE}),
        ("parameters", {"threshold": True}),
    ):
        yield real | {"audits": [real["audits"][0] | {name: value}]}
    rows = copy.deepcopy(real["audits"][0]["rows"][:1])
    for name, value in (("value", "0"), ("flagged", 1), ("subject", None)):
        yield real | {"audits": [real["audits"][0] | {"rows": [rows[0] | {name: value}]}]}


def test_what_is_no_report_is_refused_in_three_lines(tmp_path, real):
    files = [json.dumps(one).encode() for one in broken(real)]
    files += [b"", b"[]", b"{", b'{"schema": 1, "schema": 2}', b"\xff", b"[" * 100_000]
    assert len(files) > 20
    for raw in files:
        (tmp_path / "report.json").write_bytes(raw)
        with pytest.raises(DamagedError) as refused:
            against.read(tmp_path)
        lines = str(refused.value).splitlines()
        assert len(lines) == 3 and "<" not in lines[1] and str(tmp_path) not in str(refused.value)
    with pytest.raises(DamagedError, match="No such file"):
        against.read(tmp_path / "nothing")
