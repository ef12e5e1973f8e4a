"""The result model: what it holds, what it must not hold, and that its bytes depend on the rows alone."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from report_panel import AS_OF, FACTS, HEAD, START, Panel

from rlhf_audit.audits import runner
from rlhf_audit.reports import document, gather
from rlhf_audit.reports.facts import FigureData, RaterFacts
from rlhf_audit.types import AuditResult, AuditRow, Severity

ROW = AuditRow("r-a", 50, 0.5, 0.4, 0.6, 0.01, 0.02, True, "severe")
RESULT = AuditResult("severity", "Severe?", Severity.WARNING, (ROW,), "SELECT 1", {"threshold": 0.25})


def test_shuffled_rows_give_the_same_bytes(panel, report, document_of):
    assert document.report_bytes(document_of(panel, shuffle=3)) == document.report_bytes(report)


def test_order_of_audits_and_facts_does_not_matter(report):
    other = replace(RESULT, id="drift", rows=(replace(ROW, subject="r-b"), ROW))
    turned = replace(other, rows=other.rows[::-1])
    first = document.build(FACTS, [RESULT, other], FigureData())
    assert document.build(FACTS, [turned, RESULT], FigureData()) == first
    assert report["audits"][0]["id"] == "consent_validity"


def test_document_survives_json(report):
    assert json.loads(document.report_bytes(report)) == report


def test_not_a_number_and_infinity_become_null():
    odd = replace(ROW, value=float("nan"), lower=float("-inf"), upper=-0.0, flagged=False)
    (row,) = document.build(FACTS, [replace(RESULT, rows=(odd,))], FigureData())["audits"][0]["rows"]
    assert row["value"] is None and row["lower"] is None
    assert str(row["upper"]) == "0.0"


@pytest.mark.parametrize(
    ("notes", "sql", "verdict"),
    [
        (["insufficient"], "SELECT 1", "insufficient"),
        (["insufficient: 3 of 30"], "SELECT 1", "insufficient"),
        (["ok", "insufficient"], "SELECT 1", "clear"),
        ([], "SELECT 1", "insufficient"),
        ([], "/*\nn_min = 30\n*/ SELECT 1", "insufficient"),
        ([], "/*\nid = 'needs no minimum'\n*/ SELECT 1", "clear"),
        ([], "/*\nn_min = 0\n*/ SELECT 1", "clear"),
    ],
)
def test_too_few_data_is_never_clear(notes, sql, verdict):
    rows = tuple(replace(ROW, note=note, flagged=False) for note in notes)
    built = document.build(FACTS, [replace(RESULT, rows=rows, sql=sql)], FigureData())
    assert built["audits"][0]["verdict"] == verdict == built["summary"]["verdict"]


def test_summary_names_the_surest_row_and_the_loudest_audit_first():
    surer = replace(ROW, subject="r-b", q=0.001)
    loud = replace(RESULT, id="consent_validity", severity=Severity.ERROR)
    quiet = replace(RESULT, id="agreement", severity=Severity.INFO, rows=(ROW, surer))
    found = document.build(FACTS, [quiet, loud], FigureData())["summary"]["findings"]
    assert [finding["severity"] for finding in found] == ["error", "info"]
    assert found[1]["strongest"]["subject"] == "r-b"


def test_planted_habits_are_reported(panel, report):
    flagged = {
        audit["id"]: {row["subject"] for row in audit["rows"] if row["flagged"]} for audit in report["audits"]
    }
    by_habit = {habit: rater_id for rater_id, habit in panel.habit.items()}
    assert by_habit["always-yes"] in flagged["constant_rater"]
    assert by_habit["severe"] in flagged["severity"]
    assert by_habit["tires"] in flagged["drift"]
    assert by_habit["favours-1"] + ":1" in flagged["action_bias"]
    assert by_habit["fast"] in flagged["too_fast"]


def test_the_erased_appear_nowhere_and_the_withdrawn_as_pending_only(panel, report):
    assert panel.erased.encode() not in document.report_bytes(report)
    assert report["counts"]["erased"] == 1
    elsewhere = {
        key: value for key, value in report.items() if key not in ("withdrawals", "audits", "summary")
    }
    elsewhere["figures"] = {key: value for key, value in report["figures"].items() if key != "spells"}
    elsewhere["audits"] = [audit for audit in report["audits"] if audit["id"] != "pending_withdrawals"]
    for rater_id in (panel.overdue, panel.pending):
        assert rater_id not in json.dumps(elsewhere)
        spells = [spell["state"] for spell in report["figures"]["spells"] if spell["rater_id"] == rater_id]
        assert spells == ["erasure overdue" if rater_id == panel.overdue else "erasure due"]
    assert {made["rater_id"]: made["overdue"] for made in report["withdrawals"]} == {
        panel.overdue: True,
        panel.pending: False,
        panel.partly: False,
    }


def test_a_finding_about_somebody_withdrawn_stays_without_the_pseudonym(panel):
    with panel.connect() as connection:
        facts, points = gather.gather(connection, "log", HEAD)
    rows = (
        replace(ROW, subject=panel.overdue),
        replace(ROW, subject=panel.pending, flagged=False),
        replace(ROW, subject=f"{panel.erased}/{panel.rater_ids[0]}"),
    )
    built = document.build(facts, [replace(RESULT, id="consent_validity", rows=rows)], points)
    assert [row["subject"] for row in built["audits"][0]["rows"]] == ["a rater who has withdrawn"] * 2


def test_consent_of_a_rater_who_took_back_one_purpose(panel, report):
    (partly,) = [rater for rater in report["raters"] if rater["rater_id"] == panel.partly]
    assert (partly["consent"], partly["purposes"], partly["withdrawn"]) == ("given", ["audit"], ["training"])
    (expired,) = [rater for rater in report["raters"] if rater["rater_id"] == panel.expired]
    assert (expired["consent"], expired["purposes"], expired["expires_at"]) == ("expired", [], None)
    assert report["policies"][0]["n_withdrawn"] == 3
    assert report["exports"][0]["n_withdrawn"] == 2


def test_a_new_grant_ends_an_older_withdrawal():
    panel = Panel(2, 40)
    rater_id = panel.rater_ids[0]
    panel.rows["withdrawals"].append((rater_id, ["audit"], START, START, None, False, False))
    late = (START.replace(month=5), START.replace(year=2027))
    panel.rows["grants"].append(
        ("g-new", rater_id, "given", "cd" * 32, ["audit"], "web", *late, ["audit"], None)
    )
    with panel.connect() as connection:
        facts, _ = gather.gather(connection, "log", HEAD)
    (rater,) = [rater for rater in facts.raters if rater.rater_id == rater_id]
    assert (rater.consent, rater.withdrawn) == ("given", ())
    assert rater.expires_at == "2027-03-04T09:00:00.000000Z"


def test_figure_points_equal_a_plain_count(panel):
    """A second, naive way to the same numbers."""
    with panel.connect() as connection:
        facts, points = gather.gather(connection, "log", HEAD, AS_OF)
    usable = {rater.rater_id for rater in facts.raters}
    labels = {(row[0], row[6]): row[8] for row in panel.rows["feedback"] if row[0] in usable}
    items: dict[str, list[float]] = {}
    for (_, item), label in labels.items():
        items.setdefault(item, []).append(label)

    rater_id = panel.rater_ids[1]
    own = [(item, label) for (name, item), label in labels.items() if name == rater_id]
    first_tenth = own[: len(own) // 10]
    residuals = [label - (sum(items[item]) - label) / (len(items[item]) - 1) for item, label in first_tenth]
    begin = next(row for row in points.drift if row.rater_id == rater_id and row.first == 0)
    assert begin.residual == pytest.approx(np.mean(residuals), abs=1e-8)
    assert begin.mean == pytest.approx(np.mean([label for _, label in first_tenth]))

    (pace,) = [row for row in points.latencies if row.rater_id == rater_id]
    latencies = [row[14] for row in panel.rows["feedback"] if row[0] == rater_id]
    assert [pace.p05, pace.p50, pace.p95] == pytest.approx(
        np.quantile(latencies, [0.05, 0.5, 0.95]), abs=1e-6
    )

    start = [values for item, values in items.items() if int(item.split(":")[1]) < 4]
    pairs = sum(len(values) * (len(values) - 1) // 2 for values in start)
    differing = sum(int(sum(values)) * (len(values) - int(sum(values))) for values in start)
    assert (points.episode[0].n_pairs, points.episode[0].n_disagreeing) == (pairs, differing)


def test_answers_that_were_taken_back_do_not_count():
    panel = Panel(1, 40, habits=False)
    rows = panel.rows["feedback"]
    last = rows[-1]
    taken_back = (*last[:3], last[3] + 1, *last[4:7], "skip", None, *last[9:16], last[3], *last[17:])
    rows.append(taken_back)
    with panel.connect() as connection:
        _, points = gather.gather(connection, "log", HEAD)
    assert points.latencies[0].n == len(rows) - 2


def test_an_empty_log_has_a_document(document_of):
    built = document_of(Panel(0, 0))
    assert built["raters"] == [] and built["summary"]["n_findings"] == 0
    assert not any(built["figures"].values())


def test_first_causes_are_taken_from_the_notes():
    def result(audit_id, *rows):
        return replace(RESULT, id=audit_id, rows=rows)

    tired = replace(ROW, subject="r-a", note="grows lenient")
    follows = replace(ROW, subject="r-a", note="severe; first cause: drift")
    both = replace(ROW, subject="r-a/r-b", note="ok")
    raters = tuple(RaterFacts(name, None, 50, 1, "given", ("audit",), None, ()) for name in ("r-a", "r-b"))
    facts = replace(FACTS, raters=raters)
    # In reading order severity comes before drift: the note outranks it.
    audits = [result("severity", follows), result("drift", tired), result("pairwise_kappa", both)]
    merged = document.build(facts, audits, FigureData())["summary"]["by_rater"]
    by_rater = {one["rater_id"]: one for one in merged}
    assert by_rater["r-a"]["audit"] == "drift" and by_rater["r-a"]["row"]["note"] == "grows lenient"
    assert by_rater["r-a"]["also"] == [
        {"audit": "pairwise_kappa", "title": "Pairwise kappa", "follows": False},
        {"audit": "severity", "title": "Severity", "follows": True},
    ]
    assert "r-b" not in by_rater, "the pair's finding is about the one who is flagged alone"
    pair = document.build(facts, [result("pairwise_kappa", both)], FigureData())["summary"]["by_rater"]
    assert [(one["rater_id"], one["audit"]) for one in pair] == [
        ("r-a", "pairwise_kappa"),
        ("r-b", "pairwise_kappa"),
    ]
    # A cause that is not flagged itself is no cause to name.
    alone = document.build(facts, [result("severity", follows)], FigureData())["summary"]["by_rater"]
    assert [one["audit"] for one in alone] == ["severity"]


def test_a_note_that_names_somebody_hidden_is_not_shown():
    facts = replace(FACTS, erased=frozenset({"r-gone"}))
    rows = (
        replace(ROW, note="copies r-gone"),
        replace(ROW, subject="r-b", note="copies r-gone", flagged=False),
    )
    built = document.build(facts, [replace(RESULT, rows=rows)], FigureData())
    assert "r-gone" not in json.dumps(built) and built["summary"]["n_findings"] == 1


def renamed(panel, order):
    """The same panel, its raters under each other's names."""
    other = copy.deepcopy(panel)
    names = dict(zip(panel.rater_ids, order, strict=True))

    def named(value):
        if isinstance(value, list):
            return [named(part) for part in value]
        if isinstance(value, str) and value.startswith("feedback/"):
            return value.replace(value[18:28], names.get(value[18:28], value[18:28]))
        return names.get(value, value) if isinstance(value, str) else value

    other.rows = {table: [tuple(map(named, row)) for row in rows] for table, rows in panel.rows.items()}
    return other, names


def test_renamed_raters_change_names_and_nothing_else(document_of):
    panel = Panel(8)
    order = [f"r-{place:08x}" for place in (3, 0, 7, 1, 6, 2, 5, 4)]
    other, names = renamed(panel, order)
    text = document.report_bytes(document_of(panel)).decode()
    for old, new in names.items():
        text = text.replace(old, new)
    made = json.loads(document.report_bytes(document_of(other)))

    def settled(value):
        """Lists that are in the order of the names, in an order of their own; pairs likewise."""
        if isinstance(value, list):
            return sorted(map(settled, value), key=json.dumps)
        if isinstance(value, dict):
            return {key: settled(part) for key, part in sorted(value.items())}
        pair = isinstance(value, str) and re.fullmatch(r"r-\w+/r-\w+", value)
        return "/".join(sorted(value.split("/"))) if pair else value

    before = json.loads(text)
    assert settled(before) == settled(made)


def test_threads_do_not_matter(panel, document_of):
    made = []
    for threads in (1, 4):
        with panel.connect() as connection:
            connection.execute(f"SET threads = {threads}")
            audits = runner.run(connection)
            facts, points = gather.gather(connection, "log", HEAD, AS_OF)
            made.append(document.report_bytes(document.build(facts, audits, points)))
    assert made[0] == made[1]


def test_the_most_disputed_steps_are_those_of_a_plain_count(panel):
    with panel.connect() as connection:
        facts, points = gather.gather(connection, "log", HEAD, AS_OF)
    usable = {rater.rater_id for rater in facts.raters}
    labels: dict[tuple[str, int], list[float]] = {}
    for row in panel.rows["feedback"]:
        if row[0] in usable:
            labels.setdefault((row[4], row[5]), []).append(row[8])
    dispute = {
        place: 1 - sum((values.count(value) / len(values)) ** 2 for value in set(values))
        for place, values in labels.items()
    }
    steps = points.disputed
    assert len(steps) == 6
    assert steps[0].disagreement == pytest.approx(max(dispute.values()))
    for one in steps:
        values = labels[one.episode_id, one.step]
        assert one.disagreement == pytest.approx(dispute[one.episode_id, one.step])
        assert dict(one.answers) == {value: values.count(value) for value in sorted(set(values))}
        assert one.n == len(values) and one.env_id == "CartPole-v1"
    for a in steps:
        assert not any(
            b is not a and b.episode_id == a.episode_id and abs(b.step - a.step) < 5 for b in steps
        )
