"""Coverage of the panel's intervals: how often they hold what is true of the population they were drawn from.

A sweep of 1,000 logs a population; `pytest -s` prints each share. Populations are those that an interval is
about: items are drawn for those over items, raters too where the interval speaks of other raters.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import audit_panel
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from rlhf_audit.audits import runner
from rlhf_audit.estimators import bootstrap, complete_blocks

LOGS = 1000
BATCH = 100
BAND = (0.93, 0.97)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def rows_of(x: np.ndarray) -> list[dict[str, Any]]:
    """Return ratings of items by raters; NaN is none."""
    return [
        {"rater": f"r-{r:02d}", "item": f"e{i // 100}:{i % 100}", "value": float(x[i, r])}
        for i, r in zip(*np.nonzero(~np.isnan(x)), strict=True)
    ]


def binary(rng: np.random.Generator, n: int) -> np.ndarray:
    """Six raters, right with 70 to 95 per cent, four of them on each item; 40 per cent of items are true."""
    return answered(rng, n, np.array([[0.95, 0.9, 0.85, 0.8, 0.75, 0.7]] * 2), 4)


def ordinal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Five raters whose rounded answers scatter about the item's place, each with a level of its own."""
    level = np.array([-0.3, -0.1, 0, 0.1, 0.3])
    x = rng.normal(0, 1.2, (n, 1)) + level + rng.normal(0, 0.7, (n, 5))
    return np.clip(np.rint(x), -2, 2) + 3


def answered(rng: np.random.Generator, n: int, right: np.ndarray, m: int) -> np.ndarray:
    truth = (rng.random(n) < 0.4).astype(int)
    hit = rng.random((n, right.shape[1])) < right[truth]
    x = np.where(hit, truth[:, None], 1 - truth[:, None]).astype(float)
    if m < right.shape[1]:
        missing = rng.random(x.shape).argsort(axis=1) >= m
        x[missing] = np.nan
    return x


def filled(connection: duckdb.DuckDBPyConnection, x: np.ndarray, log: int) -> None:
    """Add a log's ratings, as a panel of its own: `log 17` is the objective."""
    items, raters = np.nonzero(~np.isnan(x))
    given = pa.table({"item": items, "rater": raters, "value": x[items, raters]})
    connection.register("given", given)
    connection.execute(
        """INSERT INTO usable_for_audit (rater_id, session_n, "row", episode_id, step, kind, objective, value)
        SELECT printf('r-%02d', rater), 1, item, 'e', item, 'rating', ?, value FROM given""",
        [f"log {log}"],
    )
    connection.unregister("given")


def covered(draw: Draw, n: int, ids: list[str], truth: dict[str, float]) -> dict[str, float]:
    """Return the share of logs whose interval holds the truth, by subject."""
    hits: dict[str, int] = defaultdict(int)
    for start in range(0, LOGS, BATCH):
        with audit_panel.connect() as connection:
            for seed in range(start, start + BATCH):
                filled(connection, draw(np.random.default_rng(seed), n), seed)
            for result in runner.run(connection, ids):
                for row in result.rows:
                    name = row.subject.partition(":")[0]
                    if name in truth and row.lower is not None and row.upper is not None:
                        hits[name] += row.lower <= truth[name] <= row.upper
    return {name: hits[name] / LOGS for name in truth}


def limit(draw: Draw, ids: list[str], n: int = 200_000) -> dict[str, float]:
    """Return what each coefficient comes to with very many items."""
    with audit_panel.connect() as connection:
        filled(connection, draw(np.random.default_rng(10**6), n), 0)
        results = runner.run(connection, ids)
    return {
        row.subject.partition(":")[0]: row.value for r in results for row in r.rows if row.value is not None
    }


def held(shares: dict[str, float], least: float = BAND[0], most: float = BAND[1]) -> None:
    print({name: round(share, 3) for name, share in shares.items()})
    assert shares
    wrong = {name: share for name, share in shares.items() if not least <= share <= most}
    assert not wrong, wrong


@pytest.mark.sweep
@pytest.mark.parametrize("draw", [binary, ordinal], ids=["binary", "ordinal"])
def test_agreement_sweep_audits(draw: Draw) -> None:
    ids = ["agreement", "scaled_agreement"]
    truth = limit(draw, ids)
    held(covered(draw, 200, ids, truth))


@pytest.mark.sweep
@pytest.mark.parametrize("draw", [binary, ordinal], ids=["binary", "ordinal"])
def test_bootstrap_over_items_sweep_audits(draw: Draw) -> None:
    truth = {k: v for k, v in limit(draw, ["bootstrap_agreement"]).items() if k == "alpha over items"}
    held(covered(draw, 200, ["bootstrap_agreement"], truth))


@pytest.mark.sweep
def test_bootstrap_over_raters_sweep_audits() -> None:
    """Thirty raters drawn from a population in which they differ, five on each of 300 items."""

    def draw(rng: np.random.Generator, n: int, n_raters: int = 30) -> np.ndarray:
        right = np.tile(rng.beta(8, 2, n_raters), (2, 1))
        return answered(rng, n, right, 5)

    truth = limit(lambda rng, n: draw(rng, n, 400), ["bootstrap_agreement"], 60_000)
    held(
        covered(
            draw,
            300,
            ["bootstrap_agreement"],
            {"alpha over items and raters": truth["alpha over items and raters"]},
        )
    )


@pytest.mark.sweep
def test_pairwise_kappa_sweep_audits() -> None:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return answered(rng, n, np.array([[0.9, 0.8, 0.85]] * 2), 3)

    truth = {name: v for name, v in limit(draw, ["pairwise_kappa"]).items() if "/" in name}
    held(covered(draw, 200, ["pairwise_kappa"], truth))


@pytest.mark.sweep
def test_marginal_homogeneity_sweep_audits() -> None:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return answered(rng, n, np.array([[0.9, 0.8, 0.7], [0.9, 0.85, 0.95]]), 3)

    truth = {name: v for name, v in limit(draw, ["marginal_homogeneity"]).items() if v > 0.02}
    held(covered(draw, 300, ["marginal_homogeneity"], truth))


@pytest.mark.sweep
def test_intraclass_sweep_audits() -> None:
    """Normal ratings: items, raters and errors drawn, as each of the three models has it."""
    n, k = 40, 5
    hits: dict[str, int] = defaultdict(int)
    true = {"1": 1 / 1.8, "2": 1 / 1.8, "3": 1 / 1.6}
    for seed in range(LOGS):
        rng = np.random.default_rng(seed)
        item, rater, error = (
            rng.normal(0, 1, (n, 1)),
            rng.normal(0, 0.2**0.5, (1, k)),
            rng.normal(0, 0.6**0.5, (n, k)),
        )
        nested = item + rng.normal(0, 0.8**0.5, (n, k))
        for name, estimate in {
            **{a: b for a, b in complete_blocks.intraclass(item + rater + error).items() if "(1" not in a},
            **{a: b for a, b in complete_blocks.intraclass(nested).items() if "(1" in a},
        }.items():
            rho = true[name[4]]
            rho = rho if name.endswith("1)") else k * rho / (1 + (k - 1) * rho)
            hits[name] += estimate.lower <= rho <= estimate.upper
    held({name: count / LOGS for name, count in hits.items()})


@pytest.mark.sweep
def test_kendall_sweep_audits() -> None:
    """Normal ratings: the limit of W is that of the mean of Spearman's correlations."""
    k, rho = 5, 0.5
    spearman = 6 / np.pi * np.arcsin(rho / 2)
    true, hits = (1 + (k - 1) * spearman) / k, 0
    for seed in range(LOGS):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, rho**0.5, (40, 1)) + rng.normal(0, (1 - rho) ** 0.5, (40, k))
        estimate = complete_blocks.kendall(x)[0]
        hits += estimate.lower <= true <= estimate.upper
    held({"Kendall W": hits / LOGS})


@pytest.mark.sweep
def test_truth_inference_sweep_audits() -> None:
    right = np.array([[0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.9, 0.8]] * 2)
    truth = {f"r-{r:02d}": float(right[0, r]) for r in range(8)} | {"label 0": 0.6, "label 1": 0.4}
    held(covered(lambda rng, n: answered(rng, n, right, 5), 300, ["truth_inference"], truth))


@pytest.mark.sweep
def test_controversy_sweep_audits() -> None:
    truth = {"all items": limit(binary, ["item_controversy"], 50_000)["all items"]}
    held(covered(binary, 200, ["item_controversy"], truth))


def test_drawing_more_raters_makes_the_interval_wider() -> None:
    """Not a sweep: raters who differ much widen the interval over raters, those who do not leave it alone."""
    rng = np.random.default_rng(1)

    def width(right: np.ndarray) -> tuple[float, float]:
        x = answered(rng, 400, np.tile(right, (2, 1)), 20)
        items, raters = np.nonzero(~np.isnan(x))
        draws = bootstrap.draw(
            items, raters, x[items, raters].astype(int), np.array([0.0, 1.0]), 400, np.random.default_rng(0)
        )
        return tuple(
            float(np.ptp(np.quantile(d, [0.025, 0.975]))) for d in (draws.over_items, draws.over_both)
        )

    over_items, over_both = width(np.linspace(0.5, 1, 20))
    assert over_both > 2 * over_items
    over_items, over_both = width(np.full(20, 0.8))
    assert over_both < 1.5 * over_items


def test_a_sum_of_draws_has_the_right_spread() -> None:
    """The items' bootstrap of one alpha is as wide as its analytic standard error says."""
    x = binary(np.random.default_rng(3), 400)
    items, raters = np.nonzero(~np.isnan(x))
    draws = bootstrap.draw(
        items, raters, x[items, raters].astype(int), np.array([0.0, 1.0]), 2000, np.random.default_rng(0)
    )
    with audit_panel.connect(rows_of(x)) as connection:
        (result,) = runner.run(connection, ["agreement"])
    (row,) = [row for row in result.rows if row.subject == "alpha"]
    assert row.upper is not None and row.lower is not None
    se = (row.upper - row.lower) / 2 / stats.norm.ppf(0.975)
    assert draws.alpha == pytest.approx(row.value, abs=1e-12)
    assert float(draws.over_items.std()) == pytest.approx(se, rel=0.1)
