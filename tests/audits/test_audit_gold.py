"""Accuracy against known labels: published figures, planted raters, and what is no rater's fault."""

import csv
from pathlib import Path
from random import Random
from typing import Any

import audit_panel
import numpy as np
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.types import AuditRow

REAL = Path(__file__).parents[3] / "shared" / "ground_truth" / "real"


def audited(
    ratings: list[dict[str, Any]], truth: dict[str, float], **parameters: float
) -> dict[str, AuditRow]:
    gold = [{"episode_id": item, "step": 0, "value": value} for item, value in truth.items()]
    with audit_panel.connect(ratings, gold=gold) as connection:
        (result,) = runner.run(connection, ["gold_accuracy"], {"gold_accuracy": parameters})
    return {row.subject: row for row in result.rows}


@pytest.mark.parametrize(
    ("dataset", "majority", "by_model"),
    [("snow2008_rte", 0.8750, 0.9275), ("welinder2010_bluebirds", 0.7593, 0.8981)],
)
def test_published_accuracies(dataset: str, majority: float, by_model: float) -> None:
    path = REAL / f"{dataset}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} stays in the shared folder, which is absent here")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    ratings = [
        {"rater": row["rater"], "item": f"i{row['item']}", "value": float(row["label"])} for row in rows
    ]
    found = audited(ratings, {f"i{row['item']}": float(row["truth"]) for row in rows})
    assert round(found["majority"].value or 0, 4) == majority
    assert round(found["Dawid-Skene"].value or 0, 4) == by_model


def crowd(seed: int, planted: dict[str, float], n_raters: int = 40, n_gold: int = 40) -> tuple[Any, Any]:
    """200 ratings a rater, five an item, one item in five with a known label; everybody else is right .9."""
    random = np.random.default_rng(seed)
    n_items = 40 * n_raters
    truth = random.integers(0, 2, n_items)
    ratings = []
    for rater in [*planted, *(f"r-clean-{i}" for i in range(n_raters - len(planted)))]:
        for item in random.permutation(n_items)[:200].tolist():
            right = random.random() < planted.get(rater, 0.9)
            ratings.append({"rater": rater, "item": f"i{item}", "value": float(truth[item] == right)})
    known = {f"i{item}": float(truth[item]) for item in range(n_items * n_gold // 200)}
    return ratings, known


def test_planted_raters_are_found_and_clean_ones_left_alone() -> None:
    hits = false = 0
    for seed in range(3):
        planted = {"r-random-0": 0.5, "r-random-1": 0.5, "r-inverted": 0.1}
        findings = {subject for subject, row in audited(*crowd(seed, planted)).items() if row.flagged}
        hits += len(findings & set(planted))
        false += len(findings - set(planted))
    assert (hits, false) == (9, 0)


def test_more_wrong_answers_never_raise_the_value() -> None:
    random = Random(3)
    truth = {f"i{item}": float(random.random() < 0.5) for item in range(60)}
    ratings = [
        {"rater": f"r-{rater}", "item": item, "value": value if random.random() < 0.9 else 1 - value}
        for rater in range(4)
        for item, value in truth.items()
    ]
    found = []
    for n_wrong in (0, 10, 25, 60):
        wrong = [{**row, "value": 1 - truth[row["item"]]} for row in ratings[:n_wrong]]
        found.append(audited(wrong + ratings[n_wrong:], truth)["r-0"])
    values = [row.value for row in found if row.value is not None]
    assert values == sorted(values, reverse=True) and values[-1] == 0
    assert not found[0].flagged and found[-1].flagged


def test_rows_names_and_threads_change_no_bit() -> None:
    ratings, known = crowd(5, {"r-random-0": 0.5}, n_raters=12)
    shuffled = Random(1).sample(ratings, len(ratings))
    renamed = [{**row, "rater": row["rater"].replace("r-", "r-x")[::1]} for row in shuffled]
    before = audited(ratings, known)
    after = audited(renamed, known)
    assert {
        name.replace("r-", "r-x"): (row.value, row.lower, row.p, row.q) for name, row in before.items()
    } == {name: (row.value, row.lower, row.p, row.q) for name, row in after.items()}


def test_where_em_is_stopped_the_note_says_so() -> None:
    ratings, known = crowd(6, {"r-random-0": 0.5}, n_raters=12)
    note = audited(ratings, known, max_steps=1)["Dawid-Skene"].note
    assert note == "ok; EM not at its end: no clear maximum"
    assert audited(ratings, known)["Dawid-Skene"].note == "ok"


def test_of_two_labels_given_equally_often_the_higher_is_the_majoritys() -> None:
    ratings = [
        {"rater": rater, "item": f"i{i}", "value": float(value)}
        for i in range(25)
        for rater, value in (("r-a", 0), ("r-b", 0), ("r-c", 1), ("r-d", 1))
    ]
    found = audited(ratings, {f"i{i}": float(i < 20) for i in range(25)})
    assert found["majority"].value == 0.8
