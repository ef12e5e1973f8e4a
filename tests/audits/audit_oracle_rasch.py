"""The naive Rasch model of audit_oracle: one Newton iteration over all its parameters at once."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import audit_oracle as base
import numpy as np
from scipy import stats

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


def fitted(rows: Rows) -> dict[str, tuple[int, float, float, float, float]]:
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
    # Wright and Douglas 1977: off the mean of all by n / (n - 1) too much
    fair = 1 - 1 / len(raters)
    centre = np.eye(len(raters)) - 1 / len(raters)
    covariance = centre @ np.linalg.pinv(information, 1e-10)[: len(raters), : len(raters)] @ centre
    k = np.arange(len(labels))
    expected = p @ k
    variance = p @ k**2 - expected**2
    squares = (chosen - expected) ** 2
    found = {}
    for j, rater in enumerate(raters):
        mine = np.array([r == rater for r, *_ in given])
        infit, outfit = squares[mine].sum() / variance[mine].sum(), (squares[mine] / variance[mine]).mean()
        error = (fair * covariance[j, j]) ** 0.5
        found[rater] = n[rater], fair * severity[j], error, float(infit), float(outfit)
    return found


def severity(rows: Rows, n_min: int = 30) -> dict[str, base.Expected]:
    found_ones = fitted(rows)
    found = {
        rater: base.around(n, severity, se, base.normal_p(severity, se))
        for rater, (n, severity, se, *_) in found_ones.items()
    }
    judged = [(one[1], one[2]) for one in found_ones.values() if one[0] >= n_min]
    if len(judged) > 1:
        b, se = np.array(judged).T
        chi2 = ((b - np.average(b, weights=se**-2)) ** 2 / se**2).sum()
        p = float(stats.chi2.sf(chi2, len(b) - 1))
        found["fixed chi2"] = base.Expected(len(b), float(chi2), None, None, p)
        reliability = max(0.0, 1 - float((se**2).mean() / b.var(ddof=1)))
        found["separation reliability"] = base.Expected(len(b), reliability, NAN, NAN, None)
    return found


def fit(rows: Rows) -> dict[str, base.Expected]:
    return {
        f"{rater}:{name}": base.Expected(one[0], one[3 + j], NAN, NAN, NAN)
        for rater, one in fitted(rows).items()
        for j, name in enumerate(("infit", "outfit"))
    }
