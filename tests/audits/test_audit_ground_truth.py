"""Audits against printed values and reference libraries, and against the truth that real data sets have.

Raw ratings give irrCAC's raw standard errors. A contingency table gives its table ones, which divide by n
where those for raw ratings divide by n - 1: hence the factor.
"""

import csv
import math
from collections import Counter
from pathlib import Path
from typing import Any

import audit_oracle
import audit_panel
import numpy as np
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.estimators import complete_blocks, dawid_skene, homogeneity
from rlhf_audit.types import AuditRow

FIXTURES = Path(__file__).parent / "fixtures"
REAL = Path(__file__).parents[3] / "shared" / "ground_truth" / "real"
WIDE = ("irrCAC_cac_raw4raters", "irrCAC_cac_raw5obser")
COUNTS = ("irrCAC_distrib_6raters", "fleiss_wikipedia_counts")
TABLES = (
    "cohen1960", "cohen_wikipedia_a", "cohen_wikipedia_b", "cohen_wikipedia_c", "gwet_paradox",
    "irrCAC_cont3x3abstractors", "irrCAC_cont4x4diagnosis", "irr_vision_table",
)  # fmt: skip
OTHER_SE = {("irrCAC_distrib_6raters", "alpha")}
"""irrCAC's function for counts prints another standard error of alpha: see docs/adr/0060."""
SINGULAR = {"irrCAC_cont3x3abstractors"}
"""Where a label is never moved statsmodels has no value: see docs/adr/0060."""
UNCORRECTED = "W uncorrected"
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
            cells = row[1:] if dataset in COUNTS[:1] else row[:-1]
            labels = [label for label, c in enumerate(cells) for _ in range(int(c))]
            named += [(str(rater), n, label) for rater, label in enumerate(labels)]
    elif dataset in WIDE:
        named = [(head[j], n, float(x)) for n, row in enumerate(body) for j, x in enumerate(row) if j and x]
    else:
        long = [dict(zip(head, row, strict=True)) for row in body]
        code = coded({row["label"] for row in long} - {""})
        # Who was asked on several occasions counts as several raters.
        named = [
            (row["rater"] + row.get("occasion", ""), row["item"], code[row["label"]])
            for row in long
            if row["label"]
        ]
    return [{"rater": rater, "item": f"i{item}", "value": float(label)} for rater, item, label in named]


AGREEMENT = ("agreement", "scaled_agreement", "complete_block_agreement", "pairwise_kappa")


def measured(dataset: str) -> dict[str, AuditRow]:
    with audit_panel.connect(ratings(dataset)) as connection:
        low = {name: {"n_min": 2} for name in AGREEMENT}
        wanted = AGREEMENT if dataset in TABLES else AGREEMENT[:3]
        rows = {row.subject: row for result in runner.run(connection, wanted, low) for row in result.rows}
    return rows | ({"kappa": rows["a/b"]} if "a/b" in rows else {})


def tabled(dataset: str) -> np.ndarray:
    """Return a contingency table as ``(1, k, k)``."""
    with (FIXTURES / f"{dataset}.csv").open(newline="", encoding="utf-8") as stream:
        return np.array([[float(c) for c in row[1:]] for row in list(csv.reader(stream))[1:]])[None]


HOMOGENEITY = {
    "Stuart-Maxwell": homogeneity.stuart_maxwell,
    "Bhapkar": homogeneity.bhapkar,
    "Bowker": homogeneity.bowker,
    "rater bias": homogeneity.rater_bias,
}


def scores(dataset: str) -> np.ndarray:
    given = ratings(dataset)
    raters, items = (sorted({row[key] for row in given}) for key in ("rater", "item"))
    x = np.empty((len(items), len(raters)))
    for row in given:
        x[items.index(row["item"]), raters.index(row["rater"])] = row["value"]
    return x


def tolerance(text: str) -> float:
    """Half a unit of the last printed digit, and no finer than 1e-9."""
    return max(1e-9, 0.5 * 10.0 ** -len(text.partition(".")[2]))


@pytest.mark.parametrize("dataset", sorted({row["dataset"] for row in REFERENCE}))
def test_coefficients_match_the_reference(dataset: str) -> None:
    rows = measured(dataset)
    for known in (row for row in REFERENCE if row["dataset"] == dataset):
        name, wanted = known["coefficient"], float(known["value"])
        if name in HOMOGENEITY:
            seen = float(HOMOGENEITY[name](tabled(dataset))[0][0])
            wanted = float(HOMOGENEITY["rater bias"](tabled(dataset))[0][0]) if math.isnan(wanted) else wanted
            if math.isnan(float(known["value"])):
                assert dataset in SINGULAR
                continue
        elif name == UNCORRECTED:
            seen = complete_blocks.kendall(scores(dataset))[1]
        elif name == "Cohen quadratic r1 r2":
            with audit_panel.connect([r for r in ratings(dataset) if r["rater"] != "rater3"]) as connection:
                low = {"scaled_agreement": {"n_min": 2}}
                (result,) = runner.run(connection, ["scaled_agreement"], low)
            (seen,) = [row.value for row in result.rows if row.subject == "Conger quadratic"]
        else:
            row = rows["Kendall W" if name == "W" else name]
            assert row.value is not None and row.lower is not None, known
            seen = row.value
        assert seen == pytest.approx(wanted, abs=tolerance(known["value"]), rel=0), known
        if known["se"] and (dataset, name) not in OTHER_SE:
            se = (row.value - row.lower) / audit_oracle.Z
            if dataset in TABLES and name != "kappa":
                se *= math.sqrt((row.n - 1) / row.n)
            assert se == pytest.approx(float(known["se"]), abs=tolerance(known["se"]), rel=0), known


def test_a_label_that_is_never_moved_costs_no_degree_of_freedom() -> None:
    """7 of 11 moves go one way: (7 - 4)² / 11, whatever else was labelled alike."""
    table = tabled("irrCAC_cont3x3abstractors")
    for name in HOMOGENEITY.keys() - {"Bhapkar"}:
        statistic, freedom = HOMOGENEITY[name](table)
        assert (float(statistic[0]), float(freedom[0])) == (pytest.approx(9 / 11), 1)
    assert homogeneity.bhapkar(table)[0][0] == pytest.approx(9 / 11 / (1 - 9 / 11 / 100))


def dawid_skene_of(dataset: str) -> tuple[dawid_skene.Fit, list[str], list[str]]:
    """Return the fit, the items and the labels, in the fit's order."""
    path = (REAL if dataset in REAL_SETS else FIXTURES) / f"{dataset}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} stays in the shared folder, which is absent here")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if "n" in rows[0]:
        patterns = [
            [row[f"rater_{j}"] for j in range(1, 6)] for row in rows for _ in range(int(float(row["n"])))
        ]
        rows = [
            {"item": str(i), "rater": str(j), "label": label}
            for i, pattern in enumerate(patterns)
            for j, label in enumerate(pattern)
        ]
    names = {key: sorted({row[key] for row in rows}) for key in ("item", "rater", "label")}
    place = {key: {name: i for i, name in enumerate(found)} for key, found in names.items()}
    arrays = [np.array([place[key][row[key]] for row in rows]) for key in ("item", "rater", "label")]
    fit = dawid_skene.fit(*arrays, *(len(found) for found in names.values()))
    assert fit.converged and min(fit.gains) > -1e-9 and abs(fit.gains[-1]) < 1e-9
    return fit, names["item"], names["label"]


@pytest.mark.parametrize(
    ("dataset", "prevalence", "log_likelihood"),
    [
        ("dawid_skene_1979_anaesthetist", [0.399969, 0.421576, 0.111788, 0.066667], -190.730997),
        ("espeland_handelman_1989_caries", [0.800341], -7410.941976),
        ("snow2008_rte", [0.5178008215846137], -3679.6290364793667),
        ("welinder2010_bluebirds", [0.5640711470353024], -1888.1167547919165),
    ],
)
def test_dawid_skene_reaches_the_known_maximum(
    dataset: str, prevalence: list[float], log_likelihood: float
) -> None:
    fit, _, _ = dawid_skene_of(dataset)
    assert fit.prevalence[: len(prevalence)] == pytest.approx(prevalence, abs=5e-7)
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=5e-7)


def test_anaesthetists_by_the_rates_printed_in_1979() -> None:
    fit, _, _ = dawid_skene_of("dawid_skene_1979_anaesthetist")
    assert fit.prevalence.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]
    own = [
        [0.9074, 0.0926, 0, 0],
        [0.0703, 0.8766, 0.0531, 0],
        [0, 0.3388, 0.6612, 0],
        [0, 0, 0.5556, 0.4444],
    ]
    assert fit.confusion[0] == pytest.approx(np.array(own), abs=5e-5)


@pytest.mark.parametrize(
    ("dataset", "majority", "by_model"),
    [("snow2008_rte", 0.8750, 0.9275), ("welinder2010_bluebirds", 0.7593, 0.8981)],
)
def test_the_truth_is_found_as_often_as_is_known(dataset: str, majority: float, by_model: float) -> None:
    fit, items, labels = dawid_skene_of(dataset)
    with (REAL / f"{dataset}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    truth = {row["item"]: row["truth"] for row in rows}
    found = [labels[k] == truth[item] for item, k in zip(items, fit.truth.argmax(axis=1), strict=True)]
    assert round(sum(found) / len(found), 4) == by_model
    votes: dict[str, Counter[str]] = {}
    for row in rows:
        votes.setdefault(row["item"], Counter())[row["label"]] += 1
    # Of a tie the higher label wins, as in the figures that are known.
    right = sum(max(v, key=lambda k: (v[k], k)) == truth[item] for item, v in votes.items())
    assert round(right / len(items), 4) == majority


def test_the_reference_is_not_empty() -> None:
    assert len({(row["dataset"], row["coefficient"]) for row in REFERENCE}) >= 280
    assert sum(bool(row["se"]) for row in REFERENCE) >= 250


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
