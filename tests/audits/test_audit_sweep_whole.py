"""The whole catalogue on clean logs; recall of the audits that judge panels, groups, items and consent."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import audit_whole as whole
import numpy as np
import pytest
import test_audit_sweep as single
import test_audit_sweep_pairs as pairs

from rlhf_audit.audits import catalogue, runner

pytestmark = pytest.mark.sweep

N_CLEAN = {"binary": 40, "ordinal": 30, "comparisons": 30}
N_LOGS = 20
ONE = whole.RATERS[0]


def test_sweep_audits_of_a_hundred_clean_logs() -> None:
    """Twenty honest raters, groups told, consent in order: 95 of 100 logs without any finding at all."""
    logs: Counter[str] = Counter()
    audits: Counter[str] = Counter()
    raters: Counter[str] = Counter()
    for kind, n in N_CLEAN.items():
        for seed in range(n):
            random = np.random.default_rng(seed)
            with whole.opened(random, whole.CLEAN[kind](random)) as connection:
                results = runner.run(connection)
            assert [one.id for one in results] == list(catalogue.READING_ORDER)
            found = {(one.id, row.subject) for one in results for row in one.findings}
            logs[kind] += bool(found)
            audits.update({audit for audit, _ in found})
            raters.update({a for a, s in found if s.startswith("r-") and a != "policy_share"})
    n_raters = sum(N_CLEAN.values()) * len(whole.RATERS)
    print(f"clean logs with a finding of {dict(N_CLEAN)}: {dict(logs)}, by {dict(audits)}")
    assert logs.total() <= 5
    assert max(raters.values(), default=0) <= 0.005 * n_raters


@dataclass(frozen=True)
class Planted:
    """A log, and the subjects that the audit must flag in it."""

    columns: dict[str, Any]
    wanted: set[str]
    tables: dict[str, Any] = field(default_factory=dict)


def by_chance(random: np.random.Generator) -> Planted:
    """One rater answers at random."""
    columns = whole.binary(random)
    return Planted(turned(columns, ONE, lambda _, coin: coin < 0.5, random), {ONE})


def known_labels(random: np.random.Generator) -> Planted:
    """One rater answers at random; of half of the items what most honest raters say is known to be right."""
    columns = whole.binary(random)
    given = np.bincount(columns["item_number"])
    yes = np.bincount(columns["item_number"], columns["value"])
    gold = [
        {"episode_id": f"e{i // 50:06d}", "step": int(i % 50), "value": float(2 * yes[i] > given[i])}
        for i in np.flatnonzero(given)[::2]
    ]
    return Planted(turned(columns, ONE, lambda _, coin: coin < 0.5, random), {ONE}, {"gold": gold})


def lenient(random: np.random.Generator) -> Planted:
    """One rater says yes to four of five of what they find wrong: of each pair with enough differences."""
    columns = whole.binary(random)
    columns = turned(columns, ONE, lambda value, coin: (value == 1) | (coin < 0.8), random)
    return Planted(columns, {f"{ONE}/{other}" for other in whole.RATERS[1:]})


def poor(random: np.random.Generator, per_item: int = whole.PER_ITEM) -> dict[str, Any]:
    """Every rater is wrong three times in ten."""
    columns = whole.binary(random, per_item=per_item)
    coin = random.random(len(columns["value"]))
    return columns | {"value": np.where(coin < 0.3, 1 - columns["value"], columns["value"])}


def poor_scale(random: np.random.Generator) -> Planted:
    columns = whole.ordinal(random)
    noise = random.normal(0, 2, len(columns["value"]))
    return Planted(columns | {"value": np.clip(np.round(columns["value"] + noise), 0, 4)}, {"alpha ordinal"})


def disputed(random: np.random.Generator) -> Planted:
    """All raters have all 200 items, eight of which split the panel in two."""
    columns = whole.binary(random, per_item=len(whole.RATERS))
    torn = columns["item_number"] < 8
    side = np.array([whole.RATERS.index(rater) for rater in columns["rater_id"]]) + columns["item_number"]
    value = np.where(torn, side % 2, columns["value"]).astype(float)
    return Planted(columns | {"value": value}, {f"item e000000:{step}" for step in range(8)})


def told(name: str, members: int) -> dict[str, Any]:
    return {
        "raters": [
            {"rater_id": rater, "groups": f"{{{name}={'a' if i < members else 'b'}}}"}
            for i, rater in enumerate(whole.RATERS)
        ]
    }


def of_group(columns: dict[str, Any], members: int) -> np.ndarray:
    return np.isin(columns["rater_id"], whole.RATERS[:members])


def lenient_group(random: np.random.Generator) -> Planted:
    """Eight of twenty raters say yes to four of five of what they find wrong."""
    columns = whole.binary(random)
    coin = random.random(len(columns["value"]))
    value = np.where(of_group(columns, 8) & (coin < 0.8), 1.0, columns["value"])
    return Planted(columns | {"value": value}, {"g=a", "g=b"}, told("g", 8))


def close_group(random: np.random.Generator) -> Planted:
    """Eight of twenty raters see three of ten items otherwise than the rest, and alike."""
    columns = whole.binary(random)
    theirs = of_group(columns, 8) & (columns["item_number"] % 10 < 3)
    return Planted(
        columns | {"value": np.where(theirs, 1 - columns["value"], columns["value"])}, {"g=a"}, told("g", 8)
    )


def turned_round(random: np.random.Generator) -> Planted:
    """A group of ten is the more lenient in both situations, and was mostly given the bad one."""
    columns = whole.binary(random)
    good = columns["action"][columns["item_number"]] > 0
    ours = of_group(columns, 10)
    kept = random.random(len(good)) < np.where(good == ours, 0.25, 1.0)
    chance = np.where(good, 0.75, 0.2) + np.where(ours, 0.15, 0.0)
    value = (random.random(len(good)) < chance).astype(float)
    action = (columns["action"] > 0).astype(int)
    columns = {
        key: [x for x, keep in zip(column, kept, strict=True) if keep]
        for key, column in (columns | {"value": value}).items()
        if key != "action"
    }
    columns |= {"item_number": np.array(columns["item_number"]), "action": action}
    return Planted(columns, {"g=a", "g=b"}, told("g", 10))


def always_yes(random: np.random.Generator) -> Planted:
    columns = whole.binary(random)
    return Planted(turned(columns, ONE, lambda value, _: value == value, random), {f"{ONE}:p"})


def undecidable(random: np.random.Generator) -> Planted:
    """Of a task that nobody can judge."""
    columns = whole.comparisons(random)
    tie = random.random(len(columns["value"])) < 0.98
    return Planted(columns | {"value": np.where(tie, 0.5, columns["value"])}, {"env=Sim-v0"})


def about_to_go(random: np.random.Generator) -> Planted:
    """Four raters who answer at random have withdrawn."""
    columns = whole.binary(random)
    for rater in whole.RATERS[:4]:
        columns = turned(columns, rater, lambda _, coin: coin < 0.5, random)
    gone = [withdrawn(rater) for rater in whole.RATERS[:4]]
    return Planted(columns, {"withdrawn"}, {"withdrawals": gone})


def withdrawn(rater: str) -> dict[str, Any]:
    return {"rater_id": rater, "purposes": "[training]", "withdrawn_at": "2026-03-07T00:00:00Z",
            "erase_by": "2026-03-08T00:00:00Z", "overdue": "true"}  # fmt: skip


def granted(**otherwise: Any) -> dict[str, Any]:
    """All raters' grants, the first rater's otherwise."""
    both = "[audit, training]"
    usual = {"state": "given", "purposes": both, "asked_purposes": both, "terms_sha256": "new",
             "given_at": "2026-03-01T00:00:00Z", "expires_at": "2027-03-01T00:00:00Z"}  # fmt: skip
    return {
        "grants": [
            usual | {"grant_id": f"g-{rater}", "rater_id": rater} | (otherwise if rater == ONE else {})
            for rater in whole.RATERS
        ]
    }


def late(random: np.random.Generator) -> Planted:
    """A grant that is younger than the answers, and than the policy."""
    return Planted(whole.binary(random), {ONE}, granted(given_at="2026-03-09T00:00:00Z"))


def old_terms(random: np.random.Generator) -> Planted:
    terms = [{"terms_sha256": "old", "version": 1, "newest": "false"},
             {"terms_sha256": "new", "version": 2, "newest": "true"}]  # fmt: skip
    return Planted(whole.binary(random), {ONE}, granted(terms_sha256="old") | {"terms": terms})


def overdue(random: np.random.Generator) -> Planted:
    return Planted(whole.binary(random), {ONE}, {"withdrawals": [withdrawn(ONE)]})


def come_back(random: np.random.Generator) -> Planted:
    erased = {"rater_id": "r-gone", "begun_at": "2026-03-02T00:00:00Z", "erased_at": "2026-03-02T00:00:00Z",
              "halted": "false"}  # fmt: skip
    return Planted(
        whole.binary(random), {"all"}, {"erasures": [erased], "returned": [{"kind": "key", "n": 1}]}
    )


def turned(
    columns: dict[str, Any],
    rater: str,
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray],
    random: np.random.Generator,
) -> dict[str, Any]:
    """Return the log with the rater's answers made of those they gave, and of a coin between 0 and 1."""
    own = np.array(columns["rater_id"]) == rater
    value = columns["value"].copy()
    value[own] = answer(value[own], random.random(int(own.sum())))
    return columns | {"value": value}


PLANTS: Mapping[str, Callable[[np.random.Generator], Planted]] = {
    "consent_validity": late,
    "use_without_consent": late,
    "pending_withdrawals": overdue,
    "erased_returned": come_back,
    "terms_changed": old_terms,
    "withdrawal_sensitivity": about_to_go,
    "agreement": lambda random: Planted(poor(random), {"alpha"}),
    "scaled_agreement": poor_scale,
    "bootstrap_agreement": lambda random: Planted(poor(random), {"alpha over items"}),
    "complete_block_agreement": lambda random: Planted(poor(random, len(whole.RATERS)), {"ICC(2,1)"}),
    "pairwise_kappa": by_chance,
    "marginal_homogeneity": lenient,
    "truth_inference": by_chance,
    "gold_accuracy": known_labels,
    "item_controversy": disputed,
    "tie_excess": undecidable,
    "group_bias": lenient_group,
    "group_cohesion": close_group,
    "simpson": turned_round,
    "policy_share": always_yes,
}
"""What each audit must find; those of single raters and of pairs are in the other sweeps."""


@pytest.mark.parametrize("audit", PLANTS)
def test_sweep_audits_recall(audit: str) -> None:
    hits = wanted = 0
    for seed in range(N_LOGS):
        random = np.random.default_rng(seed)
        planted = PLANTS[audit](random)
        ids = [audit] if audit != "policy_share" else ["constant_rater", audit]
        with whole.opened(random, planted.columns, **planted.tables) as connection:
            found = {row.subject: row for row in runner.run(connection, ids)[-1].rows}
        enough = {one for one in planted.wanted if one in found and found[one].note != "insufficient"}
        # A pair with too few differences is not judged; anything else must be there.
        judged = enough if audit == "marginal_homogeneity" else planted.wanted
        hits += sum(one in found and found[one].flagged for one in judged)
        wanted += len(judged)
    print(f"{audit}: recall {hits / wanted:.3f} of {wanted}")
    assert wanted >= N_LOGS and hits / wanted >= 0.95


def test_sweep_audits_of_every_audit() -> None:
    """Every audit of the catalogue has a plant that it must find, here or in the other sweeps."""
    known = {*PLANTS, *pairs.PAIRS, *(audit for audits in single.PLANTS.values() for audit in audits)}
    assert known == set(catalogue.READING_ORDER)
