"""How often planted pairs, groups and weathercocks are found, how often clean raters are flagged."""

from random import Random
from typing import Any

import audit_habits as habits
import audit_panel
import numpy as np
import pyarrow as pa
import pytest
from audit_simulate import simulate

from rlhf_audit.audits import catalogue, estimated_pairs, runner
from rlhf_audit.estimators import groups

Rows = list[dict[str, Any]]
N_RATERS, N_RATINGS, PER_ITEM, N_PLANTED = 200, 200, 5, 10
PAIRS = ["copying", "duplicate_raters", "intra_rater"]


def planted(seed: int) -> Rows:
    """A crowd, ten of whom have a copier each, ten an alias, and ten answer anew at random when asked again.

    Everybody is asked 40 things again.
    """
    random = Random(seed)
    rows = simulate(seed, [], N_RATERS, N_RATINGS, per_item=PER_ITEM, accuracy=0.85)
    rows = [{**row, "latency_s": round(random.uniform(0.8, 9), 3)} for row in rows]
    of = {n: [row for row in rows if row["rater"] == f"r-clean-{n}"] for n in range(N_RATERS)}
    for n in range(N_PLANTED):
        timed = [round(random.uniform(0.8, 9), 3) for _ in of[n]]
        rows += [
            {**row, "rater": f"r-copier-{n}", "latency_s": s} for row, s in zip(of[n], timed, strict=True)
        ]
    for n in range(N_RATERS):
        at_random = 2 * N_PLANTED <= n < 3 * N_PLANTED
        for row in random.sample(of[n], 40):
            same = random.random() < (0.5 if at_random else 0.95)
            value = row["value"] if same else 1 - row["value"]
            seconds = round(random.uniform(0.8, 9), 3)
            rows.append({**row, "value": value, "session_n": 2, "latency_s": seconds})
    for n in range(N_PLANTED):
        # Whoever it is was asked again under both names.
        rows += [
            {**row, "rater": f"r-alias-{n}"} for row in rows if row["rater"] == f"r-clean-{N_PLANTED + n}"
        ]
    return rows


@pytest.mark.sweep
def test_sweep_audits_of_pairs() -> None:
    found = {name: [0, 0] for name in PAIRS}
    seeds = range(3)
    wrong: dict[str, set[tuple[int, str]]] = {name: set() for name in PAIRS}
    for seed in seeds:
        wanted = {
            "copying": {f"r-clean-{n}/r-copier-{n}" for n in range(N_PLANTED)}
            | {f"r-alias-{n}/r-clean-{N_PLANTED + n}" for n in range(N_PLANTED)},
            "duplicate_raters": {f"r-alias-{n}/r-clean-{N_PLANTED + n}" for n in range(N_PLANTED)},
            "intra_rater": {f"r-clean-{n}" for n in range(2 * N_PLANTED, 3 * N_PLANTED)},
        }
        with audit_panel.connect(planted(seed)) as connection:
            for one in runner.run(connection, PAIRS):
                flagged = {row.subject for row in one.findings}
                found[one.id][0] += len(flagged & wanted[one.id])
                found[one.id][1] += len(wanted[one.id])
                clean = {f"r-clean-{n}" for n in range(3 * N_PLANTED, N_RATERS)}
                wrong[one.id] |= {
                    (seed, part)
                    for name in flagged - wanted[one.id]
                    for part in name.split("/")
                    if part in clean
                }
    n_clean = len(seeds) * (N_RATERS - 3 * N_PLANTED)
    for name in PAIRS:
        recall, false = found[name][0] / found[name][1], len(wrong[name]) / n_clean
        print(f"{name}: recall {recall:.3f}, clean raters flagged {false:.4f}")
        assert recall >= 0.95 and false <= 0.005, (name, recall, false)


@pytest.mark.sweep
def test_sweep_audits_coverage_of_a_difference_between_groups() -> None:
    """1,000 logs: 16 raters of two groups who differ by .1, and each from their own group."""
    draw, covered = np.random.default_rng(5), 0
    n, n_items, size = 1000, 40, 16
    member = np.arange(size) < 7
    for _ in range(n):
        chance = np.clip(0.45 + 0.1 * member + draw.normal(0, 0.08, size), 0, 1)
        hard = draw.normal(0, 0.15, n_items)
        labels = draw.random((size, n_items)) < np.clip(chance[:, None] + hard, 0, 1)
        means = (labels - (labels.sum(0) - labels) / (size - 1)).mean(axis=1)
        order = np.argsort(means)
        found = groups.difference(means[order], member[order], 1)
        # A rater's residual is from the others, among whom their own group is one short.
        covered += found.lower <= 0.1 * size / (size - 1) <= found.upper
    print(f"group_bias: coverage {covered / n:.3f}")
    assert 0.93 <= covered / n <= 0.97


@pytest.mark.sweep
def test_sweep_audits_coverage_of_a_difference_of_labels() -> None:
    """1,000 logs: 15 raters, each lenient in their own way, six of them .1 more; each has their own items."""
    covered, n = 0, 1000
    size, n_ratings = 15, 40
    told = [{"rater_id": f"r-{i:02d}", "groups": f"{{g={'a' if i < 6 else 'b'}}}"} for i in range(size)]
    rater = np.repeat(np.arange(size), n_ratings)
    columns = {
        "rater_id": [f"r-{i:02d}" for i in rater], "session_n": (rater + 1).tolist(),
        "row": np.tile(np.arange(n_ratings), size), "kind": ["rating"] * len(rater),
        "objective": ["correct"] * len(rater), "n_steps": [1] * len(rater),
        "episode_id": [f"e{i}" for i in rater], "step": np.tile(np.arange(n_ratings), size),
    }  # fmt: skip
    with audit_panel.connect(raters=told) as connection:
        for seed in range(n):
            random = np.random.default_rng(seed)
            chance = 0.4 + random.normal(0, 0.08, size) + 0.1 * (np.arange(size) < 6)
            value = (random.random(len(rater)) < chance[rater]).astype(float)
            habits.connect(columns | {"value": value}, connection)
            (result,) = runner.run(connection, ["simpson"])
            (row,) = [row for row in result.rows if row.subject == "g=a"]
            assert row.lower is not None and row.upper is not None
            covered += row.lower <= 0.1 <= row.upper
    print(f"simpson: coverage {covered / n:.3f}")
    assert 0.93 <= covered / n <= 0.97


@pytest.mark.sweep
def test_sweep_audits_coverage_of_the_kappa_with_oneself() -> None:
    """1,000 raters as many logs: 200 repeats, nine of ten answered alike, which is a kappa of .8."""
    random, rows = Random(6), Rows()
    n = 1000
    for rater in range(n):
        for item in range(200):
            value = float(random.random() < 0.5)
            again = value if random.random() < 0.9 else 1 - value
            rows += [
                {"rater": f"r-{rater}", "item": f"e{rater}:{item}", "value": v, "session_n": number}
                for number, v in enumerate((value, again))
            ]
    with audit_panel.connect(rows) as connection:
        found = runner.run(connection, ["intra_rater"])[0].rows
    covered = sum((row.lower or 0) <= 0.8 <= (row.upper or 0) for row in found) / n
    print(f"intra_rater: coverage {covered:.3f}")
    assert len(found) == n and 0.93 <= covered <= 0.97


@pytest.mark.sweep
def test_sweep_audits_intervals_of_honest_pairs_hold_zero() -> None:
    """1,000 logs of seven honest raters: 21 pairs each, who copy nothing."""
    audit = catalogue.find("copying")
    assert audit.test is not None
    parameters = {name: one.default for name, one in audit.parameters.items()}
    held, flagged, n_pairs = 0, 0, 0
    items, raters = np.divmod(np.arange(80 * 7), 7)
    names = [f"r-{rater}" if item == 0 else None for item, rater in zip(items, raters, strict=True)]
    place = {"panel": np.ones(len(items), int), "rater": raters, "item": items, "rater_id": names}
    for seed in range(1000):
        random = np.random.default_rng(seed)
        truth = random.random(80) < 0.5
        value = np.where(random.random(len(items)) < 0.85, truth[items], ~truth[items]).astype(float)
        table = pa.table({**place, "value": value, "suffix": [name and "" for name in names]})
        rows = estimated_pairs.copying(table, parameters)
        q = runner.benjamini_hochberg([row["p"] for row in rows])
        held += sum(row["lower"] <= 0 for row in rows)
        flagged += sum(row["flagged"] and one <= audit.test.rate for row, one in zip(rows, q, strict=True))
        n_pairs += len(rows)
    print(f"copying: lower bound at most 0 in {held / n_pairs:.4f}, flagged {flagged / n_pairs:.5f}")
    assert n_pairs == 21_000 and held / n_pairs >= 0.93 and flagged / n_pairs <= 0.005
