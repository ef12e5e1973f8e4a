"""Pairs of raters: honest ones are left alone, copies are found whatever they are called."""

import csv
from pathlib import Path
from random import Random
from typing import Any

import audit_panel
import pytest
from audit_simulate import simulate

from rlhf_audit.audits import catalogue, runner
from rlhf_audit.estimators import in_order
from rlhf_audit.types import AuditRow

REAL = Path(__file__).parents[3] / "shared" / "ground_truth" / "real"
AUDITS = ["copying", "duplicate_raters", "intra_rater"]


def audit(rows: list[dict[str, Any]], ids: list[str] = AUDITS, threads: int = 1) -> dict[str, AuditRow]:
    with audit_panel.connect(rows, threads=threads) as connection:
        return {f"{one.id} {row.subject}": row for one in runner.run(connection, ids) for row in one.rows}


def crowd(seed: int, n_raters: int = 12, n_items: int = 60, copied: float = 0.0) -> list[dict[str, Any]]:
    """Raters who are right in four of five; r-1 takes over a growing share of r-0's answers."""
    random = Random(seed)
    truth = [random.random() < 0.5 for _ in range(n_items)]
    own = {
        (r, i): truth[i] if random.random() < 0.8 else not truth[i]
        for r in range(n_raters)
        for i in range(n_items)
    }
    chosen = [random.random() for _ in range(n_items)]
    return [
        {"rater": f"r-{r}", "item": f"e:{i}", "latency_s": round(random.uniform(1, 9), 3),
         "value": float(own[0, i] if r == 1 and chosen[i] < copied else own[r, i])}
        for r in range(n_raters)
        for i in range(n_items)
    ]  # fmt: skip


@pytest.mark.skipif(not REAL.is_dir(), reason="the ground truth is not here")
@pytest.mark.parametrize(("name", "n_pairs"), [("welinder2010_bluebirds", 741), ("snow2008_rte", 1254)])
def test_honest_pairs_of_real_crowds_are_left_alone(name: str, n_pairs: int) -> None:
    """A naive expectation flags 68 of the 741."""
    with (REAL / f"{name}.csv").open(newline="") as stream:
        raw = list(csv.DictReader(stream))
    labels = sorted({row["label"] for row in raw})
    rows = [{"rater": row["rater"], "item": row["item"], "value": labels.index(row["label"])} for row in raw]
    found = audit(rows, ["copying"]).values()
    assert len(found) == n_pairs and not any(row.flagged for row in found)


def test_a_copy_among_five_raters_is_the_only_finding() -> None:
    """Two copies may pass for the truth: then the others, who differ from it alike, must not be blamed."""
    for seed in range(4):
        found = audit(crowd(seed, 5, 100, 1.0), ["copying"])
        assert {name for name, row in found.items() if row.flagged} == {"copying r-0/r-1"}


def test_copying_does_not_depend_on_how_many_ratings_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = crowd(1, 8, 90, 0.7)
    expected = audit(rows, ["copying"])
    for at_once in (1, 50):
        monkeypatch.setattr(in_order, "_AT_ONCE", at_once)
        found = audit(rows, ["copying"])
        assert found.keys() == expected.keys()
        for name, row in found.items():
            assert row.value == pytest.approx(expected[name].value, abs=1e-12)
            assert row.note == expected[name].note


def test_the_interval_of_a_finding_lies_above_0() -> None:
    """p is one-sided, the interval is not: q of .025 makes them agree."""
    for seed, copied in ((1, 0.4), (2, 0.5), (3, 0.6), (4, 0.8), (5, 1.0)):
        for row in audit(crowd(seed, 6, 60, copied), ["copying"]).values():
            assert row.lower is not None and row.upper is not None and row.p is not None
            assert row.lower <= row.value <= row.upper
            assert (row.lower > 0) == (row.p < 0.025)
            assert not row.flagged or row.lower > 0


def test_a_copy_of_who_never_errs_is_not_told_and_the_header_says_so() -> None:
    rows = [
        {**row, "value": truth(row) if row["rater"] in ("r-0", "r-1") else honest(row)}
        for row in crowd(3, 6, 90)
    ]
    found = audit(rows, ["copying"])
    assert not any(row.flagged for row in found.values())
    assert "can't be told from another who never errs" in catalogue.find("copying").caveats[0]


def truth(row: dict[str, Any]) -> float:
    return float(int(row["item"][2:]) % 3 == 0)


def honest(row: dict[str, Any]) -> float:
    """One answer in six is wrong, on other items for each rater."""
    wrong = (int(row["item"][2:]) * 7 + int(row["rater"][2:]) * 11) % 6 == 0
    return 1 - truth(row) if wrong else truth(row)


def test_a_stronger_copy_never_lowers_the_value() -> None:
    found = [
        audit(crowd(4, copied=share), ["copying"])["copying r-0/r-1"].value for share in (0, 0.5, 0.8, 1)
    ]
    assert found == sorted(found) and found[-1] > 0.2


@pytest.mark.parametrize("copied", [0.0, 1.0])
def test_order_names_and_threads_change_no_bit(copied: float) -> None:
    rows = crowd(7, 6, 40, copied)
    rows += [{**row, "session_n": 2} for row in rows if row["item"] < "e:3"]
    before = audit(rows)
    assert before == audit(Random(1).sample(rows, len(rows)), threads=4)
    new = {f"r-{i}": f"r-{(i * 5 + 2) % 6:x}z" for i in range(6)}
    after = audit([{**row, "rater": new[row["rater"]]} for row in rows])
    for name, row in before.items():
        audit_id, subject = name.split(" ")
        named = "/".join(sorted(new.get(part, part) for part in subject.split("/")))
        other = after[f"{audit_id} {named}"]
        assert (row.n, row.value, row.lower, row.p, row.flagged, row.note) == (
            other.n, other.value, other.lower, other.p, other.flagged, other.note,
        )  # fmt: skip


def test_a_crowd_with_a_copier_an_alias_and_a_weathercock() -> None:
    rows = simulate(3, [], 30, 200, per_item=5, accuracy=0.85)
    of = {n: [row for row in rows if row["rater"] == f"r-clean-{n}"] for n in (3, 4, 5)}
    random = Random(9)
    rows += [{**row, "rater": "r-copier", "latency_s": 1 + random.random()} for row in of[3]]
    rows += [{**row, "rater": "r-alias"} for row in of[4]]
    again = [{**row, "value": float(random.random() < 0.5), "session_n": 2} for row in of[5]]
    rows += [{**row, "latency_s": 1 + random.random()} for row in again]
    found = {name for name, row in audit(rows).items() if row.flagged}
    assert found == {
        "copying r-clean-3/r-copier", "copying r-alias/r-clean-4",
        "duplicate_raters r-alias/r-clean-4", "intra_rater r-clean-5",
    }  # fmt: skip
