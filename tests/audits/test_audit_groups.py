"""Groups of raters: who may be shown, and that nothing but what raters gave decides."""

import itertools
from collections.abc import Mapping
from random import Random
from typing import Any

import audit_cases
import audit_oracle_groups
import audit_panel
import numpy as np
import pytest

from rlhf_audit.audits import prepared, runner
from rlhf_audit.estimators import groups
from rlhf_audit.types import AuditRow

AUDITS = ["group_bias", "group_cohesion", "simpson"]
LOW = {"group_cohesion": {"n_min": 5, "permutations": 60}, "group_bias": {"permutations": 100}}
Ratings = list[dict[str, Any]]


def ratings(seed: int, n_raters: int, n_items: int = 24, lenient: int = 0, share: float = 0.0) -> Ratings:
    random = Random(seed)
    truth = [random.random() < 0.5 for _ in range(n_items)]
    return [
        {"rater": f"r-{rater}", "item": f"e:{item}", "action": item % 3,
         "value": float((truth[item] if random.random() < 0.85 else not truth[item])
                        or (random.random() < share and rater < lenient))}
        for rater in range(n_raters)
        for item in range(n_items)
        if random.random() < 0.9
    ]  # fmt: skip


def told(members: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    return [
        {"rater_id": rater, "groups": "{" + ", ".join(f"{k}={v}" for k, v in own.items()) + "}"}
        for rater, own in members.items()
    ]


def audit(rows: Ratings, members: Mapping[str, Mapping[str, str]], threads: int = 1) -> dict[str, AuditRow]:
    with audit_panel.connect(rows, threads=threads, raters=told(members)) as connection:
        results = runner.run(connection, AUDITS, LOW)
    return {f"{one.id} {row.subject}": row for one in results for row in one.rows}


def sized(**sizes: int) -> dict[str, dict[str, str]]:
    """Raters r-0, r-1, … in groups of these sizes; ``nothing`` is what nobody told."""
    values = [value for value, size in sizes.items() for _ in range(size)]
    return {f"r-{i}": {} if v == "nothing" else {"g": v} for i, v in enumerate(values)}


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({"a": 5, "b": 5}, {"a", "b"}),
        ({"a": 4, "b": 6}, set()),
        ({"a": 6, "b": 4, "c": 1}, {"a"}),
        ({"a": 7, "b": 6, "c": 2}, {"a"}),
        ({"a": 6, "b": 6, "nothing": 3}, {"b"}),
        ({"a": 6, "nothing": 4}, set()),
        ({"a": 5, "nothing": 5}, {"a"}),
        ({"a": 12}, set()),
    ],
)
def test_nobody_is_shown_in_a_small_group_nor_in_what_remains(sizes: dict[str, int], shown: set[str]) -> None:
    found = audit(ratings(1, sum(sizes.values())), sized(**sizes))
    for name in AUDITS:
        subjects = {key.split(" ", 1)[1] for key in found if key.startswith(name)}
        assert subjects == ({f"g={value}" for value in shown} or {"all"})


def test_raters_without_ratings_make_no_group_larger() -> None:
    members = sized(a=4, b=8) | {f"r-9{i}": {"g": "a"} for i in range(5)}
    assert {key for key in audit(ratings(1, 12), members) if "=a" in key} == set()


@pytest.mark.parametrize("name", AUDITS)
def test_order_names_and_threads_change_no_bit(name: str) -> None:
    rows, members = ratings(2, 12, lenient=6, share=0.5), sized(a=6, b=6)
    before = audit(rows, members)
    assert before == audit(Random(3).sample(rows, len(rows)), dict(reversed(members.items())), threads=4)
    new = {f"r-{i}": f"r-{(i * 7 + 3) % 12:x}z" for i in range(12)}
    renamed = [{**row, "rater": new[row["rater"]]} for row in rows]
    assert before == audit(renamed, {new[rater]: own for rater, own in members.items()})


def test_a_stronger_plant_never_lowers_the_value() -> None:
    found = [
        audit(ratings(5, 14, 40, 7, share), sized(a=7, b=7))["group_bias g=a"].value
        for share in (0.0, 0.2, 0.5, 0.9)
    ]
    assert found == sorted(found) and found[-1] > 0.3


def test_values_are_rounded_so_that_no_sum_gives_members_away() -> None:
    for row in audit(ratings(6, 14), sized(a=7, b=7)).values():
        numbers = [x for x in (row.value, row.lower, row.upper) if x is not None]
        assert numbers and all(x == round(x, 2) for x in numbers)


def test_the_band_is_that_of_all_random_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten raters have 252 groups of five: the band of 2,000 draws is theirs."""
    monkeypatch.setattr(groups, "_AT_LEAST", 2000)
    rows = ratings(8, 10, 30)
    places = {name: n for n, name in enumerate(sorted({row["item"] for row in rows}))}
    raters = np.array([int(row["rater"][2:]) for row in rows])
    items = np.array([places[row["item"]] for row in rows])
    panel = groups.Panel(raters, items, np.array([row["value"] for row in rows]), 10)
    found = panel.cohesion(np.arange(10) < 5, 2000)
    every = []
    for who in itertools.combinations(range(10), 5):
        split = [
            tuple([r["value"] for r in rows if r["item"] == i and (int(r["rater"][2:]) in who) is inside]
                  for inside in (True, False))
            for i in places
        ]  # fmt: skip
        reference = audit_oracle_groups.across(split)
        every.append(audit_oracle_groups.in_group([x for x, _ in split]) / reference)
    lower, upper = np.quantile(every, [0.025, 0.975])
    middle, own = np.median(every), found.value
    assert own == pytest.approx(every[0], rel=1e-12)
    assert found.lower == pytest.approx(lower, abs=0.02) and found.upper == pytest.approx(upper, abs=0.02)
    p = np.mean(np.abs(np.array(every) - middle) >= abs(own - middle) - 1e-9)
    assert found.p == pytest.approx(p, abs=0.08)


def test_p_is_that_of_all_permutations() -> None:
    means = np.sort(np.random.default_rng(3).normal(size=9))
    member = np.array([True, False, True, True, False, False, True, False, False])
    found = groups.difference(means, member, 4000)
    every = [
        means[list(who)].mean() - np.delete(means, list(who)).mean()
        for who in itertools.combinations(range(9), 4)
    ]
    assert found.p == pytest.approx(np.mean(np.abs(every) >= abs(found.value) - 1e-12), abs=0.02)


@pytest.mark.parametrize(
    "case", [case for case in audit_cases.CASES if case.parent.name == "simpson"], ids=audit_cases.name
)
def test_reversals_as_counted_by_hand(case: Any) -> None:
    wanted = audit_oracle_groups.reversals(case)
    for row in audit_cases.run_case(case).rows:
        turned, of = wanted.get(row.subject, (0, 0))
        if row.flagged:
            assert row.note == f"reversed in {turned} of {of} situations" and 3 * turned >= 2 * of >= 4
        elif row.note == "ok":
            assert turned < 2 or 3 * turned < 2 * of


def test_groups_come_only_from_a_grant_that_stands() -> None:
    """What the views give is all that is read: raters whose groups they hold back are in none."""
    rows, members = ratings(9, 12), sized(a=6, b=6)
    members["r-0"] = {}
    assert "group_bias g=a" not in {
        key for key, row in audit(rows, members).items() if row.n == 6 and "=a" in key
    }
    with audit_panel.connect(rows, raters=told(members)) as connection:
        for one in prepared.load().values():
            connection.execute(f"CREATE VIEW {one.name} AS {one.sql}")
        found = {row[0] for row in connection.execute("SELECT rater_id FROM rater_groups").fetchall()}
    assert "r-0" not in found
