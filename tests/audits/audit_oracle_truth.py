"""What Dawid and Skene's model says, the naive way: the audits that rest on it."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
from audit_oracle import Expected, Z, by_item, last_ratings
from scipy import stats

Rows = Sequence[Mapping[str, Any]]


class Truth:
    """Dawid and Skene's EM, rating by rating, for a thousand steps."""

    def __init__(self, rows: Rows) -> None:
        self.items = {name: group for name, group in by_item(last_ratings(rows)).items() if len(group) >= 3}
        self.raters = sorted({r.rater for group in self.items.values() for r in group})
        self.labels = sorted({r.value for group in self.items.values() for r in group})
        self.truth = {
            name: [sum(r.value == k for r in group) / len(group) for k in self.labels]
            for name, group in self.items.items()
        }
        for _ in range(1000 if self.items and len(self.labels) <= 10 else 0):
            self.maximise()
            self.expect()

    def maximise(self) -> None:
        k = range(len(self.labels))
        self.prevalence = [sum(t[j] for t in self.truth.values()) / len(self.truth) for j in k]
        self.counts = {rater: np.zeros((len(self.labels), len(self.labels))) for rater in self.raters}
        for name, group in self.items.items():
            for r in group:
                self.counts[r.rater][:, self.labels.index(r.value)] += self.truth[name]
        self.confusion = {
            rater: table / np.where(table.sum(axis=1, keepdims=True) > 0, table.sum(axis=1, keepdims=True), 1)
            for rater, table in self.counts.items()
        }

    def expect(self) -> None:
        for name, group in self.items.items():
            joint = np.array(self.prevalence)
            for r in group:
                joint = joint * self.confusion[r.rater][:, self.labels.index(r.value)]
            self.truth[name] = list(joint / joint.sum())

    def accuracy(self, rater: str) -> tuple[int, float, float]:
        """Ratings, accuracy and its variance."""
        k = len(self.labels)
        table, prevalence = self.counts[rater], np.array(self.prevalence)
        met = table.sum(axis=1) > 0
        weight = np.where(met, prevalence, 0) / prevalence[met].sum()
        rate = (np.diag(table) + 0.5) / (table.sum(axis=1) + 1)
        information = np.diag(1 / (rate * (1 - rate)))
        n = 0
        for name, group in self.items.items():
            for r in group:
                if r.rater == rater:
                    said = np.array([r.value == label for label in self.labels], float)
                    score = np.array(self.truth[name]) * (said - rate) / (rate * (1 - rate))
                    information += np.outer(score, score)
                    n += 1
        value = sum(weight[j] * self.confusion[rater][j, j] for j in range(k))
        return n, float(value), float(weight @ np.linalg.inv(information) @ weight)


def share_interval(value: float, n: int, variance: float) -> tuple[float, float]:
    smoothed = (value * n + 0.5) / (n + 1)
    n_like = smoothed * (1 - smoothed) / variance
    centre, width = (
        value + Z**2 / (2 * n_like),
        Z * math.sqrt(value * (1 - value) / n_like + Z**2 / (4 * n_like**2)),
    )
    return (centre - width) / (1 + Z**2 / n_like), (centre + width) / (1 + Z**2 / n_like)


def truth_inference(rows: Rows, n_min: int = 30) -> dict[str, Expected]:
    model = Truth(rows)
    if not model.items or len(model.labels) > 10:
        return {}
    own = {rater: model.accuracy(rater) for rater in model.raters}
    enough = [value for n, value, _ in own.values() if n >= n_min]
    found = {}
    for rater, (n, value, variance) in own.items():
        p = float(2 * stats.norm.sf(abs(value - (median(enough) if enough else 0)) / math.sqrt(variance)))
        found[rater] = Expected(n, value, *share_interval(value, n, variance), p)
    n = len(model.items)
    for k, label in enumerate(model.labels):
        share = model.prevalence[k]
        score = sum((t[k] - share) ** 2 for t in model.truth.values())
        smoothed = (share * n + 0.5) / (n + 1)
        variance = (
            (share * (1 - share)) ** 2 / score
            if score and share * (1 - share)
            else smoothed * (1 - smoothed) / n
        )
        found[f"label {label:g}"] = Expected(n, share, *share_interval(share, n, variance), None)
    return found


def item_controversy(rows: Rows) -> dict[str, Expected]:
    """Values; which items are listed, and how open their truth is, is in the cases."""
    items = {name: g for name, g in by_item(last_ratings(rows)).items() if len(g) >= 3}
    if not items or len({r.value for g in items.values() for r in g}) > 10:
        return {}
    apart = {
        name: sum(a.value != b.value for a, b in combinations(g, 2)) / math.comb(len(g), 2)
        for name, g in items.items()
    }
    n, mean = len(apart), sum(apart.values()) / len(apart)
    half = Z * math.sqrt(sum((v - mean) ** 2 for v in apart.values()) / (n * (n - 1))) if n > 1 else 0
    ends = (max(mean - half, 0), min(mean + half, 1)) if half else wilson_of(mean, n)
    model = Truth(rows)
    found = {"all items": Expected(n, mean, *ends, None)}
    margin = {
        name: np.diff(sorted(model.truth[name])[-2:])[0] if len(model.labels) > 1 else 1.0 for name in items
    }
    n_listed = math.ceil(0.05 * n)
    order = sorted(items, key=lambda name: (-apart[name], round(float(margin[name]), 9)))
    for name in order[:n_listed]:
        if apart[name] > 0:
            p = min(1.0, max(wrong_at_least(model, name, k) for k in range(len(model.labels))) * n / n_listed)
            ends = wilson_of(apart[name], len(items[name]) // 2)
            found[f"item {name}"] = Expected(len(items[name]), apart[name], *ends, p)
    return found


def wilson_of(share: float, n: float) -> tuple[float, float]:
    """Wilson's ends are where the distance from the share is Z of their own standard errors."""
    a, b, c = 1 + Z * Z / n, -2 * share - Z * Z / n, share * share
    root = math.sqrt(max(b * b - 4 * a * c, 0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def wrong_at_least(model: Truth, name: str, k: int) -> float:
    """By adding up every way in which the raters can be right or wrong."""
    group = model.items[name]
    wrong = [1 - model.confusion[r.rater][k, k] for r in group]
    seen = sum(r.value != model.labels[k] for r in group)
    total = 0.0
    for ways in np.ndindex(*(2,) * len(group)):
        if sum(ways) >= seen:
            total += math.prod(w if way else 1 - w for way, w in zip(ways, wrong, strict=True))
    return total
