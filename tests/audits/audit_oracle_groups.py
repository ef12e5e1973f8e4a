"""The audits of groups the naive way: pairs and loops, on the draws that the audits make."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, variance
from typing import Any

import audit_oracle
import audit_oracle_gold
import audit_oracle_pairs
import audit_panel
import numpy as np
from audit_oracle import Expected
from scipy import stats

from rlhf_audit.canonical import sha256_hex
from rlhf_audit.seeds import generator

Groups = Mapping[str, Mapping[str, str]]
NOBODY = {"all": Expected(0, None, None, None, None)}


def told(case: Path) -> Groups:
    path = case / "raters.csv"
    if not path.exists():
        return {}
    rows = audit_panel.read_csv(path)
    return {
        row["rater_id"]: dict(pair.split("=") for pair in row["groups"].strip("{}").split(", ") if pair)
        for row in rows
    }


def shown(groups: Groups, panel: set[str]) -> dict[str, set[str]]:
    """Groups of 5 or more such that neither those nor what remains tell of fewer."""
    found: dict[str, set[str]] = {}
    for name in {name for own in groups.values() for name in own}:
        members: dict[str, set[str]] = defaultdict(set)
        for rater in panel:
            if name in groups.get(rater, {}):
                members[groups[rater][name]].add(rater)
        large = {value: who for value, who in members.items() if len(who) >= 5}
        if 1 <= len(panel) - sum(map(len, large.values())) <= 4 and large:
            del large[min(large, key=lambda value: (len(large[value]), value))]
        found |= {f"{name}={value}": who for value, who in large.items() if len(panel - who) >= 5}
    return found


def hundredth(expected: Expected) -> Expected:
    rounded = {
        name: None if (number := getattr(expected, name)) is None else round(number, 2)
        for name in ("value", "lower", "upper")
    }
    return expected._replace(**rounded)


def group_bias(case: Path) -> dict[str, Expected]:
    rows = audit_oracle.last_ratings(audit_panel.read_csv(case / "given.csv"))
    bias = {
        rater: mean(audit_oracle.residual(*pair) for pair in own)
        for rater, own in audit_oracle.with_peers(rows).items()
        if own
    }
    found = {}
    for group, who in shown(told(case), set(bias)).items():
        inside = [bias[rater] for rater in bias if rater in who]
        outside = [bias[rater] for rater in bias if rater not in who]
        n, m = len(inside), len(outside)
        value = mean(inside) - mean(outside)
        se = math.sqrt(variance(inside) / n + variance(outside) / m)
        df = se**4 / ((variance(inside) / n) ** 2 / (n - 1) + (variance(outside) / m) ** 2 / (m - 1))
        half = float(stats.t.ppf(0.975, df)) * se
        p = permuted(np.array(sorted(bias.values())), n, value)
        found[group] = hundredth(Expected(n, value, value - half, value + half, p))
    return found or NOBODY


def permuted(means: np.ndarray, n: int, value: float) -> float:
    draws = generator(0, "group difference", sha256_hex((np.round(means, 9) + 0.0).tobytes()), n)
    beyond = 0
    for _ in range(8):
        for row in draws.permuted(np.tile(means, (250, 1)), axis=1):
            beyond += abs(mean(row[:n]) - mean(row[n:])) >= abs(value) - 1e-9
    return float(1 + beyond) / 2001


def squared(a: float, b: float) -> float:
    return (a - b) ** 2


def in_group(items: list[list[float]]) -> float:
    paired = [values for values in items if len(values) >= 2]
    everything = [x for values in paired for x in values]
    n = len(everything)
    observed = sum(
        squared(a, b) / (len(values) - 1) for values in paired for a, b in itertools.permutations(values, 2)
    )
    expected = sum(squared(a, b) for a, b in itertools.permutations(everything, 2))
    return 1 - (observed / n) / (expected / (n * (n - 1)))


def across(pairs: list[tuple[list[float], list[float]]]) -> float:
    shared = [(x, y) for x, y in pairs if x and y]
    n_x, n_y = sum(len(x) for x, _ in shared), sum(len(y) for _, y in shared)
    observed = sum(
        squared(a, b) * (len(x) + len(y)) / (len(x) * len(y)) for x, y in shared for a in x for b in y
    )
    expected = sum(squared(a, b) for x, _ in shared for _, y in shared for a in x for b in y)
    return 1 - (observed / (n_x + n_y)) / (expected / (n_x * n_y))


def group_cohesion(case: Path) -> dict[str, Expected]:
    """The value alone: the band is the same statistic of other groups, see test_audit_groups.py."""
    rows = audit_oracle.last_ratings(audit_panel.read_csv(case / "given.csv"))
    items = [own for own in audit_oracle.by_item(rows).values() if len(own) >= 2]
    panel = {rating.rater for own in items for rating in own}
    found = {}
    for group, who in shown(told(case), panel).items():
        split = [
            ([r.value for r in own if r.rater in who], [r.value for r in own if r.rater not in who])
            for own in items
        ]
        n, reference = sum(bool(x and y) for x, y in split), across(split)
        value = round(in_group([x for x, _ in split]) / reference, 2) if reference >= 0.05 else None
        band = None if value is None else math.nan
        found[group] = Expected(n, value, band, band, band)
    return found or NOBODY


def simpson(case: Path) -> dict[str, Expected]:
    rows = audit_oracle.last_ratings(audit_panel.read_csv(case / "given.csv"))
    found = {}
    for group, who in shown(told(case), {rating.rater for rating in rows}).items():
        sides = [[r for r in rows if (r.rater in who) is inside] for inside in (True, False)]
        parts = [over_raters(side) for side in sides]
        se = math.sqrt(sum(part for part, _ in parts))
        freedom = se**4 / sum(part**2 / (n - 1) for part, n in parts) if se else 1.0
        value = mean(r.value for r in sides[0]) - mean(r.value for r in sides[1])
        half = float(stats.t.ppf(0.975, freedom)) * se
        row = Expected(len(sides[0]), value, value - half, value + half, None)
        found[group] = hundredth(row)
    return found or NOBODY


def over_raters(rows: list[audit_oracle.Rating]) -> tuple[float, int]:
    """Return the variance of a mean of labels where whole raters are drawn, and how many there are."""
    middle, raters = mean(r.value for r in rows), {r.rater for r in rows}
    sums = [sum(r.value - middle for r in rows if r.rater == rater) for rater in raters]
    return sum(x * x for x in sums) / len(rows) ** 2 * len(raters) / (len(raters) - 1), len(raters)


def reversals(case: Path) -> dict[str, tuple[int, int]]:
    """How many situations turn a group's difference round, of how many."""
    rows = audit_oracle.last_ratings(audit_panel.read_csv(case / "given.csv"))
    found = {}
    for group, who in shown(told(case), {rating.rater for rating in rows}).items():

        def gap(own: list[audit_oracle.Rating], who: set[str] = who) -> tuple[int, float]:
            sides = [[r.value for r in own if (r.rater in who) is inside] for inside in (True, False)]
            return min(map(len, sides)), mean(sides[0] or [0]) - mean(sides[1] or [0])

        overall = gap(rows)[1]
        gaps = [gap([r for r in rows if r.action == action]) for action in {r.action for r in rows}]
        large = [difference for n, difference in gaps if n >= 30 and difference]
        found[group] = sum(d * overall < 0 for d in large), len(large)
    return found


def withdrawal_sensitivity(case: Path) -> dict[str, Expected]:
    rows = audit_oracle.last_ratings(audit_panel.read_csv(case / "given.csv"))
    paired = [r for own in audit_oracle.by_item(rows).values() if len(own) >= 2 for r in own]
    path = case / "withdrawals.csv"
    withdrawals = audit_panel.read_csv(path) if path.exists() else []
    gone = {row["rater_id"] for row in withdrawals if "erased_at" not in row}

    def alpha(without: set[str]) -> float | None:
        left = [r for r in paired if r.rater not in without]
        items = [[r.value for r in own] for own in audit_oracle.by_item(left).values() if len(own) >= 2]
        labels = {value for own in items for value in own}
        return 1 - apart(items) if len(labels) > 1 else None

    whole = alpha(set())
    found = {}
    for subject, without in [*((r, {r}) for r in {r.rater for r in paired}), ("withdrawn", gone)]:
        n, left = sum(r.rater in without for r in paired), alpha(without)
        if n and whole is not None:
            half = alpha_half(paired)
            value = None if left is None else left - whole
            found[subject] = Expected(n, value, -half, half, None)
    return found


def apart(items: list[list[float]]) -> float:
    """Disagreement as a share of what chance gives: 1 - Krippendorff's nominal alpha, pair by pair."""
    n = sum(map(len, items))
    observed = (
        sum(sum(a != b for a, b in itertools.permutations(own, 2)) / (len(own) - 1) for own in items) / n
    )
    every = [value for own in items for value in own]
    return observed * n * (n - 1) / sum(a != b for a, b in itertools.permutations(every, 2))


def alpha_half(paired: list[audit_oracle.Rating]) -> float:
    items = [[r.value for r in own] for own in audit_oracle.by_item(paired).values()]
    apart = [sum(a != b for a, b in itertools.permutations(own, 2)) / (len(own) - 1) for own in items]
    n = sum(map(len, items))
    observed = sum(apart) / n
    every = [value for own in items for value in own]
    chance = sum(a != b for a, b in itertools.permutations(every, 2)) / (n * (n - 1))
    squares = sum((d - observed * len(own)) ** 2 for d, own in zip(apart, items, strict=True))
    return audit_oracle.Z * math.sqrt(squares) / n / chance


def policy_share(case: Path) -> dict[str, Expected]:
    standing = [grant for grant in rows_of(case, "grants") if grant["state"] == "given"]
    named = {grant["rater_id"] for grant in standing if "audit" in grant["purposes"]}
    rows, found = rows_of(case, "policy_rows"), dict[str, Expected]()
    for row in rows:
        n = sum(int(other["rows"]) for other in rows if other["path"] == row["path"])
        subject = f"{row['rater_id'] if row['rater_id'] in named else 'unnamed'}:{row['name']}"
        before = found[subject].value if subject in found else 0.0
        found[subject] = Expected(n, (before or 0.0) + int(row["rows"]) / n, None, None, None)
    return found


def rows_of(case: Path, name: str) -> list[dict[str, Any]]:
    return audit_panel.read_csv(case / f"{name}.csv") if (case / f"{name}.csv").exists() else []


def texts(row: dict[str, Any], name: str) -> list[str]:
    return [text for text in row.get(name, "").strip("[]").split(", ") if text]


def use_without_consent(case: Path) -> dict[str, Expected]:
    made = [
        (r, "training", row["trained_at"])
        for row in rows_of(case, "policies")
        for r in texts(row, "rater_ids")
    ]
    reported = [
        (r, "audit", row["made_at"]) for row in rows_of(case, "reports") for r in texts(row, "rater_ids")
    ]
    made += [
        (r, row["purpose"], row["made_at"])
        for row in rows_of(case, "exports")
        for r in texts(row, "rater_ids")
    ]
    gone = {row["rater_id"] for row in rows_of(case, "erasures")}

    def lawful(rater: str, purpose: str, at: str) -> bool:
        return any(
            grant["rater_id"] == rater
            and purpose in texts(grant, "asked_purposes")
            and grant["state"] not in ("refused", "invalidated")
            and grant["given_at"] <= at < grant["expires_at"]
            and not any(
                w["rater_id"] == rater
                and purpose in texts(w, "purposes")
                and grant["given_at"] <= w["withdrawn_at"] < at
                for w in rows_of(case, "withdrawals")
            )
            for grant in rows_of(case, "grants")
        )

    found = {}
    made += [thing for thing in reported if not lawful(*thing)]
    for rater in {rater for rater, *_ in made} - gone:
        own = [thing for thing in made if thing[0] == rater]
        found[rater] = Expected(len(own), float(sum(not lawful(*thing) for thing in own)), None, None, None)
    return found


def terms_changed(case: Path) -> dict[str, Expected]:
    newest = {row["terms_sha256"] for row in rows_of(case, "terms") if row["newest"] == "true"}
    standing = [grant for grant in rows_of(case, "grants") if grant["state"] == "given"] if newest else []
    found = {}
    for rater in {grant["rater_id"] for grant in standing}:
        own = [grant["terms_sha256"] not in newest for grant in standing if grant["rater_id"] == rater]
        found[rater] = Expected(len(own), float(sum(own)), None, None, None)
    return found


def erased_returned(case: Path) -> dict[str, Expected]:
    gone = {row["rater_id"]: row["erased_at"] for row in rows_of(case, "erasures") if "erased_at" in row}
    back = sum(int(row["n"]) for row in rows_of(case, "returned"))
    for name, column in (("policies", "trained_at"), ("reports", "made_at"), ("exports", "made_at")):
        for row in rows_of(case, name):
            if name == "exports" or row["state"] == "current":
                back += sum(r in gone and row[column] > gone[r] for r in texts(row, "rater_ids"))
    return {"all": Expected(len(gone), float(back), None, None, None)} if gone or back else {}


def on_ratings(oracle: Callable[[Any], dict[str, Expected]]) -> Callable[[Path], dict[str, Expected]]:
    return lambda case: oracle(audit_panel.read_csv(case / "given.csv"))


CASE_ORACLES: dict[str, Callable[[Path], dict[str, Expected]]] = {
    "copying": on_ratings(audit_oracle_pairs.copying),
    "duplicate_raters": on_ratings(audit_oracle_pairs.duplicate_raters),
    "intra_rater": on_ratings(audit_oracle_pairs.intra_rater),
    "gold_accuracy": audit_oracle_gold.gold_accuracy,
    "policy_share": policy_share,
    "use_without_consent": use_without_consent,
    "terms_changed": terms_changed,
    "erased_returned": erased_returned,
    "withdrawal_sensitivity": withdrawal_sensitivity,
    "group_bias": group_bias,
    "group_cohesion": group_cohesion,
    "simpson": simpson,
}
"""By audit, given a case folder: those of groups read more than the ratings."""
