"""``make sweep-audits``: recall, false findings and coverage over many simulated logs.

Other families add theirs: a plant to ``PLANTS``, an interval to ``COVERED``.
"""

import warnings
from collections import Counter, defaultdict
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
    ("ratings", "tires"): ("fatigue",),
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
        make: One log from a seed: 12 raters.
        truth: The value that each of the log's raters would have after endless answers.
        subject: Of which rows; ``{}`` stands for the rater.
    """

    make: Callable[[np.random.Generator], Columns]
    truth: float
    subject: str = "{}"


SMALL = habits.names(12, [])
N_COVERAGE = 1000


def few(make: Make, n: int = 150, per_item: int = 3) -> Callable[[np.random.Generator], Columns]:
    return lambda random: make(random, SMALL, n, per_item)


def mostly_yes(random: np.random.Generator) -> Columns:
    columns = habits.ratings(random, SMALL, 150, 3)
    return columns | {"value": (random.random(len(columns["value"])) < 0.7).astype(float)}


def one_in_four_fast(random: np.random.Generator) -> Columns:
    columns = habits.ratings(random, SMALL, 150, 3)
    quick = random.random(len(columns["value"])) < 0.25
    return columns | {"latency_s": np.where(quick, 0.01, 4.0)}


def one_severe(random: np.random.Generator) -> Columns:
    """Ratings by the Rasch model itself: the first rater 1 logit, the others such that the mean is 0."""
    columns = habits.ratings(random, SMALL, 300, 6)
    names = np.array(columns["rater_id"])
    ability = random.normal(0, 1.2, columns["item_number"].max() + 1)[columns["item_number"]]
    severity = np.where(names == SMALL[0][0], 1.0, -1.0 / (len(SMALL) - 1))
    return columns | {
        "value": (random.random(len(names)) < 1 / (1 + np.exp(severity - ability))).astype(float)
    }


COVERED: Mapping[str, tuple[Covered, ...]] = {
    "severity": (Covered(few(habits.ratings), 0.0), Covered(few(habits.scales), 0.0)),
    "action_bias": (Covered(few(habits.ratings, 300), 0.0, "{}:1"),),
    "drift": (Covered(few(habits.ratings), 0.0),),
    "fatigue": (
        Covered(few(habits.ratings), 0.0),
        Covered(few(habits.ratings), 0.0, "{}:latency"),
    ),
    "anchoring": (Covered(few(habits.ratings), 0.0),),
    "straight_lining": (Covered(few(habits.ratings), 1.0),),
    "constant_rater": (Covered(mostly_yes, 0.7),),
    "too_fast": (Covered(one_in_four_fast, 0.25),),
    "tie_excess": (Covered(few(habits.comparisons), 0.1),),
    "position_bias": (
        Covered(few(habits.comparisons), 0.5),
        Covered(few(comparisons_as_found), 0.5),
    ),
}
"""By audit; the intervals whose truth has no closed form are in the tests below."""


def coverage(
    connection: duckdb.DuckDBPyConnection, audit: str, one: Covered, n_logs: int = N_COVERAGE
) -> float:
    """Return the share of logs in which the first rater's interval holds the truth."""
    held = judged = 0
    subject = one.subject.format(SMALL[0][0])
    for seed in range(n_logs):
        (result,) = audited(connection, one.make(np.random.default_rng(seed)), [audit])
        row = next(row for row in result.rows if row.subject == subject)
        if row.lower is None or row.upper is None:
            continue
        judged += 1
        held += row.lower <= one.truth <= row.upper
    assert judged >= 0.99 * n_logs
    return held / judged


CASES = [(audit, i) for audit, listed in COVERED.items() for i in range(len(listed))]


@pytest.mark.parametrize(("audit", "which"), CASES)
def test_intervals_cover_the_truth(connection: duckdb.DuckDBPyConnection, audit: str, which: int) -> None:
    share = coverage(connection, audit, COVERED[audit][which])
    print(f"\n{audit} {which}: {share:.3f}")
    assert 0.93 <= share <= 0.97


def test_severities_in_logits_cover_the_truth(connection: duckdb.DuckDBPyConnection) -> None:
    held: dict[str, list[bool]] = defaultdict(list)
    for seed in range(N_COVERAGE):
        severity, fit = audited(
            connection, one_severe(np.random.default_rng(seed)), ["rasch_severity", "rater_fit"]
        )
        rows = {row.subject: row for one in (severity, fit) for row in one.rows}
        wanted = {"r-clean-0": 1.0, "r-clean-1": -1 / 11, "r-clean-1:infit": 1.0, "r-clean-1:outfit": 1.0}
        for subject, truth in wanted.items():
            row = rows[subject]
            assert row.lower is not None and row.upper is not None
            held[subject].append(row.lower <= truth <= row.upper)
    share = {subject: float(np.mean(one)) for subject, one in held.items()}
    print(f"\nrasch: {share}")
    assert all(0.93 <= one <= 0.97 for one in share.values())


@pytest.mark.parametrize("audit", ["random_rater", "halo", "central_tendency"])
def test_intervals_cover_what_endless_answers_give(connection: duckdb.DuckDBPyConnection, audit: str) -> None:
    """The truth is taken from one log of a hundred times as many answers a rater."""
    make = {"random_rater": habits.ratings, "halo": habits.criteria, "central_tendency": habits.scales}[audit]
    endless = make(np.random.default_rng(0), SMALL, 20_000, 3)
    (result,) = audited(connection, endless, [audit])
    truth = float(np.mean([row.value for row in result.rows if row.value is not None]))
    n = {"random_rater": 200, "halo": 200, "central_tendency": 200}[audit]
    share = coverage(connection, audit, Covered(few(make, n), truth))
    print(f"\n{audit}: {share:.3f} of {truth:.4f}")
    assert 0.93 <= share <= 0.97
