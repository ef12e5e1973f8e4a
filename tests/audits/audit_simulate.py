"""Simulated panels with planted biases, for the case folders and the detection tests."""

from random import Random
from typing import Any

PLANTS = ("always-yes", "random", "inverted", "lenient", "favours-1", "drifts", "fast")


def simulate(
    seed: int,
    planted: list[str],
    n_clean: int,
    n_ratings: int,
    *,
    per_item: int | None = None,
    accuracy: float = 0.9,
) -> list[dict[str, Any]]:
    """Return compact ratings of ``r-clean-0 …`` and ``r-<plant>-<i> …``.

    Args:
        seed: Of every draw.
        planted: Names of PLANTS, one rater each.
        n_clean: Raters who say what they see, right with probability ``accuracy``.
        n_ratings: Of each rater.
        per_item: Raters of an item; all of them if None.
    """
    random = Random(seed)
    raters = [(f"r-clean-{i}", "") for i in range(n_clean)]
    raters += [(f"r-{plant}-{i}", plant) for i, plant in enumerate(planted)]
    n_items = n_ratings if per_item is None else n_ratings * len(raters) // per_item
    items = [
        (f"e{i // 50}:{i % 50}", random.random() < 0.5, int(random.random() < 0.5)) for i in range(n_items)
    ]
    rows: list[dict[str, Any]] = []
    for rater, plant in raters:
        mine = items if per_item is None else sorted(random.sample(items, n_ratings))
        for t, (item, truth, action) in enumerate(mine):
            seen = truth if random.random() < accuracy else not truth
            answer, latency_s = _answer(random, plant, seen, action, t / len(mine))
            rows.append(
                {
                    "rater": rater,
                    "item": item,
                    "value": float(answer),
                    "action": action,
                    "latency_s": latency_s,
                }
            )
    return rows


def _answer(random: Random, plant: str, seen: bool, action: int, progress: float) -> tuple[bool, float]:
    latency_s = round(1.5 + 3 * random.random(), 2)
    coin = random.random()
    if plant == "always-yes":
        seen = True
    elif plant == "random":
        seen = coin < 0.5
    elif plant == "inverted":
        seen = not seen
    elif plant == "lenient":
        seen = seen or coin < 0.8
    elif plant == "favours-1":
        seen = action == 1 if coin < 0.8 else seen
    elif plant == "drifts":
        seen = seen or coin < 1.2 * progress
    elif plant == "fast" and coin < 0.8:
        seen, latency_s = coin < 0.4, 0.1
    return seen, latency_s
