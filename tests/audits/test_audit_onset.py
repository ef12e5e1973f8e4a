"""The point from which a rater parts from the others: place, error rate and interval of the cumulated sum."""

from random import Random
from typing import Any

import audit_panel
import numpy as np
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.estimators import change_point
from rlhf_audit.types import AuditRow


def test_the_place_of_a_step_is_found() -> None:
    random = np.random.default_rng(3)
    for place in (40, 100, 170):
        y = random.normal(0, 1, 200) + 2.0 * (np.arange(200) >= place)
        change = change_point.find(y)
        assert change is not None
        assert abs(change.place - place) <= 4
        assert change.step == pytest.approx(2.0, abs=0.5) and change.p < 1e-6


def test_one_mean_is_found_to_change_as_seldom_as_p_says_and_the_interval_holds() -> None:
    random = np.random.default_rng(4)
    found = [change_point.find(np.abs(random.normal(0, 1, 200))) for _ in range(2000)]
    p = np.array([one.p for one in found if one is not None])
    assert len(p) == 2000
    assert 0.03 <= (p <= 0.05).mean() <= 0.06
    assert 0.94 <= np.mean([abs(one.step) <= one.half for one in found if one is not None]) <= 0.97


def test_a_series_that_does_not_vary_has_no_change() -> None:
    assert change_point.find(np.full(50, 0.3)) is None
    assert change_point.find(np.array([1.0])) is None


def panel(tenths: int) -> list[dict[str, Any]]:
    """Four raters of 160 steps; of the second half of the first's answers so many tenths are wrong."""
    random = Random(2)
    rows = [
        {
            "rater": f"r-{rater}",
            "item": f"e:{item}",
            "value": float((item % 2 == 0) == (random.random() < 0.9)),
        }
        for rater in range(4)
        for item in range(160)
    ]
    for item in range(80, 160):
        if item * 7 % 10 < tenths:
            rows[item]["value"] = float(item % 2)
    return rows


def onset(rows: list[dict[str, Any]]) -> AuditRow:
    with audit_panel.connect(rows) as connection:
        (result,) = runner.run(connection, ["fatigue_onset"])
    return {row.subject: row for row in result.rows}["r-0"]


def test_a_stronger_plant_never_lowers_the_value() -> None:
    rows = [onset(panel(tenths)) for tenths in (0, 3, 5, 8, 10)]
    values = [row.value for row in rows if row.value is not None]
    assert values == sorted(values) and len(values) == 5
    assert not rows[0].flagged and rows[-1].flagged
    assert rows[-1].note == "disagrees more from answer 80 on"
