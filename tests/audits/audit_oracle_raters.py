"""The naive statistics of single raters: see audit_oracle. NaN where a number is left to other tests."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, groupby, pairwise
from statistics import mean, median
from typing import Any

import audit_oracle as base
import numpy as np
from scipy import optimize, stats

Rows = Sequence[Mapping[str, Any]]
NAN = math.nan


def answers(rows: Rows, kind: str = "rating") -> dict[str, list[dict[str, Any]]]:
    """Return, by rater and in order, the last answers with the labels of the others on the item."""
    last: dict[Any, dict[str, Any]] = {}
    for index, row in enumerate(rows):
        if row.get("kind", "rating") != kind:
            continue
        order = int(row.get("session_n", 1)), int(row.get("row", index))
        other = row.get("other_episode_id")
        judged = frozenset((row["item"].rpartition(":")[0], other)) if other else row["item"]
        key = row["rater"], judged, row.get("objective")
        if key not in last or order > last[key]["order"]:
            last[key] = {**row, "order": order, "key": key[1:], "value": float(row["value"])}
    given: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for answer in last.values():
        given[answer["key"]].append(answer)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for answer in sorted(last.values(), key=lambda one: one["order"]):
        answer["others"] = [one for one in given[answer["key"]] if one is not answer]
        if answer["others"]:
            answer["e"] = answer["value"] - mean(one["value"] for one in answer["others"])
        answer["t"] = len(found[answer["rater"]]) + 1
        found[answer["rater"]].append(answer)
    return found


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
        p = float(2 * stats.norm.sf(abs(r) * math.sqrt(n)))
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


def rasch(rows: Rows) -> dict[str, tuple[int, float, float, float, float]]:
    """Return n, severity, its error, infit and outfit of those who have one, by Newton on the whole model."""
    labels = sorted({one["value"] for own in answers(rows).values() for one in own})
    given = [
        (rater, (len(one["others"]), round(one["value"] + sum(o["value"] for o in one["others"]), 9)),
         labels.index(one["value"]))
        for rater, own in answers(rows).items() for one in own if one["others"]
    ]  # fmt: skip
    seen: dict[Any, set[int]] = defaultdict(set)
    for _, group, k in given:
        seen[group].add(k)
    given = [one for one in given if len(seen[one[1]]) > 1]
    n = Counter(rater for rater, *_ in given)
    while True:  # without raters at one end
        seen = defaultdict(set)
        for _, group, k in given:
            seen[group].add(k)
        own = {r: [(k, seen[g]) for r2, g, k in given if r2 == r] for r in {one[0] for one in given}}
        gone = {r for r, a in own.items() if all(k == min(s) for k, s in a) or all(k == max(s) for k, s in a)}
        if not gone:
            break
        given = [one for one in given if one[0] not in gone]
    raters, groups = sorted({r for r, *_ in given}), sorted(seen)
    if not given:
        return {}
    free = [(g, k) for g in groups for k in sorted(seen[g])[1:]]
    design = np.zeros((len(given), len(labels), len(raters) + len(free)))
    possible = np.zeros((len(given), len(labels)))
    for i, (rater, group, _) in enumerate(given):
        for k in seen[group]:
            possible[i, k] = 1
            design[i, k, raters.index(rater)] = -k
            if (group, k) in free:
                design[i, k, len(raters) + free.index((group, k))] = 1
    chosen = np.array([k for *_, k in given])
    beta = np.zeros(design.shape[2])
    for _ in range(100):
        p = possible * np.exp(design @ beta)
        p /= p.sum(axis=1, keepdims=True)
        centred = design - (p[..., None] * design).sum(axis=1, keepdims=True)
        score = centred[np.arange(len(given)), chosen].sum(axis=0)
        information = np.einsum("ik,ika,ikb->ab", p, centred, centred)
        step = np.linalg.lstsq(information, score, rcond=1e-12)[0]
        beta += np.clip(step, -1, 1)
        if abs(step).max() < 1e-12:
            break
    severity = beta[: len(raters)] - beta[: len(raters)].mean()
    k = np.arange(len(labels))
    expected = p @ k
    variance = p @ k**2 - expected**2
    squares = (chosen - expected) ** 2
    found = {}
    for j, rater in enumerate(raters):
        mine = np.array([r == rater for r, *_ in given])
        infit, outfit = squares[mine].sum() / variance[mine].sum(), (squares[mine] / variance[mine]).mean()
        found[rater] = n[rater], severity[j], variance[mine].sum() ** -0.5, float(infit), float(outfit)
    return found


def rasch_severity(rows: Rows, n_min: int = 30) -> dict[str, base.Expected]:
    fitted = rasch(rows)
    found = {
        rater: base.around(n, severity, se, base.normal_p(severity, se))
        for rater, (n, severity, se, *_) in fitted.items()
    }
    judged = [(one[1], one[2]) for one in fitted.values() if one[0] >= n_min]
    if len(judged) > 1:
        b, se = np.array(judged).T
        chi2 = ((b - np.average(b, weights=se**-2)) ** 2 / se**2).sum()
        p = float(stats.chi2.sf(chi2, len(b) - 1))
        found["fixed chi2"] = base.Expected(len(b), float(chi2), None, None, p)
        reliability = max(0.0, 1 - float((se**2).mean() / b.var(ddof=1)))
        found["separation reliability"] = base.Expected(len(b), reliability, NAN, NAN, None)
    return found


def rater_fit(rows: Rows) -> dict[str, base.Expected]:
    return {
        f"{rater}:{name}": base.Expected(one[0], one[3 + j], NAN, NAN, NAN)
        for rater, one in rasch(rows).items()
        for j, name in enumerate(("infit", "outfit"))
    }


RATERS: dict[str, Callable[[Rows], dict[str, base.Expected]]] = {
    "random_rater": random_rater,
    "straight_lining": straight_lining,
    "central_tendency": central_tendency,
    "fatigue": fatigue,
    "anchoring": anchoring,
    "halo": halo,
    "position_bias": position_bias,
    "tie_excess": tie_excess,
    "rasch_severity": rasch_severity,
    "rater_fit": rater_fit,
}
