"""gold_accuracy the naive way; its cases have the known labels in gold.csv."""

import math
from collections import Counter, defaultdict
from pathlib import Path

import audit_panel
from audit_oracle import Expected, by_item, last_ratings, wilson
from audit_oracle_panel import of_each_panel
from audit_oracle_truth import Truth, wilson_of
from scipy import stats


def gold_accuracy(case: Path) -> dict[str, Expected]:
    known = {
        f"{row['episode_id']}:{row['step']}": float(row["value"])
        for row in audit_panel.read_csv(case / "gold.csv")
    }

    def of_one(rows: list) -> dict[str, Expected]:
        given = last_ratings(rows)
        golden = [one for one in given if one.item in known]
        if not golden:
            return {}
        right: dict[str, list[bool]] = defaultdict(list)
        for one in golden:
            right[one.rater].append(one.value == known[one.item])
        found = {}
        for rater, own in right.items():
            k, n = sum(own), len(own)
            others = [answer for other, answers in right.items() if other != rater for answer in answers]
            share = sum(others) / len(others) if others else math.nan
            p = float(stats.binomtest(k, n, share).pvalue) if others and n >= 20 else None
            found[rater] = Expected(n, k / n, *wilson(k, n), p)
        found["all answers"] = everything(golden, known)
        items = {name: group for name, group in by_item(given).items() if len(group) >= 3}
        judged = [name for name in items if name in known]
        votes = {name: Counter(one.value for one in items[name]) for name in judged}
        model = Truth(rows)
        inferred = {
            "majority": {name: max(v, key=lambda label: (v[label], label)) for name, v in votes.items()},
            "Dawid-Skene": {
                name: model.labels[max(range(len(model.labels)), key=model.truth[name].__getitem__)]
                for name in judged
            },
        }
        for name, labels in inferred.items():
            k, n = sum(labels[item] == known[item] for item in judged), len(judged)
            found[name] = (
                Expected(n, k / n, *wilson(k, n), None) if n else Expected(0, None, None, None, None)
            )
        return found

    return of_each_panel(of_one)(audit_panel.read_csv(case / "given.csv"))


def everything(golden: list, known: dict[str, float]) -> Expected:
    """Wilson's interval at as many answers as would vary as the items do."""
    share = sum(one.value == known[one.item] for one in golden) / len(golden)
    items = by_item(golden)
    off = [sum((one.value == known[item]) - share for one in group) for item, group in items.items()]
    spread = sum(one * one for one in off) / len(golden) ** 2
    worth = share * (1 - share) / spread if spread > 1e-12 else len(items)
    return Expected(len(items), share, *wilson_of(share, worth), None)
