"""Audits against printed values and reference libraries, and against the truth that real data sets have.

Raw ratings give irrCAC's raw standard errors. A contingency table gives its table ones, which divide by n
where those for raw ratings divide by n - 1: hence the factor.
"""

import csv
import math
from pathlib import Path
from typing import Any

import audit_oracle
import audit_panel
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.types import AuditRow

FIXTURES = Path(__file__).parent / "fixtures"
REAL = Path(__file__).parents[3] / "shared" / "ground_truth" / "real"
WIDE = ("irrCAC_cac_raw4raters", "irrCAC_cac_raw5obser")
COUNTS = ("irrCAC_distrib_6raters",)
TABLES = (
    "cohen1960", "cohen_wikipedia_a", "cohen_wikipedia_b", "cohen_wikipedia_c", "gwet_paradox",
    "irrCAC_cont3x3abstractors", "irrCAC_cont4x4diagnosis", "irr_vision_table",
)  # fmt: skip
OTHER_SE = {("irrCAC_distrib_6raters", "alpha")}
"""irrCAC's function for counts prints another standard error of alpha than its function for raw ratings,
where alpha and Fleiss' kappa share one if all items have as many ratings; we follow the latter."""
REAL_SETS = ("snow2008_rte", "welinder2010_bluebirds")

with (FIXTURES / "reference.csv").open(newline="", encoding="utf-8") as _stream:
    REFERENCE = list(csv.DictReader(_stream))


def coded(labels: set[str]) -> dict[str, float]:
    """Return the labels' values, or their ranks where they are words."""
    try:
        return {label: float(label) for label in labels}
    except ValueError:
        return {label: float(i) for i, label in enumerate(sorted(labels))}


def ratings(dataset: str) -> list[dict[str, Any]]:
    """Return a data set as compact ratings, labels numbered in their order."""
    path = (REAL if dataset in REAL_SETS else FIXTURES) / f"{dataset}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} stays in the shared folder, which is absent here")
    with path.open(newline="", encoding="utf-8") as stream:
        head, *body = list(csv.reader(stream))
    if dataset in TABLES:
        cells = [(i, j, int(c)) for i, row in enumerate(body) for j, c in enumerate(row[1:])]
        pairs = [(i, j) for i, j, c in cells for _ in range(c)]
        named = [(rater, n, pair[side]) for n, pair in enumerate(pairs) for side, rater in enumerate("ab")]
    elif dataset in COUNTS:
        named = []
        for n, row in enumerate(body):
            labels = [label for label, c in enumerate(row[1:]) for _ in range(int(c))]
            named += [(str(rater), n, label) for rater, label in enumerate(labels)]
    elif dataset in WIDE:
        named = [(head[j], n, float(x)) for n, row in enumerate(body) for j, x in enumerate(row) if j and x]
    else:
        long = [dict(zip(head, row, strict=True)) for row in body]
        code = coded({row["label"] for row in long} - {""})
        named = [(row["rater"], row["item"], code[row["label"]]) for row in long if row["label"]]
    return [{"rater": rater, "item": f"i{item}", "value": float(label)} for rater, item, label in named]


def measured(dataset: str) -> dict[str, AuditRow]:
    with audit_panel.connect(ratings(dataset)) as connection:
        low = {"agreement": {"n_min": 2}, "pairwise_kappa": {"n_min": 2}}
        wanted = ["agreement", "pairwise_kappa"] if dataset in TABLES else ["agreement"]
        rows = {row.subject: row for result in runner.run(connection, wanted, low) for row in result.rows}
    return rows | ({"kappa": rows["a/b"]} if "a/b" in rows else {})


def tolerance(text: str) -> float:
    """Half a unit of the last printed digit, and no finer than 1e-9."""
    return max(1e-9, 0.5 * 10.0 ** -len(text.partition(".")[2]))


@pytest.mark.parametrize("dataset", sorted({row["dataset"] for row in REFERENCE}))
def test_coefficients_match_the_reference(dataset: str) -> None:
    rows = measured(dataset)
    for known in (row for row in REFERENCE if row["dataset"] == dataset):
        row = rows[known["coefficient"]]
        assert row.value is not None and row.lower is not None
        assert row.value == pytest.approx(float(known["value"]), abs=tolerance(known["value"]), rel=0), known
        if known["se"] and (dataset, known["coefficient"]) not in OTHER_SE:
            se = (row.value - row.lower) / audit_oracle.Z
            if dataset in TABLES and known["coefficient"] != "kappa":
                se *= math.sqrt((row.n - 1) / row.n)
            assert se == pytest.approx(float(known["se"]), abs=tolerance(known["se"]), rel=0), known


def test_the_reference_is_not_empty() -> None:
    assert len({(row["dataset"], row["coefficient"]) for row in REFERENCE}) >= 50
    assert sum(bool(row["se"]) for row in REFERENCE) >= 50


def test_paradox_is_named() -> None:
    row = measured("gwet_paradox")["alpha"]
    assert "prevalence paradox" in row.note


def test_random_raters_in_real_data_are_those_who_are_often_wrong() -> None:
    """Snow et al. 2008: whom the audit flags, without the truth, is far less often right than the rest."""
    path = REAL / "snow2008_rte.csv"
    given = ratings("snow2008_rte")
    with path.open(newline="", encoding="utf-8") as stream:
        right: dict[str, list[bool]] = {}
        for row in csv.DictReader(stream):
            right.setdefault(row["rater"], []).append(row["label"] == row["truth"])
    accuracy = {rater: sum(own) / len(own) for rater, own in right.items()}
    with audit_panel.connect(given) as connection:
        random_rater, pairwise, constant = runner.run(
            connection, ["random_rater", "pairwise_kappa", "constant_rater"]
        )
    flagged = {row.subject for row in random_rater.findings}
    enough = {row.subject for row in random_rater.rows if row.note != "insufficient"}
    assert 3 <= len(flagged) < len(enough) / 3
    assert max(accuracy[rater] for rater in flagged) < 0.75
    assert sum(accuracy[rater] for rater in enough - flagged) / len(enough - flagged) > 0.83
    assert all(accuracy[row.subject] < 0.75 for row in pairwise.findings)
    assert [accuracy[row.subject] < 0.6 for row in constant.findings] == [True]


@pytest.mark.parametrize("dataset", REAL_SETS)
def test_severity_needs_an_effect_in_real_data(dataset: str) -> None:
    """Severity is the norm: many raters differ significantly, few of them by much."""
    with audit_panel.connect(ratings(dataset)) as connection:
        (severity,) = runner.run(connection, ["severity"])
    significant = [row for row in severity.rows if row.q is not None and row.q <= 0.05]
    assert len(severity.findings) < len(significant) / 2
