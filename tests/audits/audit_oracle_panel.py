"""The panel's statistics the naive way: matrices of items and raters, in the words of their authors."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from audit_oracle import Expected, Z, around, by_item, last_ratings
from audit_oracle_truth import item_controversy, truth_inference
from scipy import stats

Rows = Sequence[Mapping[str, Any]]


def matrix(rows: Rows) -> tuple[np.ndarray, list[float]]:
    """Return items by raters, NaN where none was given, and the labels."""
    ratings = last_ratings(rows)
    raters = sorted({r.rater for r in ratings})
    items = by_item(ratings)
    x = np.full((len(items), len(raters)), np.nan)
    for i, group in enumerate(items.values()):
        for r in group:
            x[i, raters.index(r.rater)] = r.value
    return x, sorted({r.value for r in ratings})


def weights(kind: str, labels: list[float]) -> np.ndarray:
    """Gwet's weights, 1 on the diagonal."""
    q = len(labels)
    w = np.eye(q)
    for k in range(q):
        for j in range(q):
            if kind == "linear":
                w[k, j] = 1 - abs(labels[k] - labels[j]) / (labels[-1] - labels[0])
            elif kind == "quadratic":
                w[k, j] = 1 - (labels[k] - labels[j]) ** 2 / (labels[-1] - labels[0]) ** 2
            elif kind == "ordinal":
                w[k, j] = 1 - math.comb(abs(k - j) + 1, 2) / math.comb(q, 2)
            elif kind == "ratio" and labels[k] + labels[j] > 0:
                w[k, j] = 1 - ((labels[k] - labels[j]) / (labels[k] + labels[j])) ** 2
    return w


def gwet(x: np.ndarray, labels: list[float], w: np.ndarray) -> dict[str, tuple[float, float]]:
    """Value and standard error of each coefficient, as irrCAC's functions for raw ratings have them."""
    n, r = x.shape
    given = np.array([[(row == k).sum() for k in labels] for row in x], float)
    m = given.sum(axis=1)
    q, paired = len(labels), m >= 2
    weighted = (given * (given @ w - 1)).sum(axis=1)
    agreed = np.where(paired, weighted / np.where(paired, m * (m - 1), 1), 0.0)
    observed = agreed.sum() / paired.sum()
    share = (given / m[:, None]).mean(axis=0)
    found = {
        "percent": (
            observed,
            math.sqrt(((agreed[paired] - observed) ** 2).sum() / (paired.sum() * (paired.sum() - 1))),
        )
    }

    def of(name: str, chance: float, by_item_chance: np.ndarray) -> None:
        value = (observed - chance) / (1 - chance)
        linear = n / paired.sum() * (agreed - chance * paired) / (1 - chance)
        linear = linear - 2 * (1 - value) * (by_item_chance - chance) / (1 - chance)
        found[name] = value, math.sqrt(((linear - value) ** 2).sum() / (n * (n - 1)))

    of("Fleiss", share @ w @ share, given @ w @ share / m)
    t = w.sum() / (q * (q - 1))
    of("AC", t * (share * (1 - share)).sum(), t * (given @ (1 - share)) / m)
    of("Brennan-Prediger", w.sum() / q**2, np.full(n, w.sum() / q**2))
    if r > 1:
        of("Conger", *conger(x, labels, w))
    found["alpha"] = krippendorff(given[paired], w)
    return found


def conger(x: np.ndarray, labels: list[float], w: np.ndarray) -> tuple[float, np.ndarray]:
    n, r = x.shape
    seen = ~np.isnan(x)
    n_g = seen.sum(axis=0)
    p = np.array([[(x[:, g] == k).sum() / n_g[g] for k in labels] for g in range(r)])
    mean = p.mean(axis=0)
    covariance = (p.T @ p - r * np.outer(mean, mean)) / (r - 1)
    chance = (w * (np.outer(mean, mean) - covariance / r)).sum()
    by_item_chance = np.zeros(n)
    for k in range(len(labels)):
        inner = np.zeros((n, r))
        for j, label in enumerate(labels):
            inner += w[k, j] * ((x == label) - (seen - n_g / n) * p[:, j])
        by_item_chance += (inner * (n / n_g) * (r * mean[k] - p[:, k])).sum(axis=1)
    return float(chance), by_item_chance / (r * (r - 1))


def krippendorff(given: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    n, m = len(given), given.sum(axis=1)
    usual = m.mean()
    pairs = (given * (given @ w - 1)).sum(axis=1) / (usual * (m - 1))
    share = (given / usual).mean(axis=0)
    chance, observed = share @ w @ share, pairs.mean()
    corrected = observed * (1 - 1 / m.sum()) + 1 / m.sum()
    plain = (observed - chance) / (1 - chance)
    excess = (m - usual) / usual
    linear = (pairs - corrected * excess - chance) / (1 - chance)
    linear = linear - 2 * (1 - plain) * (given @ w @ share / usual - chance * excess - chance) / (1 - chance)
    return (corrected - chance) / (1 - chance), math.sqrt(((linear - plain) ** 2).sum() / (n * (n - 1)))


def capped(n: int, found: dict[str, tuple[float, float]]) -> dict[str, Expected]:
    rows = {name: around(n, *pair) for name, pair in found.items()}
    return {name: row._replace(upper=min(row.upper or 0.0, 1.0)) for name, row in rows.items()}


def agreement(rows: Rows) -> dict[str, Expected]:
    x, labels = matrix(rows) if rows else (np.zeros((0, 0)), [])
    n = int(((~np.isnan(x)).sum(axis=1) >= 2).sum())
    if n < 2:
        return {}
    if len(labels) == 1:
        return capped(n, {"percent": (1.0, 0.0)})
    found = gwet(x, labels, np.eye(len(labels)))
    return capped(n, {"AC1" if name == "AC" else name: pair for name, pair in found.items()})


def scaled_agreement(rows: Rows) -> dict[str, Expected]:
    x, labels = matrix(rows) if rows else (np.zeros((0, 0)), [])
    n = int(((~np.isnan(x)).sum(axis=1) >= 2).sum())
    if n < 2 or len(labels) < 3:
        return {}
    found = {}
    for kind in ("linear", "quadratic", "ordinal"):
        for name, pair in gwet(x, labels, weights(kind, labels)).items():
            if name == "alpha":
                found["alpha interval" if kind == "quadratic" else f"alpha {kind} weights"] = pair
            else:
                found[f"{'AC2' if name == 'AC' else name} {kind}"] = pair
    given = np.array([[(row == k).sum() for k in labels] for row in x], float)
    given = given[given.sum(axis=1) >= 2]
    if labels[0] >= 0:
        found["alpha ratio"] = krippendorff(given, weights("ratio", labels))
    n_k = given.sum(axis=0)
    between = [
        [(n_k[min(c, k) : max(c, k) + 1].sum() - (n_k[c] + n_k[k]) / 2) for k in range(len(labels))]
        for c in range(len(labels))
    ]
    found["alpha ordinal"] = krippendorff(
        given, 1 - (np.array(between) * (1 - np.eye(len(labels)))) ** 2 / n_k.sum() ** 2
    )
    if len(labels) > 20:
        found = {name: pair for name, pair in found.items() if name in ("alpha ordinal", "alpha interval")}
    return capped(n, found)


def bootstrap_agreement(rows: Rows) -> dict[str, Expected]:
    """The value; of the intervals see test_audit_panel."""
    x, labels = matrix(rows) if rows else (np.zeros((0, 0)), [])
    n = int(((~np.isnan(x)).sum(axis=1) >= 2).sum())
    if n < 1 or len({v for row in x if (~np.isnan(row)).sum() >= 2 for v in row[~np.isnan(row)]}) < 2:
        return {}
    found = scaled_agreement(rows) if len(labels) > 2 else agreement(rows)
    value = found[
        "alpha" if len(labels) == 2 else "alpha ordinal" if len(labels) <= 10 else "alpha interval"
    ].value
    return {
        f"alpha {over}": Expected(n, value, math.nan, math.nan, None)
        for over in ("over items", "over items and raters")
    }


def complete_block_agreement(rows: Rows) -> dict[str, Expected]:
    x = matrix(rows)[0] if rows else np.zeros((0, 0))
    x = x[~np.isnan(x).any(axis=1)]
    n, k = x.shape
    if n < 5 or k < 2 or len(set(x.flatten())) == 1:
        return {}
    grand = x.mean()
    bms = sum(k * (row.mean() - grand) ** 2 for row in x) / (n - 1)
    jms = sum(n * (column.mean() - grand) ** 2 for column in x.T) / (k - 1)
    wms = sum(((row - row.mean()) ** 2).sum() for row in x) / (n * (k - 1))
    ems = (wms * n * (k - 1) - jms * (k - 1)) / ((n - 1) * (k - 1))
    f = stats.f.ppf
    low1, high1 = bms / wms / f(0.975, n - 1, n * (k - 1)), bms / wms * f(0.975, n * (k - 1), n - 1)
    low3, high3 = (
        bms / ems / f(0.975, n - 1, (n - 1) * (k - 1)),
        bms / ems * f(0.975, (n - 1) * (k - 1), n - 1),
    )
    icc2 = (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)
    fj = jms / ems
    v = (
        (k - 1)
        * (n - 1)
        * (k * icc2 * fj + n * (1 + (k - 1) * icc2) - k * icc2) ** 2
        / ((n - 1) * k**2 * icc2**2 * fj**2 + (n * (1 + (k - 1) * icc2) - k * icc2) ** 2)
    )
    up, down = f(0.975, n - 1, v), f(0.975, v, n - 1)
    rest = k * jms + (k * n - k - n) * ems
    low2, high2 = (
        n * (bms - up * ems) / (up * rest + n * bms),
        n * (down * bms - ems) / (rest + n * down * bms),
    )
    ranks = np.array([stats.rankdata(column) for column in x.T]).T
    ties = sum(c**3 - c for column in x.T for c in Counter(column).values())
    w = 12 * ((ranks.sum(axis=1) - k * (n + 1) / 2) ** 2).sum() / (k**2 * (n**3 - n) - k * ties)
    a = n - 1 - 2 / k
    fw = (k - 1) * w / (1 - w)
    fl, fu = fw / f(0.975, a, (k - 1) * a), fw * f(0.975, (k - 1) * a, a)
    found = {
        "Kendall W": (w, fl / (fl + k - 1), fu / (fu + k - 1)),
        "ICC(1,1)": (
            (bms - wms) / (bms + (k - 1) * wms),
            (low1 - 1) / (low1 + k - 1),
            (high1 - 1) / (high1 + k - 1),
        ),
        "ICC(2,1)": (icc2, low2, high2),
        "ICC(3,1)": (
            (bms - ems) / (bms + (k - 1) * ems),
            (low3 - 1) / (low3 + k - 1),
            (high3 - 1) / (high3 + k - 1),
        ),
        "ICC(1,k)": ((bms - wms) / bms, 1 - 1 / low1, 1 - 1 / high1),
        "ICC(2,k)": (
            (bms - ems) / (bms + (jms - ems) / n),
            k * low2 / (1 + (k - 1) * low2),
            k * high2 / (1 + (k - 1) * high2),
        ),
        "ICC(3,k)": ((bms - ems) / bms, 1 - 1 / low3, 1 - 1 / high3),
    }
    return {name: Expected(n, *map(float, triple), None) for name, triple in found.items()}


def marginal_homogeneity(rows: Rows) -> dict[str, Expected]:
    given: dict[str, dict[str, float]] = defaultdict(dict)
    for rating in last_ratings(rows):
        given[rating.rater][rating.item] = rating.value
    labels = sorted({v for own in given.values() for v in own.values()})
    found = {}
    for a, b in combinations(sorted(given), 2):
        pairs = [(given[a][i], given[b][i]) for i in given[a] if i in given[b]]
        if not pairs:
            continue
        n = len(pairs)
        up, down = sum(x < y for x, y in pairs), sum(x > y for x, y in pairs)
        differ, bias = up + down, abs(up - down) / n
        half = Z * math.sqrt((differ / n - bias**2) / n)
        p = float(stats.chi2.sf((up - down) ** 2 / differ, 1)) if differ else 1.0
        found[f"{a}/{b}"] = Expected(differ, bias, max(bias - half, 0), min(bias + half, 1), p)
        if len(labels) < 3:
            continue
        count = Counter(pairs)
        d = {k: sum(x == k for x, _ in pairs) - sum(y == k for _, y in pairs) for k in labels}
        moved = [k for k in labels if any((x == k) != (y == k) for x, y in pairs)]
        v = np.array(
            [
                [
                    (sum((x == k) != (y == k) for x, y in pairs) if k == j else -(count[k, j] + count[j, k]))
                    for j in moved
                ]
                for k in moved
            ]
        )
        e = np.array([d[k] for k in moved])
        x2 = float(e[1:] @ np.linalg.solve(v[1:, 1:], e[1:])) if len(moved) > 1 else 0.0
        df = max(len(moved) - 1, 1)
        cells = [(count[k, j], count[j, k]) for k, j in combinations(labels, 2) if count[k, j] + count[j, k]]
        bowker = sum((s - t) ** 2 / (s + t) for s, t in cells)
        only = [(sum(x == k != y for x, y in pairs), sum(y == k != x for x, y in pairs)) for k in labels]
        margins, mirrored = largest(only, n), largest(cells, n)
        found[f"{a}/{b} Stuart-Maxwell"] = Expected(differ, *margins, float(stats.chi2.sf(x2, df)))
        bhapkar = x2 / (1 - x2 / n) if x2 < n else math.inf
        found[f"{a}/{b} Bhapkar"] = Expected(differ, *margins, float(stats.chi2.sf(bhapkar, df)))
        found[f"{a}/{b} Bowker"] = Expected(
            differ, *mirrored, float(stats.chi2.sf(bowker, max(len(cells), 1)))
        )
    return found


def largest(cells: list[tuple[int, int]], n: int) -> tuple[float, float, float]:
    """The largest difference of paired shares, and Bonferroni's ends of it."""
    cells = [(s, t) for s, t in cells if s + t]
    if not cells:
        return 0.0, 0.0, 0.0
    z = float(stats.norm.isf(0.025 / len(cells)))
    sizes = [abs(s - t) / n for s, t in cells]
    halves = [
        z * math.sqrt(max((s + t) / n - size**2, 0) / n) for (s, t), size in zip(cells, sizes, strict=True)
    ]
    ends = list(zip(sizes, halves, strict=True))
    return max(sizes), max(max(a - h, 0) for a, h in ends), max(min(a + h, 1) for a, h in ends)


def of_each_panel(oracle: Callable[[Rows], dict[str, Expected]]) -> Callable[[Rows], dict[str, Expected]]:
    """Ask it for ratings and comparisons, and for each objective, apart."""

    def asked(rows: Rows) -> dict[str, Expected]:
        panels: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            kind, objective = row.get("kind", "rating"), row.get("objective", "correct")
            words = [word for word, usual in ((kind, "rating"), (objective, "correct")) if word != usual]
            panels["".join([":", " ".join(words)]) if words else ""].append(in_order(row))
        return {f"{name}{suffix}": row for suffix, own in panels.items() for name, row in oracle(own).items()}

    return asked


def in_order(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a comparison with the lesser segment first; anything else as it is."""
    if row.get("kind") != "comparison":
        return row
    episode, _, step = row["item"].partition(":")
    first, second = sorted([(episode, int(step)), (row["other_episode_id"], int(row["other_step"]))])
    value = float(row["value"]) if first == (episode, int(step)) else 1 - float(row["value"])
    return {**row, "item": f"{first}/{second}", "value": value}


PANEL: dict[str, Callable[[Rows], dict[str, Expected]]] = {
    oracle.__name__: of_each_panel(oracle)
    for oracle in (
        agreement,
        scaled_agreement,
        bootstrap_agreement,
        complete_block_agreement,
        marginal_homogeneity,
        truth_inference,
        item_controversy,
    )
}
