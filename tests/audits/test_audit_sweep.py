"""``make sweep-audits``: recall, false findings and coverage over many simulated logs.

Other families add theirs: a plant to ``PLANTS``, an interval to ``COVERED``.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import audit_habits as habits
import audit_panel
import duckdb
import numpy as np
import pytest

from rlhf_audit.audits import catalogue, runner
from rlhf_audit.types import AuditResult

pytestmark = pytest.mark.sweep

Columns = dict[str, Any]
Make = Callable[[np.random.Generator, Sequence[tuple[str, str]], int, int], Columns]

RATER_FAMILY = catalogue.FAMILIES["raters"]
N_RATERS, N_RATINGS, PER_ITEM = 200, 200, 5


def comparisons_as_found(
    random: np.random.Generator, raters: Sequence[tuple[str, str]], n: int, per_item: int
) -> Columns:
    return habits.comparisons(random, raters, n, per_item, randomised=False)


LOGS: Mapping[str, Make] = {
    "ratings": habits.ratings,
    "scales": habits.scales,
    "comparisons": habits.comparisons,
    "not randomised": comparisons_as_found,
    "criteria": habits.criteria,
}
PLANTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("ratings", "always-yes"): ("constant_rater",),
    ("ratings", "random"): ("random_rater", "rater_fit"),
    ("ratings", "inverted"): ("random_rater", "rater_fit"),
    ("ratings", "fast"): ("too_fast",),
    ("ratings", "repeats"): ("straight_lining",),
    ("ratings", "favours-1"): ("action_bias",),
    ("ratings", "lenient"): ("severity", "rasch_severity"),
    ("ratings", "severe"): ("severity", "rasch_severity"),
    ("ratings", "drifts"): ("drift",),
    ("ratings", "tires"): ("fatigue", "fatigue_onset"),
    ("ratings", "leans"): ("anchoring",),
    ("ratings", "contrasts"): ("anchoring",),
    ("scales", "middle"): ("central_tendency",),
    ("scales", "ends"): ("central_tendency",),
    ("scales", "high"): ("severity", "rasch_severity"),
    ("comparisons", "first"): ("position_bias",),
    ("not randomised", "first"): ("position_bias",),
    ("comparisons", "ties"): ("tie_excess",),
    ("criteria", "one-impression"): ("halo",),
}
"""The log and the habit, and the audits that must find it."""


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with audit_panel.connect() as found:
            yield found


def audited(
    connection: duckdb.DuckDBPyConnection, columns: Columns, ids: Sequence[str] = RATER_FAMILY
) -> tuple[AuditResult, ...]:
    return runner.run(habits.connect(columns, connection), ids)


def found(results: Sequence[AuditResult]) -> set[tuple[str, str]]:
    """Return audit and rater of every finding."""
    return {(one.id, row.subject.partition(":")[0]) for one in results for row in one.findings}


@pytest.mark.parametrize("kind", LOGS)
def test_planted_raters_are_found_and_clean_ones_left_alone(
    connection: duckdb.DuckDBPyConnection, kind: str
) -> None:
    """At full effect and 200 ratings a rater: recall .95 of each plant, .5 % of clean raters by any check."""
    planted = [habit for log, habit in PLANTS if log == kind for _ in range(2)]
    hits: Counter[tuple[str, str]] = Counter()
    false: Counter[str] = Counter()
    n_logs = 10
    for seed in range(n_logs):
        raters = habits.names(N_RATERS - len(planted), planted)
        columns = LOGS[kind](np.random.default_rng(seed), raters, N_RATINGS, PER_ITEM)
        for audit, rater in found(audited(connection, columns)):
            habit = rater.removeprefix("r-").rpartition("-")[0]
            hits[habit, audit] += 1
            false[audit] += habit == "clean"
    recall = {
        (habit, audit): hits[habit, audit] / (2 * n_logs)
        for log, habit in PLANTS
        if log == kind
        for audit in PLANTS[log, habit]
    }
    n_clean = n_logs * (N_RATERS - len(planted))
    print(f"\n{kind}: recall {recall}; clean raters flagged of {n_clean}: {dict(false)}")
    assert min(recall.values()) >= 0.95
    assert max(false.values(), default=0) <= 0.005 * n_clean


def test_a_hundred_clean_logs(connection: duckdb.DuckDBPyConnection) -> None:
    """Of each 100 clean logs 95 are without any finding by the rater family, and so are most raters."""
    n_logs = {"ratings": 40, "scales": 20, "comparisons": 20, "not randomised": 10, "criteria": 10}
    flagged: list[tuple[str, int, set[tuple[str, str]]]] = []
    raters = habits.names(N_RATERS, [])
    for kind, n in n_logs.items():
        for seed in range(n):
            columns = LOGS[kind](np.random.default_rng(1000 + seed), raters, N_RATINGS, PER_ITEM)
            findings = found(audited(connection, columns))
            if findings:
                flagged.append((kind, seed, findings))
    per_check = Counter(audit for _, _, findings in flagged for audit, _ in findings)
    print(f"\nclean logs with a finding: {flagged}")
    assert len(flagged) <= 5
    assert max(per_check.values(), default=0) <= 0.005 * 100 * N_RATERS


@dataclass(frozen=True)
class Covered:
    """An interval, and what it should cover.

    Attributes:
        make: One log of the raters SMALL.
        truth: The value that the first rater would have after endless answers, by the audits that report it;
            None for the mean over all logs, where it has no closed form.
    """

    make: Callable[[np.random.Generator], Columns]
    truth: Mapping[tuple[str, str], float | None]


SMALL = habits.names(6, [])
FIRST = SMALL[0][0]
N_COVERAGE = 1000


def few(make: Make, n: int = 150, per_item: int = 3) -> Callable[[np.random.Generator], Columns]:
    return lambda random: make(random, SMALL, n, per_item)


def mostly_yes_and_fast(random: np.random.Generator) -> Columns:
    columns = habits.ratings(random, SMALL, 150, 3)
    n = len(columns["value"])
    quick = random.random(n) < 0.25
    value = (random.random(n) < 0.7).astype(float)
    return columns | {"value": value, "latency_s": np.where(quick, 0.01, 4.0)}


def by_the_model(random: np.random.Generator) -> Columns:
    """Ratings by the Rasch model itself, all raters alike."""
    columns = habits.ratings(random, SMALL, 300, 4)
    ability = random.normal(0, 1.2, columns["item_number"].max() + 1)[columns["item_number"]]
    yes = random.random(len(ability)) < 1 / (1 + np.exp(-ability))
    return columns | {"value": yes.astype(float)}


COVERED: Mapping[str, Covered] = {
    "ratings": Covered(
        few(habits.ratings),
        {
            ("severity", "{}"): 0.0, ("action_bias", "{}:1"): 0.0, ("drift", "{}"): 0.0,
            ("fatigue", "{}"): 0.0, ("fatigue", "{}:latency"): 0.0, ("fatigue_onset", "{}"): 0.0,
            ("anchoring", "{}"): 0.0, ("straight_lining", "{}"): 1.0,
            ("random_rater", "{}"): None,
        },
    ),
    "scales": Covered(
        few(habits.scales), {("severity", "{}"): 0.0, ("drift", "{}"): 0.0, ("central_tendency", "{}"): 1.0}
    ),
    "shares": Covered(
        mostly_yes_and_fast, {("constant_rater", "{}"): 0.7, ("too_fast", "{}"): None}
    ),
    "comparisons": Covered(
        few(habits.comparisons), {("position_bias", "{}"): 0.5, ("tie_excess", "{}"): 0.1}
    ),
    "not randomised": Covered(few(comparisons_as_found), {("position_bias", "{}"): 0.5}),
    "criteria": Covered(few(habits.criteria), {("halo", "{}"): None}),
    "rasch": Covered(
        by_the_model,
        {("rater_fit", "{}:infit"): 1.0, ("rater_fit", "{}:outfit"): 1.0},
    ),
}  # fmt: skip
"""What is simulated, and the intervals that are read from it."""


@pytest.mark.parametrize("name", COVERED)
def test_intervals_cover_the_truth(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Over 1,000 logs that share nothing, side by side in one database; the first rater of each is read."""
    case = COVERED[name]
    habits.connect({"rater_id": [], "value": []}, connection)
    for seed in range(N_COVERAGE):
        habits.add(connection, case.make(np.random.default_rng(seed)), f"r-{seed:04d}")
    results = runner.run(connection, [audit for audit, _ in case.truth])
    shares = {}
    for (audit, subject), truth in case.truth.items():
        wanted = {subject.format(f"r-{seed:04d}{FIRST}") for seed in range(N_COVERAGE)}
        rows = [row for one in results if one.id == audit for row in one.rows if row.subject in wanted]
        ends = [(row.lower, row.upper) for row in rows if row.lower is not None and row.upper is not None]
        assert len(ends) >= 0.99 * N_COVERAGE
        aim = float(np.mean([row.value for row in rows if row.value is not None])) if truth is None else truth
        shares[audit, subject] = float(np.mean([lower <= aim <= upper for lower, upper in ends]))
    print(f"\n{name}: {shares}")
    assert all(0.93 <= share <= 0.97 for share in shares.values())
