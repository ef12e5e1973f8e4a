"""Markdown and CSV: what they hold, and that hostile text stays text in a spreadsheet and in Markdown."""

import copy
import csv
import io
import re

import pyarrow.csv as arrow_csv
from report_panel import HOSTILE

from rlhf_audit.reports import document, markdown, tables
from rlhf_audit.reports.words import chance

FORMULA = '=HYPERLINK("https://evil.example","x")'


def read(raw):
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


def test_every_row_of_every_audit_is_in_the_tables(report):
    files = tables.csv_files(report)
    rows = read(files["report-rows.csv"])
    expected = [(audit["family"], audit["id"], row) for audit in report["audits"] for row in audit["rows"]]
    assert len(rows) == len(expected)
    for told, (family, audit_id, row) in zip(rows, expected, strict=True):
        assert (told["family"], told["audit"], told["subject"]) == (family, audit_id, row["subject"])
        for name in ("value", "lower", "upper", "p", "q"):
            assert told[name] == ("" if row[name] is None else repr(row[name])), "to the last bit"
        assert told["flagged"] == ("true" if row["flagged"] else "false")
    findings = read(files["report-findings.csv"])
    assert len(findings) == report["summary"]["n_findings"] and all(one["advice"] for one in findings)
    assert [one["rater_id"] for one in read(files["report-raters.csv"])] == [
        one["rater_id"] for one in report["raters"]
    ]
    assert len(read(files["report-withdrawals.csv"])) == 3 and len(read(files["report-exports.csv"])) == 1


def test_the_files_are_the_same_whatever_the_report_holds(report, document_of):
    from report_panel import Panel

    assert tables.csv_files(document_of(Panel(0, 0))).keys() == tables.csv_files(report).keys()


def test_no_cell_is_a_formula(report):
    built = copy.deepcopy(report)
    for place, start in enumerate(("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", FORMULA)):
        built["policies"].append(built["policies"][0] | {"name": start + str(place), "algorithm": start})
    built["audits"][0]["rows"][0] |= {"subject": FORMULA, "note": f"{FORMULA}\r\n=2\x1b"}
    built["raters"][0] |= {"rater_id": HOSTILE, "purposes": ["=1", "audit"]}
    numbers = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
    for raw in tables.csv_files(built).values():
        for line in csv.reader(io.StringIO(raw.decode(), newline="")):
            for cell in line:
                assert cell[:1] not in ("=", "+", "@", "\t", "\r") and "\x1b" not in cell
                assert not cell.startswith("-") or numbers.fullmatch(cell)
        arrow_csv.read_csv(io.BytesIO(raw), parse_options=arrow_csv.ParseOptions(newlines_in_values=True))


def test_markdown_says_the_same_as_the_page(panel, report):
    text = markdown.render(report)
    assert text.startswith("# Feedback audit of log 0123456789abcdef")
    assert f"**{report['summary']['n_findings']} findings**" in text and "overdue: 1" in text
    assert text.index("Erasures due") < text.index("Raters to ask") < text.index("## Single raters")
    assert panel.erased not in text
    for audit in report["audits"]:
        assert f"### {audit['title']}: " in text
    (drift,) = [audit for audit in report["audits"] if audit["id"] == "drift"]
    (row,) = [row for row in drift["rows"] if row["flagged"]]
    line = next(line for line in text.partition("### Drift")[2].splitlines() if line.startswith("| r"))
    assert line.replace("\\", "").startswith(f"| {row['subject']} | {row['n']} |")
    assert f"| {chance(row['q'])} | yes |" in line


def test_markdown_is_the_same_again_and_bounded(report):
    assert markdown.render(report) == markdown.render(copy.deepcopy(report))
    for part in markdown.render(report).split("### ")[1:]:
        assert part.count("\n|") <= markdown.MOST_ROWS + 2


def test_hostile_text_is_text_in_markdown(report):
    built = copy.deepcopy(report)
    line = f"{HOSTILE}\n# owned\n| a | b |\n[x](javascript:alert) `code` **bold** ![i](https://evil.example/i.png)"
    for audit in built["audits"]:
        audit["title"] = audit["question"] = line
        for row in audit["rows"]:
            row |= {"subject": line, "note": line}
    built["log"]["log_id"] = line
    made = markdown.render(built)
    assert "<" not in made.replace("< 0.001", "").replace("`<", "")
    assert not re.search(r"(?<!\\)(\]\(|!\[)", made)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", made)
    assert [one for one in made.splitlines() if one.startswith("# ")][1:] == []
    rows = [one for one in made.splitlines() if one.startswith("| ")]
    assert len(rows) > 50 and all(len(re.findall(r"(?<!\\)\|", one)) == 9 for one in rows)


def test_bytes_of_all_files_are_the_same_from_shuffled_rows(panel, report, document_of):
    again = document_of(panel, shuffle=5)
    assert document.report_bytes(again) == document.report_bytes(report)
    assert tables.csv_files(again) == tables.csv_files(report)
    assert markdown.render(again) == markdown.render(report)


def test_pseudonyms_are_written_as_they_are(report):
    """The search after an erasure looks for their bytes in every file."""
    files = {"report.md": markdown.render(report).encode(), **tables.csv_files(report)}
    for rater_id in report["summary"]["raters_flagged"]:
        for name in ("report.md", "report-findings.csv", "report-rows.csv", "report-raters.csv"):
            assert rater_id.encode() in files[name]
