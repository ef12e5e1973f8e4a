"""Coverage of the severities' intervals in logits: few raters and more, alike and one of them off."""

import numpy as np
import pyarrow as pa
import pytest

from rlhf_audit.audits import catalogue, rasch_rows

N_LOGS = 1000
DEFAULTS = {name: one.default for name, one in catalogue.find("rasch_severity").parameters.items()}
PANELS = {
    "6 alike": (6, 200, 6, 0.0, 2),
    "6, one off": (6, 200, 6, 1.0, 2),
    "6, one far off": (6, 300, 4, -2.0, 2),
    "6, one off, five labels": (6, 200, 6, 1.0, 5),
    "6 alike, five labels": (6, 200, 6, 0.0, 5),
    "20 alike": (20, 200, 20, 0.0, 2),
    "20, one off": (20, 400, 5, 1.0, 2),
}
"""Raters, items, raters of an item, how many logits the first rater is severer than the others, labels."""


def drawn(
    random: np.random.Generator, size: int, n_items: int, per_item: int, off: float, n_labels: int
) -> np.ndarray:
    """Return labels ``(items, raters)`` by the rating-scale model; NaN is none."""
    severity = np.zeros(size)
    severity[0] = off
    eta = random.normal(0, 1.2, (n_items, 1)) - severity
    labels, steps = np.arange(n_labels), np.linspace(-1.5, 1.5, n_labels - 1) if n_labels > 2 else [0.0]
    p = np.exp(eta[..., None] * labels - np.cumsum([0.0, *steps]))
    p /= p.sum(axis=-1, keepdims=True)
    given = (random.random(eta.shape)[..., None] > np.cumsum(p, axis=-1)[..., :-1]).sum(axis=-1).astype(float)
    given[random.random(given.shape).argsort(axis=1) >= per_item] = np.nan
    return given


def selected(given: np.ndarray) -> pa.Table:
    """Return what the audit's SELECT gives of these labels."""
    items, raters = np.nonzero(~np.isnan(given))
    m, total = (~np.isnan(given)).sum(axis=1), np.nansum(given, axis=1)
    cells, n = np.unique(
        np.stack([raters, m[items], total[items], given[items, raters]], axis=1), axis=0, return_counts=True
    )
    columns = dict(zip(("m", "total", "value"), cells[:, 1:].T, strict=True))
    named = {"rater_id": [f"r-{rater:02.0f}" for rater in cells[:, 0]], "objective": ["correct"] * len(n)}
    return pa.table(named | columns | {"n": n})


@pytest.mark.sweep
@pytest.mark.parametrize("name", PANELS)
def test_sweep_audits_coverage_of_severity_in_logits(name: str) -> None:
    size, n_items, per_item, off, n_labels = PANELS[name]
    first, other = 0, 0
    for seed in range(N_LOGS):
        given = drawn(np.random.default_rng(seed), size, n_items, per_item, off, n_labels)
        rows = {row["subject"]: row for row in rasch_rows.severity_rows(selected(given), DEFAULTS)}
        first += rows["r-00"]["lower"] <= off * (1 - 1 / size) <= rows["r-00"]["upper"]
        other += rows["r-01"]["lower"] <= -off / size <= rows["r-01"]["upper"]
    print(f"rasch_severity, {name}: coverage {first / N_LOGS:.3f}, of another rater {other / N_LOGS:.3f}")
    assert 0.93 <= first / N_LOGS <= 0.97 and 0.93 <= other / N_LOGS <= 0.97
