"""What must hold of every audit whatever the data, and of each planted bias whatever its strength."""

from dataclasses import replace
from random import Random
from typing import Any

import audit_panel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_audit.audits import catalogue, runner
from rlhf_audit.types import AuditResult, AuditRow

Ratings = list[dict[str, Any]]
# low enough for small panels to be judged
LOW = {name: {"n_min": 4} for name, audit in catalogue.load().items() if audit.parameters} | {
    "action_bias": {"n_min": 3, "n_other": 2}
}
FEW = settings(max_examples=6, deadline=None, derandomize=True)


@st.composite
def panels(draw: st.DrawFn, labels: tuple[float, ...] = (0.0, 1.0)) -> Ratings:
    """Three to five raters who miss some of up to 14 items."""
    n_raters, n_items = draw(st.integers(3, 5)), draw(st.integers(6, 14))
    random = Random(draw(st.integers(0, 2**32)))
    missing = draw(st.sampled_from([0.0, 0.2]))
    actions = [random.randrange(2) for _ in range(n_items)]
    return [
        {
            "rater": f"r-{rater}", "item": f"e:{item}", "value": random.choice(labels),
            "action": actions[item], "latency_s": random.choice([0.1, 1.0, 2.5, 4.0]),
            "session_n": 1 + item // 7, "row": item,
        }
        for rater in range(n_raters)
        for item in range(n_items)
        if random.random() >= missing
    ]  # fmt: skip


def audit(ratings: Ratings, ids: list[str] | None = None, threads: int = 1) -> dict[str, dict[str, AuditRow]]:
    tables: dict[str, list[dict[str, Any]]] = {
        "grants": [
            {"grant_id": "g-r-0", "rater_id": "r-0", "state": "given", "purposes": ["audit"],
             "asked_purposes": ["audit"], "given_at": "2026-01-01", "expires_at": "2027-01-01"}
        ],
    }  # fmt: skip
    with audit_panel.connect(ratings, threads=threads, **tables) as connection:
        return {
            result.id: {row.subject: row for row in result.rows}
            for result in runner.run(connection, ids, LOW)
        }


@FEW
@given(panels(labels=(0.1, 0.3, 0.7)), st.integers(0, 2**32))
def test_order_of_rows_and_threads_change_no_bit(ratings: Ratings, seed: int) -> None:
    shuffled = Random(seed).sample(ratings, len(ratings))
    assert audit(ratings) == audit(shuffled, threads=4)


def test_order_of_many_rows_and_threads_change_no_bit() -> None:
    """More rows than DuckDB gives one thread at a time (122,880)."""

    def results(order: str, threads: int) -> tuple[AuditResult, ...]:
        with audit_panel.connect(threads=threads) as connection:
            connection.execute(
                f"""INSERT INTO usable_for_audit (rater_id, item, objective, kind, session_n, "row", value)
                SELECT concat('r-', i % 2), concat('e:', i // 2), 'correct', 'rating', 1, i,
                       hash(i) / 18446744073709551616
                FROM range(140000) AS t(i) ORDER BY {order}"""
            )
            return runner.run(connection, ["severity", "drift", "random_rater"])

    assert results("i", 1) == results("hash(i + 7)", 4)


@FEW
@given(panels())
def test_names_of_raters_do_not_matter(ratings: Ratings) -> None:
    names = {f"r-{i}": f"r-{'qzbma'[i]}" for i in range(5)}
    renamed = [{**row, "rater": names[row["rater"]]} for row in ratings]
    ids = [name for name in catalogue.READING_ORDER if "consent" not in name]
    before, after = audit(ratings, ids), audit(renamed, ids)

    def new_name(subject: str) -> str:
        if "/" in subject:
            return "/".join(sorted(names[part] for part in subject.split("/")))
        rater, colon, action = subject.partition(":")
        return names.get(rater, rater) + colon + action

    for name, rows in before.items():
        moved = {new_name(subject): replace(row, subject=new_name(subject)) for subject, row in rows.items()}
        assert moved == after[name]


def values(ratings: Ratings, audit_id: str, subject: str) -> float:
    value = audit(ratings, [audit_id])[audit_id][subject].value
    assert value is not None
    return value


def planted(ratings: Ratings, share: float, seed: int, change: dict[str, Any], **where: Any) -> Ratings:
    """Change a growing subset of r-0's ratings: a larger share changes all that a smaller one does."""
    random = Random(seed)
    result = []
    for row in ratings:
        chosen = random.random() < share
        here = row["rater"] == "r-0" and all(row[key] == value for key, value in where.items())
        result.append({**row, **change} if chosen and here else row)
    return result


PLANTS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("severity", "r-0", {"value": 1.0}, {}),
    ("constant_rater", "r-0", {"value": 9.0}, {}),
    ("action_bias", "r-0:1", {"value": 1.0}, {"action": 1}),
    ("too_fast", "r-0", {"latency_s": 0.05}, {}),
]


@pytest.mark.parametrize(("audit_id", "subject", "change", "where"), PLANTS, ids=lambda x: str(x)[:20])
def test_a_stronger_plant_never_lowers_the_value(
    audit_id: str, subject: str, change: dict[str, Any], where: dict[str, Any]
) -> None:
    random = Random(8)
    ratings = [
        {"rater": f"r-{rater}", "item": f"e:{item}", "value": float(random.random() < 0.5),
         "action": item % 2, "latency_s": 2.0}
        for rater in range(4)
        for item in range(40)
    ]  # fmt: skip
    for seed in range(2):
        shares = [0.5, 0.6, 0.8, 1.0] if audit_id == "constant_rater" else [0.0, 0.2, 0.5, 0.8, 1.0]
        found = [
            values(planted(ratings, share, seed, change, **where), audit_id, subject) for share in shares
        ]
        assert found == sorted(found)
        assert found[-1] > found[0]


def test_a_stronger_drift_never_lowers_the_value() -> None:
    """From 1, the first and the last answer, inwards."""
    random = Random(9)
    ratings = [
        {"rater": f"r-{rater}", "item": f"e:{item}", "value": float(random.random() < 0.5)}
        for rater in range(4)
        for item in range(40)
    ]
    found = []
    for depth in (0, 4, 8, 14, 20):
        own = [
            {**row, "value": float(i >= 20)} if i < depth or i >= 40 - depth else row
            for i, row in enumerate(ratings[:40])
        ]
        found.append(values(own + ratings[40:], "drift", "r-0"))
    assert found == sorted(found)
    assert found[-1] > 0.9


def test_more_invalid_rows_and_more_left_never_lower_the_value() -> None:
    ratings = [{"rater": "r-0", "item": f"e:{i}", "value": 1.0} for i in range(10)]
    found = [
        values(planted(ratings, share, 1, {"consent": False}), "consent_validity", "r-0")
        for share in (0, 0.3, 0.6, 1)
    ]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0.0, 10.0)


@FEW
@given(panels())
def test_the_opposite_answers_have_the_opposite_sign(ratings: Ratings) -> None:
    """Every label L becomes 1 - L: what is signed changes its sign, what is not stays."""
    mirrored = [{**row, "value": 1 - row["value"]} for row in ratings]
    ids = ["severity", "action_bias", "drift", "agreement", "pairwise_kappa", "random_rater"]
    before, after = audit(ratings, ids), audit(mirrored, ids)
    for name in ids:
        sign = -1 if name in ("severity", "action_bias", "drift") else 1
        for subject, row in before[name].items():
            wanted = None if row.value is None else pytest.approx(sign * row.value, abs=1e-12)
            assert after[name][subject].value == wanted


@FEW
@given(panels())
def test_inverting_one_rater_inverts_the_correlation(ratings: Ratings) -> None:
    inverted = [{**row, "value": 1 - row["value"]} if row["rater"] == "r-0" else row for row in ratings]
    before = audit(ratings, ["random_rater"])["random_rater"]["r-0"].value
    after = audit(inverted, ["random_rater"])["random_rater"]["r-0"].value
    assert after == (None if before is None else pytest.approx(-before, abs=1e-12))


@FEW
@given(panels())
def test_an_item_on_which_all_agree_raises_agreement(ratings: Ratings) -> None:
    raters = sorted({row["rater"] for row in ratings})
    more = [{"rater": rater, "item": "f:0", "value": 1.0, "session_n": 9, "row": 0} for rater in raters]
    assert values(ratings + more, "agreement", "percent") >= values(ratings, "agreement", "percent")
