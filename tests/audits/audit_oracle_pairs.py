"""The audits of pairs of raters the naive way: loops over items, labels and pairs.

What Dawid and Skene's model says of the panel is taken as given: it has an oracle of its own.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import audit_oracle
import numpy as np
from audit_oracle import Expected
from scipy import stats

from rlhf_audit.estimators import copying as pairs
from rlhf_audit.estimators import dawid_skene

Rows = Sequence[Mapping[str, Any]]
Z = audit_oracle.Z


def classes(values: list[float]) -> dict[float, int]:
    labels = sorted(set(values))
    if len(labels) <= 10:
        return {label: code for code, label in enumerate(labels)}
    edges = [float(np.quantile(values, share)) for share in (0.2, 0.4, 0.6, 0.8)]
    return {label: sum(label >= edge for edge in edges) for label in labels}


def confusion(prior: list[list[float]], given: list[int], k: int) -> list[list[float]]:
    overall = [given.count(label) / len(given) for label in range(k)]

    def smoothed(weights: list[list[float]]) -> list[list[float]]:
        counts = [
            [sum(w[t] for w, x in zip(weights, given, strict=True) if x == label) + overall[label]
             for label in range(k)]
            for t in range(k)
        ]  # fmt: skip
        return [[c / sum(row) for c in row] for row in counts]

    found = smoothed(prior)
    for _ in range(20):
        weights = []
        for p, x in zip(prior, given, strict=True):
            raw = [p[t] * found[t][x] for t in range(k)]
            weights.append([r / sum(raw) for r in raw])
        found = smoothed(weights)
    return found


def copying(rows: Rows, n_min: int = 20) -> dict[str, Expected]:
    ratings = [
        r for r, own in ((r, own) for own in audit_oracle.by_item(audit_oracle.last_ratings(rows)).values()
                         for r in own) if len(own) >= 2
    ]  # fmt: skip
    codes = classes([r.value for r in ratings])
    given: dict[str, dict[str, int]] = defaultdict(dict)
    for r in ratings:
        given[r.rater][r.item] = codes[r.value]
    if not given:
        return {"all": Expected(0, None, None, None, None)}
    k = max(codes.values()) + 1
    found: dict[tuple[str, str], Expected] = {}
    echoes: set[str] = set()
    for _ in range(4):
        now = judged({rater: own for rater, own in given.items() if rater not in echoes}, k, n_min)
        found |= now
        more = more_echoes(found, given, n_min, echoes)
        if not more:
            break
        echoes |= more
    for (a, b), expected in list(found.items()):
        if given[a] == given[b] and expected.value is not None and (a in echoes) != (b in echoes):
            echo, other = (a, b) if a in echoes else (b, a)
            for rater in set(given) - {a, b}:
                source = tuple(sorted((other, rater)))
                if source in found:
                    found[tuple(sorted((echo, rater)))] = found[source]
    named = {"/".join(who): expected for who, expected in found.items()}
    return named or {"all": Expected(0, None, None, None, None)}


def shares(given: dict[str, dict[str, int]], n_min: int) -> dict[tuple[str, str], float]:
    alike = {}
    for a, b in itertools.combinations(sorted(given), 2):
        shared = set(given[a]) & set(given[b])
        if len(shared) >= n_min:
            alike[a, b] = sum(given[a][i] == given[b][i] for i in shared) / len(shared)
    return alike


def more_echoes(found: Any, given: Any, n_min: int, echoes: set[str]) -> set[str]:
    alike, taken, more = shares(given, n_min), set(echoes), set()
    usual = {r: median([s for who, s in alike.items() if r in who] or [math.inf]) for r in given}
    for (a, b), expected in sorted(found.items(), key=lambda pair: pair[1].p):
        if expected.p * len(found) > (1e-6 if more else 0.05):
            break
        if expected.value >= 0.15 and not {a, b} & taken:
            more.add(a if usual[a] < usual[b] else b)
            taken |= {a, b}
    return more


def judged(given: dict[str, dict[str, int]], k: int, n_min: int) -> dict[tuple[str, str], Expected]:
    raters, items = sorted(given), sorted({item for own in given.values() for item in own})
    rows = [(items.index(i), raters.index(r), x) for r, own in given.items() for i, x in own.items()]
    fit = dawid_skene.fit(*zip(*rows, strict=True), len(items), len(raters), k, 100)
    alike = shares(given, n_min)
    usual = {r: median([s for who, s in alike.items() if r in who] or [math.inf]) for r in raters}
    known = Model(fit, raters, items, given, k)
    return {who: pair(known, who, s - max(usual[who[0]], usual[who[1]])) for who, s in alike.items()}


class Model(NamedTuple):
    fit: dawid_skene.Fit
    raters: list[str]
    items: list[str]
    given: dict[str, dict[str, int]]
    k: int

    def says(self, rater: str, truth: int, item: str) -> float:
        return max(self.fit.confusion[self.raters.index(rater)][truth][self.given[rater][item]], 1e-12)


def pair(known: Model, who: tuple[str, str], beyond: float) -> Expected:
    a, b = who
    given, k = known.given, known.k
    shared = sorted(set(given[a]) & set(given[b]))
    x, y = [given[a][i] for i in shared], [given[b][i] for i in shared]
    n = len(x)
    agreed = sum(p == q for p, q in zip(x, y, strict=True)) / n
    one, other = (known.fit.confusion[known.raters.index(rater)] for rater in who)
    truth = [known.fit.truth[known.items.index(i)] for i in shared]
    whole = (
        sum(t[c] * one[c][label] * other[c][label] for t in truth for c in range(k) for label in range(k)) / n
    )
    se = math.sqrt(max(whole * (1 - whole), 1e-12) / n)
    if max(agreed - whole, beyond) < max(pairs.LOOKED_AT, 2 * se):
        return row(n, agreed - whole, se)
    prior = []
    for item in shared:
        others = [rater for rater in known.raters if rater not in who and item in given[rater]]
        raw = [
            known.fit.prevalence[c] * math.prod(known.says(rater, c, item) for rater in others)
            for c in range(k)
        ]
        prior.append([r / sum(raw) for r in raw])
    first, second = confusion(prior, x, k), confusion(prior, y, k)
    meet = [sum(first[c][label] * second[c][label] for label in range(k)) for c in range(k)]
    expected = [sum(p[c] * meet[c] for c in range(k)) for p in prior]
    hard = by_difficulty(x, y, shared, given, who, k)
    if sum(hard) > sum(expected):
        expected = hard
    expected = [min(max(e, 1e-6), 1 - 1e-6) for e in expected]
    se = math.sqrt(sum(e * (1 - e) for e in expected)) / n
    return row(n, agreed - sum(expected) / n, se)


def by_difficulty(x: Any, y: Any, shared: Any, given: Any, who: Any, k: int) -> list[float]:
    kinds: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for number, item in enumerate(shared):
        others = Counter(own[item] for rater, own in given.items() if rater not in who and item in own)
        share = [others[label] / max(others.total(), 1) for label in range(k)]
        kinds[share.index(max(share))].append((max(share), number))
    strata: dict[tuple[int, int], list[int]] = defaultdict(list)
    for label, own in kinds.items():
        parts = max(1, min(4, len(own) // 8))
        edges = [float(np.quantile([most for most, _ in own], part / parts)) for part in range(1, parts)]
        for most, number in own:
            strata[label, sum(edge <= most for edge in edges)].append(number)
    found = [0.0] * len(x)
    for numbers in strata.values():
        of_x, of_y = Counter(x[i] for i in numbers), Counter(y[i] for i in numbers)
        for i in numbers:
            found[i] = sum(of_x[label] * of_y[label] for label in range(k)) / len(numbers) ** 2
    return found


def row(n: int, excess: float, se: float) -> Expected:
    p = float(stats.norm.sf(excess / se))
    return Expected(n, excess, max(excess - Z * se, -1.0), min(excess + Z * se, 1.0), p)


def duplicate_raters(rows: Rows) -> dict[str, Expected]:
    latest = audit_oracle.last_ratings(rows)
    sets = {
        rater: {(r.item, r.value, r.latency_s) for r in latest if r.rater == rater}
        for rater in sorted({r.rater for r in latest})
    }
    times = Counter(r.latency_s for r in latest)
    n = times.total()
    chance = sum(c * (c - 1) for c in times.values()) / (n * (n - 1)) if n > 1 else 1.0
    common = Counter(mark for own in sets.values() for mark in own)
    found = {}
    for a in sets:
        answers = [(r["item"], float(r["value"]), float(r["latency_s"])) for r in rows if r["rater"] == a]
        share = (len(answers) - len(set(answers))) / len(answers)
        found[a] = Expected(len(answers), share if chance <= 0.05 else None, None, None, None)
        for b in sets:
            same = sum(common[mark] <= 5 for mark in sets[a] & sets[b])
            either = len(sets[a]) + len(sets[b]) - same
            if a < b and same / either >= 0.5:
                found[f"{a}/{b}"] = Expected(
                    either, same / either if chance <= 0.05 else None, None, None, None
                )
    return found


def weighted_kappa(own: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Return kappa by squared distances, and its error by what leaving mass on each pair does to it."""
    x, y = np.array(own).T

    def value(weight: np.ndarray) -> float:
        chance = np.outer(weight, weight) * (x[:, None] - y) ** 2
        return 1 - (weight * (x - y) ** 2).sum() / chance.sum() if chance.sum() > 0 else math.nan

    n, step = len(x), 1e-6
    even = np.full(n, 1 / n)
    if math.isnan(value(even)):
        return None
    moved = [
        (value((1 - step) * even + step * one) - value((1 + step) * even - step * one)) / (2 * step)
        for one in np.eye(n)
    ]
    se = math.sqrt((np.array(moved) ** 2).sum()) / n
    return float(value(even)), se if se > 1e-9 else 0.0


def intra_rater(rows: Rows) -> dict[str, Expected]:
    answers: dict[tuple[str, Any], list[tuple[int, int, float]]] = defaultdict(list)
    for number, given in enumerate(rows):
        thing, value = given["item"], float(given["value"])
        if given.get("kind") == "comparison":
            other = f"{given['other_episode_id']}:{given['other_step']}"
            value = value if thing < other else 1 - value
            thing = tuple(sorted((thing, other)))
        answers[given["rater"], thing].append((int(given["session_n"]), number, value))
    pairs_of: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (rater, _), own in answers.items():
        in_order = [value for *_, value in sorted(own)]
        pairs_of[rater] += itertools.pairwise(in_order)
    found = {}
    for rater, own in pairs_of.items():
        if not own:
            continue
        kappa = weighted_kappa(own)
        if kappa is None:
            found[rater] = Expected(len(own), None, None, None, None)
            continue
        value, se = kappa
        p = audit_oracle.normal_p(value - 0.6, se) if se else (0.0 if value < 0.6 else 1.0)
        ends = value, value
        if abs(value) < 0.999999:
            ends = tuple(math.tanh(math.atanh(value) + s * Z * se / (1 - value**2)) for s in (-1, 1))
        found[rater] = Expected(len(own), value, *ends, p)
    return found
