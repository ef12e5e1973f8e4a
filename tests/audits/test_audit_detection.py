"""Planted raters are found, clean ones are left alone: at 200 ratings a rater."""

from collections import Counter

import audit_panel
import pytest
from audit_simulate import simulate

from rlhf_audit.audits import runner

FINDS = {
    "always-yes": "constant_rater",
    "random": "random_rater",
    "inverted": "random_rater",
    "lenient": "severity",
    "favours-1": "action_bias",
    "drifts": "drift",
    "fast": "too_fast",
}
PER_RATER = ("pairwise_kappa", *dict.fromkeys(FINDS.values()))


def found(
    seed: int, planted: list[str], n_clean: int, n_ratings: int, per_item: int | None
) -> set[tuple[str, str]]:
    """Return (audit, rater) of every finding about a rater."""
    rows = simulate(seed, planted, n_clean, n_ratings, per_item=per_item)
    with audit_panel.connect(rows) as connection:
        return {
            (result.id, row.subject.partition(":")[0])
            for result in runner.run(connection, PER_RATER)
            for row in result.findings
        }


@pytest.mark.parametrize("plant", FINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_one_of_five_raters(seed: int, plant: str) -> None:
    """A small panel that rates the same 200 items: the planted one is found, and nobody else."""
    findings = found(seed, [plant], n_clean=4, n_ratings=200, per_item=None)
    assert (FINDS[plant], f"r-{plant}-0") in findings
    assert {rater for _, rater in findings} == {f"r-{plant}-0"}


def test_a_crowd() -> None:
    """Forty raters, five on each item, two planted of each kind: recall and false findings."""
    planted = [plant for plant in FINDS for _ in range(2)]
    hits: Counter[str] = Counter()
    false: Counter[str] = Counter()
    seeds = (3, 4)
    for seed in seeds:
        for audit, rater in found(seed, planted, n_clean=26, n_ratings=200, per_item=5):
            plant = rater.removeprefix("r-").rpartition("-")[0]
            if plant == "clean":
                false[audit] += 1
            else:
                hits[plant] += FINDS[plant] == audit
    assert all(hits[plant] >= 3 for plant in FINDS), hits
    assert sum(hits.values()) >= 0.9 * len(planted) * len(seeds)
    assert sum(false.values()) <= 0.02 * 26 * len(seeds) * len(PER_RATER), false


@pytest.mark.parametrize("seed", (5, 6))
def test_a_clean_crowd(seed: int) -> None:
    findings = found(seed, [], n_clean=20, n_ratings=200, per_item=5)
    assert len(findings) <= 1, findings


def test_too_few_ratings_accuse_nobody() -> None:
    assert not found(1, list(FINDS), n_clean=4, n_ratings=15, per_item=None)
