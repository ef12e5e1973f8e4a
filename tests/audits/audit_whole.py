"""Whole logs: twenty honest raters of ordinary quality, consent, groups, sessions, policies and reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import audit_habits as habits
import audit_panel
import duckdb
import numpy as np

Columns = dict[str, Any]

RATERS = [f"r-{i:02d}" for i in range(20)]
N_RATINGS, PER_ITEM, N_AGAIN = 200, 5, 25
LANGUAGES, PLACES = "abc", "xy"
_ALL = "[audit, training]"


def binary(random: np.random.Generator, raters: Sequence[str] = RATERS, per_item: int = PER_ITEM) -> Columns:
    """Return yes and no on steps of three actions; each rater is right with .95 to .99."""
    n_items = N_RATINGS * len(raters) // per_item
    truth = (random.random(n_items) < 0.5).astype(float)
    usual = np.exp(random.normal(1.0, 0.3, n_items))

    def answers(item: np.ndarray, quality: float) -> tuple[np.ndarray, np.ndarray]:
        right = random.random(len(item)) < 0.95 + 0.04 * quality
        return np.where(right, truth[item], 1 - truth[item]), usual[item]

    columns = _columns(random, raters, n_items, answers)
    columns["action"] = random.integers(0, 3, n_items)
    return columns


def ordinal(random: np.random.Generator, raters: Sequence[str] = RATERS) -> Columns:
    """Return five labels."""
    n_items = N_RATINGS * len(raters) // PER_ITEM
    place = random.integers(0, 5, n_items)

    def answers(item: np.ndarray, quality: float) -> tuple[np.ndarray, np.ndarray]:
        seen = place[item] + random.normal(0, 0.5 - 0.15 * quality, len(item))
        return np.clip(np.round(seen), 0, 4), np.full(len(item), 3.0)

    columns = _columns(random, raters, n_items, answers)
    columns["action"] = random.integers(0, 3, n_items)
    return columns


def comparisons(random: np.random.Generator, raters: Sequence[str] = RATERS) -> Columns:
    """Return preferences between two steps; the side is drawn, and one in fifty is left undecided."""
    n_items = N_RATINGS * len(raters) // PER_ITEM
    better = random.normal(0, 1, n_items)  # of the segment named first

    def answers(item: np.ndarray, quality: float) -> tuple[np.ndarray, np.ndarray]:
        prefers = random.random(len(item)) < 1 / (1 + np.exp(-(12 + 6 * quality) * better[item]))
        tie = random.random(len(item)) < 0.02
        return np.where(tie, 0.5, prefers.astype(float)), np.full(len(item), 3.0)

    columns = _columns(random, raters, n_items, answers)
    n = len(columns["value"])
    swapped = random.random(n) < 0.5
    names = [np.array([f"{side}{i:06d}" for i in columns["item_number"]]) for side in "ab"]
    columns["episode_id"] = np.where(swapped, names[1], names[0]).tolist()
    columns["other_episode_id"] = np.where(swapped, names[0], names[1]).tolist()
    columns["step"] = columns["other_step"] = [0] * n
    columns["kind"] = ["comparison"] * n
    # stored from the side shown first
    columns["value"] = np.where(swapped, 1 - columns["value"], columns["value"])
    columns["better"] = better
    return columns


CLEAN: Mapping[str, Callable[[np.random.Generator], Columns]] = {
    "binary": binary, "ordinal": ordinal, "comparisons": comparisons,
}  # fmt: skip


@contextmanager
def opened(
    random: np.random.Generator, columns: Columns, **tables: Any
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Put ratings into a log whose consent, policies and reports are in order but for ``tables``."""
    raters = sorted(set(columns["rater_id"]))
    given = {"given_at": "2026-03-01T00:00:00Z", "expires_at": "2027-03-01T00:00:00Z", "method": "terminal"}
    usual: dict[str, Any] = {
        "raters": [
            {"rater_id": rater, "groups": f"{{language={random.choice(list(LANGUAGES))}, "
             f"place={random.choice(list(PLACES))}}}"}
            for rater in raters
        ],
        "grants": [
            given | {"grant_id": f"g-{rater}", "rater_id": rater, "state": "given", "purposes": _ALL,
                     "asked_purposes": _ALL, "terms_sha256": "new"}
            for rater in raters
        ],
        "terms": [{"terms_sha256": "new", "version": 1, "newest": "true"}],
        "policies": [{"name": "p", "rater_ids": raters, "trained_at": "2026-03-06T00:00:00Z",
                      "rows": N_RATINGS * len(raters), "state": "current"}],
        "policy_rows": [{"name": "p", "path": "p", "rater_id": rater, "rows": N_RATINGS} for rater in raters],
        "reports": [{"path": "rep", "rater_ids": raters, "made_at": "2026-03-06T00:00:00Z",
                     "state": "current"}],
        "returned": [{"kind": kind, "n": 0} for kind in ("key", "file of answers", "open session")],
        "files": [{"path": f"feedback/{rater}", "session_id": f"s-{rater}", "rater_id": rater,
                   "rows": N_RATINGS} for rater in raters],
    }  # fmt: skip
    with audit_panel.connect(**(usual | tables)) as connection:
        habits.add(connection, columns)
        connection.execute(
            """UPDATE usable_for_audit SET session_id = concat('s-', rater_id, session_n), consent = TRUE,
              grant_id = concat('g-', rater_id), shown_at = '2026-03-04T10:00:00Z',
              answered_at = '2026-03-04T10:00:01Z'"""
        )
        for name in ("feedback", "usable_for_training"):
            connection.execute(f"INSERT INTO {name} SELECT * FROM usable_for_audit")
        yield connection


def _columns(
    random: np.random.Generator,
    raters: Sequence[str],
    n_items: int,
    answers: Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]],
) -> Columns:
    """Each rater's items at random in two sessions, and in a third some of them again."""
    parts = []
    for number in range(len(raters)):
        first = random.permutation(n_items)[:N_RATINGS]
        item = np.concatenate([first, random.permutation(first)[:N_AGAIN]])
        value, usual = answers(item, random.random())
        rows = np.arange(len(item))
        parts.append(
            {"number": np.full(len(item), number), "item_number": item, "value": value, "row": rows,
             "latency_s": usual * np.exp(random.normal(0, 0.4, len(item))),
             "session": 3 * number + 1 + rows // (N_RATINGS // 2)}
        )  # fmt: skip
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    number, n = joined.pop("number"), len(parts) * (N_RATINGS + N_AGAIN)
    return joined | {
        "rater_id": [raters[i] for i in number], "session_n": joined.pop("session").tolist(),
        "kind": ["rating"] * n, "objective": ["correct"] * n, "n_steps": [1] * n,
        "episode_id": [f"e{i // 50:06d}" for i in joined["item_number"]],
        "step": (joined["item_number"] % 50).tolist(),
    }  # fmt: skip
