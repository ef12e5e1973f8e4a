"""The naive statistics of single raters: see audit_oracle. NaN where a number is left to other tests."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, groupby, pairwise
from statistics import mean, median, stdev
from typing import Any

import audit_oracle as base
import audit_oracle_rasch as rasch
import numpy as np
from audit_oracle_rasch import answers
from scipy import optimize, stats

Rows = Sequence[Mapping[str, Any]]
NAN = math.nan


def falling(n: int, k: int) -> int:
    return math.perm(n, k) if n >= k else 0


def straight_lining(rows: Rows, n_min: int = 50) -> dict[str, base.Expected]:
    moments: dict[str, tuple[int, float, float]] = {}
    for rater, own in answers(rows).items():
        values = [one["value"] for one in own]
        n, counts = len(values), list(Counter(values).values())
        if len(counts) < 2:
            continue
        same = sum(falling(c, 2) for c in counts) / falling(n, 2)
        three = sum(falling(c, 3) for c in counts) / max(falling(n, 3), 1)
        twice = sum(falling(c, 4) for c in counts)
        twice += sum(falling(a, 2) * falling(b, 2) for a in counts for b in counts) - sum(
            falling(c, 2) ** 2 for c in counts
        )
        apart = 1 - 2 * same + twice / max(falling(n, 4), 1)
        q = 1 - same
        variance = (n - 1) * q * (1 - q) + 2 * (n - 2) * (1 - 2 * same + three - q * q)
        variance += (n - 2) * (n - 3) * (apart - q * q)
        expected = 1 + (n - 1) * q
        runs = sum(1 for _ in groupby(values))
        moments[rater] = n, runs / expected, math.sqrt(variance) / expected
    judged = [ratio for n, ratio, _ in moments.values() if n >= n_min]
    middle = min(median(judged), 1) if judged else NAN
    return {
        rater: base.around(n, ratio, se, base.normal_p(ratio - middle, se))
        for rater, (n, ratio, se) in moments.items()
    }


def central_tendency(rows: Rows, n_min: int = 30) -> dict[str, base.Expected]:
    values = {rater: [one["value"] for one in own] for rater, own in answers(rows).items()}
    if len({value for own in values.values() for value in own}) < 3:
        return {}
    logs = {r: math.log(np.var(own, ddof=1)) for r, own in values.items() if len(set(own)) > 1}
    judged = [value for rater, value in logs.items() if len(values[rater]) >= n_min]
    found = {}
    for rater, own in values.items():
        n = len(own)
        if rater not in logs or not judged:
            found[rater] = base.Expected(n, None, None, None, None)
            continue
        ratio = logs[rater] - median(judged)
        kurtosis = float(stats.kurtosis(own, fisher=False))
        se = math.sqrt(max(kurtosis - (n - 3) / (n - 1), 0) / n)
        ends = math.exp(ratio - base.Z * se), math.exp(ratio + base.Z * se)
        found[rater] = base.Expected(n, math.exp(ratio), *ends, base.normal_p(ratio, se))
    return found


def fatigue(rows: Rows) -> dict[str, base.Expected]:
    found = {}
    for rater, own in answers(rows).items():
        shared = [one for one in own if "e" in one]
        if len(shared) > 2:
            t, y = [one["t"] for one in shared], [abs(one["e"]) for one in shared]
            line, n, span, usual = stats.linregress(t, y), len(t), max(t) - min(t), mean(y)
            if usual > 0:
                rest = np.array(y) - line.intercept - line.slope * np.array(t)
                rise, spread = line.slope * span / usual, (rest**2).sum() / (n - 2)
                se = math.hypot(line.stderr * span, rise * math.sqrt(spread / n)) / usual
                found[rater] = base.around(n, rise, se, float(line.pvalue))
        timed = [(one["t"], float(one["latency_s"])) for one in own if float(one.get("latency_s", 1)) > 0
                 and "latency_s" in one]  # fmt: skip
        if len(timed) > 2:
            t, y = [t for t, _ in timed], [math.log(latency) for _, latency in timed]
            line, span = stats.linregress(t, y), max(t) - min(t)
            change, se = line.slope * span, line.stderr * span
            ends = (math.expm1(change + sign * base.Z * se) for sign in (-1, 1))
            found[f"{rater}:latency"] = base.Expected(len(t), math.expm1(change), *ends, None)
    return found


def fatigue_onset(rows: Rows) -> dict[str, base.Expected]:
    found = {}
    for rater, own in answers(rows).items():
        y = [abs(one["e"]) for one in own if "e" in one]
        n = len(y)
        if n < 2 or max(y) - min(y) < 1e-9:
            continue
        sums = {
            k: abs(sum(y[:k]) - k * mean(y))
            for k in range(1, n)
            if min(k, n - k) >= max(1, math.ceil(0.1 * n))
        }
        k = max(sums, key=lambda k: (round(sums[k], 9), -k))
        scale = stdev(y) * math.sqrt(n)
        # Smirnov's series is the other form of the same distribution.
        x = sums[k] / scale
        p = min(1.0, 2 * sum((-1) ** (j - 1) * math.exp(-2 * j * j * x * x) for j in range(1, 200)))
        rise = (mean(y[k:]) - mean(y[:k])) / mean(y)
        half = 1.3580986393225507 * scale * n / (k * (n - k)) / mean(y)
        found[rater] = base.Expected(n, rise, rise - half, rise + half, p)
    return found


def anchoring(rows: Rows) -> dict[str, base.Expected]:
    found = {}
    for rater, own in answers(rows).items():
        pairs = [
            (a["e"], b["e"])
            for a, b in pairwise(own)
            if a["order"][0] == b["order"][0] and "e" in a and "e" in b
        ]
        if len(pairs) < 4 or any(np.std(side) < 1e-9 for side in zip(*pairs, strict=True)):
            continue
        r, n = float(np.corrcoef(np.array(pairs).T)[0, 1]), len(pairs)
        z, se = math.atanh(r), 1 / math.sqrt(n - 3)
        x, y = np.array(pairs).T
        few = max(1.0, math.sqrt(n * (x * x * y * y).sum() / (n * n * x.var() * y.var())))
        p = float(2 * stats.norm.sf(abs(r) * math.sqrt(n) / few))
        found[rater] = base.Expected(n, r, math.tanh(z - base.Z * se), math.tanh(z + base.Z * se), p)
    return found


def halo(rows: Rows, n_min: int = 30) -> dict[str, base.Expected]:
    zs: dict[str, tuple[int, float, float | None]] = {}
    for rater, own in answers(rows).items():
        labels: dict[str, dict[str, float]] = defaultdict(dict)
        for one in own:
            labels[one.get("objective", "correct")][one["item"]] = one["value"]
        parts, most, added = [], 0, Counter[str]()
        for a, b in combinations(sorted(labels), 2):
            shared = sorted(labels[a].keys() & labels[b].keys())
            most = max(most, len(shared))
            x, y = (np.array([labels[side][item] for item in shared]) for side in (a, b))
            if len(shared) > 3 and len(set(x)) > 1 and len(set(y)) > 1:
                r, influence = correlation(x, y)
                parts.append(math.atanh(r))
                for item, one in zip(shared, influence / (1 - r * r) / len(shared), strict=True):
                    added[item] += one
        if parts:
            se = math.sqrt(sum(one**2 for one in added.values())) / len(parts)
            zs[rater] = most, mean(parts), se if se > 1e-9 else None
    judged = [z for n, z, _ in zs.values() if n >= n_min]
    found = {}
    for rater, (n, z, se) in zs.items():
        p = base.normal_p(z - median(judged), se) if judged and se else None
        ends = (math.tanh(z - base.Z * se), math.tanh(z + base.Z * se)) if se else (None, None)
        found[rater] = base.Expected(n, math.tanh(z), *ends, p)
    return found


def correlation(x: Any, y: Any) -> tuple[float, Any]:
    """Return Pearson's r, kept off 1, and each pair's influence on it."""
    u, v = stats.zscore(x), stats.zscore(y)
    r = max(min(float((u * v).mean()), 0.999999), -0.999999)
    return r, u * v - r * (u * u + v * v) / 2


def random_rater(rows: Rows, n_min: int = 30) -> dict[str, base.Expected]:
    fisher: dict[str, tuple[int, float, float]] = {}
    found: dict[str, base.Expected] = {}
    for rater, own in answers(rows).items():
        shared = [one for one in own if "e" in one]
        x = np.array([one["value"] for one in shared])
        y = np.array([mean(o["value"] for o in one["others"]) for one in shared])
        if len(set(x)) > 1 and len(set(y.round(9))) > 1:
            r, influence = correlation(x, y)
            se = math.sqrt((influence**2).mean() / len(x)) / (1 - r * r)
            if (abs(r) == 0.999999 or se * (1 - r * r) < 1e-9) and len(x) > 3:
                se = 1 / math.sqrt(len(x) - 3)
            fisher[rater] = len(x), math.atanh(r), se
    enough = [z for n, z, _ in fisher.values() if n >= n_min]
    for rater, (n, z, se) in fisher.items():
        value = math.tanh(z) if abs(math.tanh(z)) < 0.999999 - 1e-12 else round(math.tanh(z), 3)
        p = base.normal_p(z - median(enough), se) if enough else None
        found[rater] = base.Expected(n, value, math.tanh(z - base.Z * se), math.tanh(z + base.Z * se), p)
    return found


def tie_excess(rows: Rows) -> dict[str, base.Expected]:
    asked = [
        (row["rater"], row.get("env_id", ""), float(undecided(row)))
        for kind in ("rating", "comparison")
        for own in answers(rows, kind).values()
        for row in own
    ]
    asked += [(row["rater"], row.get("env_id", ""), 1.0) for row in rows if row.get("kind") == "skip"]
    found = {}
    for rater in {rater for rater, *_ in asked}:
        own = [(env, u) for r, env, u in asked if r == rater]
        n, k, expected = len(own), int(sum(u for _, u in own)), 0.0
        for env, _ in own:
            peers = [u for r, e, u in asked if e == env and r != rater]
            expected += mean(peers) if peers else NAN
        p = None if math.isnan(expected) else float(stats.binomtest(k, n, max(expected / n, 0.01)).pvalue)
        found[rater] = base.Expected(n, k / n, *base.wilson(k, n), p)
    for env in {env for _, env, _ in asked if env}:
        n = sum(e == env for _, e, _ in asked)
        k = int(sum(u for _, e, u in asked if e == env))
        found[f"env={env}"] = base.Expected(
            n, k / n, *base.wilson(k, n), float(stats.binomtest(k, n, 0.5).pvalue)
        )
    return found


def undecided(row: Mapping[str, Any]) -> bool:
    return row.get("kind") == "comparison" and row["value"] == 0.5


def position_bias(rows: Rows, n_randomised: int = 100) -> dict[str, base.Expected]:
    """Sides and covariates are those of given.csv, where the segment shown first is named first."""
    shown = answers(rows, "comparison")
    for own in shown.values():
        for one in own:
            one["swapped"] = (one["other_episode_id"], 0) < tuple(one["item"].rpartition(":")[::2])
            sides = [o["value"] if o["item"] == one["item"] else 1 - o["value"] for o in one["others"]]
            one["x"] = [
                float(one["env_reward"]) - float(one["other_env_reward"]) if "env_reward" in one else NAN,
                mean(sides) - 0.5 if sides else NAN,
            ]
    every = [one for own in shown.values() for one in own]
    known = []
    for j in (0, 1):
        x = [one["x"][j] for one in every if not math.isnan(one["x"][j])]
        if len(x) >= 0.9 * len(every) and len({abs(round(v, 9)) for v in x}) > 1:
            known.append(j)
    decided = {rater: [one for one in own if one["value"] != 0.5] for rater, own in shown.items()}
    if known and _randomised(every, known, n_randomised):
        found = {}
        for rater, own in decided.items():
            k, n = sum(one["value"] > 0.5 for one in own), len(own)
            found[rater] = base.Expected(n, k / n, *base.wilson(k, n), float(stats.binomtest(k, n).pvalue))
        return found
    if not known:
        return {}
    used = {
        r: [o for o in own if not any(math.isnan(o["x"][j]) for j in known)] for r, own in decided.items()
    }
    kept = [one for own in used.values() for one in own]
    scale = [math.sqrt(mean(one["x"][j] ** 2 for one in kept)) for j in known] if kept else []
    fitted = {rater: _adjusted(own, known, scale) for rater, own in used.items() if own}
    judged = [a for a, _, _, n in fitted.values() if n >= 100]
    middle = median(judged) if judged else 0.0
    found = {}
    for rater, (a, se, score, n) in fitted.items():
        value, *ends = (1 / (1 + math.exp(-a - s * base.Z * se)) for s in (0, -1, 1))
        p = float(2 * stats.norm.sf(min(abs(score), abs(a - middle) / se)))
        found[rater] = base.Expected(n, value, *ends, p)
    return found


def _randomised(every: list[dict[str, Any]], known: list[int], n_randomised: int) -> bool:
    n = len(every)
    tests = [(2 * sum(one["swapped"] for one in every) - n) / math.sqrt(n)]
    for j in known:
        x = [one["x"][j] for one in every if not math.isnan(one["x"][j])]
        tests.append(sum(x) / math.sqrt(sum(v * v for v in x)))
    return n >= n_randomised and all(2 * stats.norm.sf(abs(z)) >= 0.01 for z in tests)


def _adjusted(
    own: list[dict[str, Any]], known: list[int], scale: list[float]
) -> tuple[float, float, float, int]:
    x = np.array([[1, *(one["x"][j] / s for j, s in zip(known, scale, strict=True))] for one in own])
    y = np.array([one["value"] > 0.5 for one in own], float)

    def gradient(beta: Any, design: Any) -> Any:
        return design.T @ (y - 1 / (1 + np.exp(-design @ beta))) - 0.04 * beta

    def information(beta: Any) -> Any:
        p = 1 / (1 + np.exp(-x @ beta))
        return (x * (p * (1 - p))[:, None]).T @ x + 0.04 * np.eye(x.shape[1])

    full = optimize.root(gradient, np.zeros(x.shape[1]), args=(x,), tol=1e-14).x
    slopes = optimize.root(gradient, np.zeros(x.shape[1] - 1), args=(x[:, 1:],), tol=1e-14).x
    null = np.array([0, *slopes])
    score = (y - 1 / (1 + np.exp(-x @ null))).sum() * math.sqrt(np.linalg.inv(information(null))[0, 0])
    se = math.sqrt(np.linalg.inv(information(full))[0, 0])
    return float(full[0]), se, float(score), len(own)


RATERS: dict[str, Callable[[Rows], dict[str, base.Expected]]] = {
    "random_rater": random_rater,
    "straight_lining": straight_lining,
    "central_tendency": central_tendency,
    "fatigue": fatigue,
    "fatigue_onset": fatigue_onset,
    "anchoring": anchoring,
    "halo": halo,
    "position_bias": position_bias,
    "tie_excess": tie_excess,
    "rasch_severity": rasch.severity,
    "rater_fit": rasch.fit,
}
