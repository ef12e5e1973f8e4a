"""Each audit's statistic the naive way, in plain Python: what the SQL is held to."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Z = float(stats.norm.ppf(0.975))


class Expected(NamedTuple):
    """What an audit should say of one subject."""

    n: int
    value: float | None
    lower: float | None
    upper: float | None
    p: float | None


class Rating(NamedTuple):
    rater: str
    item: str
    value: float
    action: int | None
    latency_s: float


def last_ratings(rows: Sequence[Mapping[str, Any]]) -> list[Rating]:
    """Return the last rating of each rater of each item, in the rater's order."""
    found: dict[tuple[str, str], tuple[tuple[int, int], Rating]] = {}
    for index, row in enumerate(rows):
        order = (int(row.get("session_n", 1)), int(row.get("row", index)))
        action = None if row.get("action") is None else int(row["action"])
        rating = Rating(
            row["rater"], row["item"], float(row["value"]), action, float(row.get("latency_s", 1.0))
        )
        key = rating.rater, rating.item
        if key not in found or order > found[key][0]:
            found[key] = order, rating
    return [rating for _, rating in sorted(found.values(), key=lambda pair: pair[0])]


def by_item(ratings: list[Rating]) -> dict[str, list[Rating]]:
    items: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        items[rating.item].append(rating)
    return items


def with_peers(ratings: list[Rating]) -> dict[str, list[tuple[Rating, list[Rating]]]]:
    """Return, per rater and in order, each rating with those of the others, where there are any."""
    items = by_item(ratings)
    found: dict[str, list[tuple[Rating, list[Rating]]]] = {rating.rater: [] for rating in ratings}
    for rating in ratings:
        peers = [other for other in items[rating.item] if other.rater != rating.rater]
        if peers:
            found[rating.rater].append((rating, peers))
    return found


def residual(rating: Rating, peers: list[Rating]) -> float:
    return rating.value - mean(peer.value for peer in peers)


def around(n: int, value: float | None, se: float | None, p: float | None = None) -> Expected:
    if value is None or se is None:
        return Expected(n, value, None, None, p)
    return Expected(n, value, value - Z * se, value + Z * se, p)


def normal_p(value: float, se: float) -> float:
    if se == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.norm.sf(abs(value / se)))


def kappa(pairs: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Cohen's kappa and the standard error of Fleiss, Cohen and Everitt (1969), in their own three parts."""
    n = len(pairs)
    labels = sorted({label for pair in pairs for label in pair})
    p = {(i, j): sum(pair == (i, j) for pair in pairs) / n for i in labels for j in labels}
    row = {i: sum(p[i, j] for j in labels) for i in labels}
    column = {j: sum(p[i, j] for i in labels) for j in labels}
    observed, chance = sum(p[i, i] for i in labels), sum(row[i] * column[i] for i in labels)
    if len(labels) == 1:
        return None
    value = (observed - chance) / (1 - chance)
    same = sum(p[i, i] * (1 - (row[i] + column[i]) * (1 - value)) ** 2 for i in labels)
    apart = (1 - value) ** 2 * sum(
        p[i, j] * (column[i] + row[j]) ** 2 for i in labels for j in labels if i != j
    )
    variance = (same + apart - (value - chance * (1 - value)) ** 2) / (n * (1 - chance) ** 2)
    return value, math.sqrt(max(variance, 0.0))


def pairwise_kappa(rows: Sequence[Mapping[str, Any]], n_min: int = 20) -> dict[str, Expected]:
    given: dict[str, dict[str, float]] = defaultdict(dict)
    for rating in last_ratings(rows):
        given[rating.rater][rating.item] = rating.value
    found: dict[str, Expected] = {}
    sides: dict[str, list[tuple[int, float, float]]] = {rater: [] for rater in given}
    errors = []
    for a in sorted(given):
        for b in sorted(given):
            shared = sorted(set(given[a]) & set(given[b]))
            if a >= b or not shared:
                continue
            pair = kappa([(given[a][item], given[b][item]) for item in shared])
            found[f"{a}/{b}"] = around(len(shared), *(pair or (None, None)))
            if pair and len(shared) >= n_min:
                errors.append(pair[1])
                for rater in (a, b):
                    sides[rater].append((len(shared), *pair))
    medians = {rater: median(k for _, k, _ in own) for rater, own in sides.items() if own}
    for rater, own in sides.items():
        if rater not in medians:
            found[rater] = Expected(0, None, None, None, None)
            continue
        own_se = median(se for *_, se in own)
        p = normal_p(medians[rater] - median(medians.values()), max(own_se, median(errors)))
        found[rater] = around(sum(n for n, *_ in own), medians[rater], own_se, p)
    return {
        name: row._replace(upper=None if row.upper is None else min(row.upper, 1.0))
        for name, row in found.items()
    }


def severity(rows: Sequence[Mapping[str, Any]]) -> dict[str, Expected]:
    found = {}
    for rater, own in with_peers(last_ratings(rows)).items():
        e = [residual(rating, peers) for rating, peers in own]
        if len(e) < 2:
            continue
        se = stdev(e) / math.sqrt(len(e))
        found[rater] = around(len(e), mean(e), se, normal_p(mean(e), se))
    return found


def wilson(k: int, n: int) -> tuple[float, float]:
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def constant_rater(rows: Sequence[Mapping[str, Any]]) -> dict[str, Expected]:
    ratings = last_ratings(rows)
    found = {}
    for rater in {rating.rater for rating in ratings}:
        own = Counter(rating.value for rating in ratings if rating.rater == rater)
        others = Counter(rating.value for rating in ratings if rating.rater != rater)
        n, k = own.total(), max(own.values())
        label = min((c for c in own if own[c] == k), key=lambda c: (others[c], c))
        p = float(stats.binomtest(k, n, others[label] / others.total()).pvalue) if others else None
        found[rater] = Expected(n, k / n, *wilson(k, n), p)
    return found


def action_bias(rows: Sequence[Mapping[str, Any]]) -> dict[str, Expected]:
    found = {}
    shared = with_peers(last_ratings(rows))
    actions = {rating.action for own in shared.values() for rating, _ in own}
    for rater, own in shared.items():
        for action in actions:
            here = [residual(rating, peers) for rating, peers in own if rating.action == action]
            rest = [residual(rating, peers) for rating, peers in own if rating.action != action]
            if min(len(here), len(rest)) < 2:
                continue
            se = math.sqrt(stdev(here) ** 2 / len(here) + stdev(rest) ** 2 / len(rest))
            difference = mean(here) - mean(rest)
            found[f"{rater}:{action}"] = around(len(here), difference, se, normal_p(difference, se))
    return found


def drift(rows: Sequence[Mapping[str, Any]]) -> dict[str, Expected]:
    found = {}
    for rater, own in with_peers(last_ratings(rows)).items():
        e = [residual(rating, peers) for rating, peers in own]
        if len(e) < 3 or len(set(e)) == 1:
            continue
        line = stats.linregress(np.arange(len(e)), e)
        span = len(e) - 1
        found[rater] = around(len(e), line.slope * span, line.stderr * span, float(line.pvalue))
    return found


def too_fast(rows: Sequence[Mapping[str, Any]], n_min: int = 30) -> dict[str, Expected]:
    counts: dict[str, tuple[int, int]] = {}
    for rater, own in with_peers(last_ratings(rows)).items():
        fast = [r.latency_s < min(2.0, 0.1 * median(peer.latency_s for peer in peers)) for r, peers in own]
        counts[rater] = sum(fast), len(fast)
    usual = [k / n for k, n in counts.values() if n >= n_min]
    found = {}
    for rater, (k, n) in counts.items():
        if n:
            share = max(median(usual) if usual else 0.0, 0.01)
            found[rater] = Expected(n, k / n, *wilson(k, n), float(stats.binomtest(k, n, share).pvalue))
    return found


ORACLES: dict[str, Callable[[Sequence[Mapping[str, Any]]], dict[str, Expected]]] = {
    "pairwise_kappa": pairwise_kappa,
    "severity": severity,
    "constant_rater": constant_rater,
    "action_bias": action_bias,
    "drift": drift,
    "too_fast": too_fast,
}
from audit_oracle_raters import RATERS  # noqa: E402  (it uses what is above)

ORACLES |= RATERS
"""The two audits of consent are judged by their case folders alone: they count, they do not estimate."""

from audit_oracle_panel import PANEL, of_each_kind  # noqa: E402  (it uses what is above)

ORACLES |= PANEL
ORACLES |= {
    name: of_each_kind(ORACLES[name]) for name in ("random_rater", "too_fast", "fatigue", "fatigue_onset")
}
