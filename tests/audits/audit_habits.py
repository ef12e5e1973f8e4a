"""Large simulated logs by numpy: clean raters, and raters with one habit each, for the sweeps.

A log is a dict of columns of ``usable_for_audit``; ``connect`` puts one into a small DuckDB.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import audit_panel
import duckdb
import numpy as np
import pyarrow as pa

Columns = dict[str, Any]

ACCURACY = 0.9
RATING_HABITS = (
    "always-yes", "random", "inverted", "fast", "repeats", "favours-1", "lenient", "severe", "drifts",
    "tires", "leans", "contrasts",
)  # fmt: skip
SCALE_HABITS = ("middle", "ends", "high")
COMPARISON_HABITS = ("first", "ties")
CRITERIA_HABITS = ("one-impression",)


def names(n_clean: int, habits: Sequence[str]) -> list[tuple[str, str]]:
    """Return rater and habit: ``r-clean-0`` and ``r-<habit>-<i>``."""
    clean = [(f"r-clean-{i}", "") for i in range(n_clean)]
    return clean + [(f"r-{habit}-{i}", habit) for i, habit in enumerate(habits)]


def ratings(
    random: np.random.Generator,
    raters: Sequence[tuple[str, str]],
    n_ratings: int,
    per_item: int,
    accuracy: float = ACCURACY,
) -> Columns:
    """Return yes and no on steps; items at random for each rater, in random order, two sessions."""
    n_items = n_ratings * len(raters) // per_item
    truth, action = random.random(n_items) < 0.5, (random.random(n_items) < 0.5).astype(int)
    usual = np.exp(random.normal(1.0, 0.3, n_items))
    parts = []
    for number, (_, habit) in enumerate(raters):
        item = random.permutation(n_items)[:n_ratings]
        right = random.random(n_ratings) < accuracy
        seen = np.where(right, truth[item], ~truth[item])
        latency_s = usual[item] * np.exp(random.normal(0, 0.4, n_ratings))
        value, latency_s = _with_habit(random, habit, seen, truth[item], action[item], latency_s)
        parts.append(_part(number, item, value, latency_s))
    columns = _columns(raters, parts)
    columns["action"] = action
    return columns


def _with_habit(
    random: np.random.Generator, habit: str, seen: Any, truth: Any, action: Any, latency_s: Any
) -> tuple[Any, Any]:
    n = len(seen)
    coin, progress = random.random(n), np.arange(n) / n
    value = seen.copy()
    if habit == "always-yes":
        value[:] = True
    elif habit == "random":
        value = coin < 0.5
    elif habit == "inverted":
        value = ~seen
    elif habit == "fast":
        quick = coin < 0.5
        value = np.where(quick, random.random(n) < 0.5, seen)
        latency_s = np.where(quick, 0.05 * latency_s, latency_s)
    elif habit == "repeats":
        for i in range(1, n):
            value[i] = value[i - 1] if coin[i] < 0.6 else seen[i]
    elif habit == "favours-1":
        value = np.where(coin < 0.7, action == 1, seen)
    elif habit == "lenient":
        value = seen | (coin < 0.8)
    elif habit == "severe":
        value = seen & (coin > 0.8)
    elif habit == "drifts":
        # no more and more seldom, then yes more and more often
        lean = 0.8 * (2 * progress - 1)
        value = np.where(lean < 0, seen & (coin > -lean), seen | (coin < lean))
    elif habit == "tires":
        value = np.where(coin < 0.8 * progress, ~truth, truth)
    elif habit in ("leans", "contrasts"):
        # the error of one answer is carried to the next, or turned round
        turn = 1 if habit == "leans" else -1
        error = (random.random(n) < 0.6).astype(int) * np.where(random.random(n) < 0.5, 1, -1)
        for i in range(1, n):
            error[i] = turn * error[i - 1] if coin[i] < 0.85 else error[i]
        value = np.where(error == 1, True, np.where(error == -1, False, truth))
    return value.astype(float), latency_s


def scales(
    random: np.random.Generator, raters: Sequence[tuple[str, str]], n_ratings: int, per_item: int
) -> Columns:
    """Return five labels, 0 to 4."""
    n_items = n_ratings * len(raters) // per_item
    truth = random.integers(0, 5, n_items)
    parts = []
    for number, (_, habit) in enumerate(raters):
        item = random.permutation(n_items)[:n_ratings]
        seen = truth[item] + random.normal(0, 0.7, n_ratings)
        if habit == "middle":
            seen = 2 + 0.4 * (seen - 2)
        elif habit == "ends":
            seen = np.where(seen > 2, 4, 0)
        elif habit == "high":
            seen = seen + 1
        value = np.clip(np.round(seen), 0, 4)
        parts.append(_part(number, item, value.astype(float), np.exp(random.normal(1, 0.4, n_ratings))))
    return _columns(raters, parts)


def comparisons(
    random: np.random.Generator,
    raters: Sequence[tuple[str, str]],
    n_ratings: int,
    per_item: int,
    *,
    randomised: bool = True,
) -> Columns:
    """Return preferences between steps of one env; the better is shown first more often unless randomised.

    Two runs of ten steps each; a tenth of the answers are ties.
    """  # fmt: skip
    n_items = n_ratings * len(raters) // per_item
    better = random.normal(0, 1, n_items)  # of the segment named first
    parts = []
    for number, (_, habit) in enumerate(raters):
        item = random.permutation(n_items)[:n_ratings]
        tendency = 0.5 if randomised else 1 / (1 + np.exp(-2 * better[item]))
        swapped = random.random(n_ratings) >= tendency
        d = np.where(swapped, -better[item], better[item])
        bias = 1.5 if habit == "first" else 0.0
        first = random.random(n_ratings) < 1 / (1 + np.exp(-(2 * d + bias)))
        tie = random.random(n_ratings) < (0.6 if habit == "ties" else 0.1)
        value = np.where(tie, 0.5, np.where(swapped, ~first, first).astype(float))
        part = _part(number, item, value, np.exp(random.normal(1, 0.4, n_ratings)))
        parts.append(part | {"swapped": swapped})
    columns = _columns(raters, parts)
    swapped = np.concatenate([part["swapped"] for part in parts])
    n = len(columns["item_number"])
    named = [f"a{i:06d}" for i in columns["item_number"]], [f"b{i:06d}" for i in columns["item_number"]]
    columns["kind"] = ["comparison"] * n
    columns["n_steps"] = [1] * n
    columns["episode_id"] = np.where(swapped, named[1], named[0]).tolist()
    columns["other_episode_id"] = np.where(swapped, named[0], named[1]).tolist()
    columns["step"] = columns["other_step"] = [0] * n
    # stored from the side shown first
    columns["value"] = np.where(swapped, 1 - columns["value"], columns["value"])
    columns["better"] = better
    return columns


def criteria(
    random: np.random.Generator, raters: Sequence[tuple[str, str]], n_ratings: int, per_item: int
) -> Columns:
    """Return three objectives on each step, five labels, correlated .4 in truth."""
    n_items = n_ratings * len(raters) // per_item
    overall = random.normal(0, 1, n_items)
    truth = [overall * 0.63 + random.normal(0, 0.77, n_items) for _ in range(3)]
    parts = []
    for number, (_, habit) in enumerate(raters):
        item = random.permutation(n_items)[:n_ratings]
        for objective in range(3):
            seen = overall[item] if habit == "one-impression" else truth[objective][item]
            noise = 0.2 if habit == "one-impression" else 0.5
            value = np.clip(np.round(2 + seen + random.normal(0, noise, n_ratings)), 0, 4)
            part = _part(number, item, value, np.exp(random.normal(1, 0.4, n_ratings)))
            part["row"] = part["row"] * 3 + objective
            parts.append(part | {"objective": [f"goal-{objective}"] * n_ratings})
    columns = _columns(raters, parts)
    columns["objective"] = [one for part in parts for one in part["objective"]]
    return columns


def connect(
    columns: Mapping[str, Any], connection: duckdb.DuckDBPyConnection | None = None
) -> duckdb.DuckDBPyConnection:
    """Return a panel that holds the log, and nothing else."""
    found = audit_panel.connect() if connection is None else connection
    for table in ("usable_for_audit", "steps"):
        found.execute(f"DELETE FROM {table}")
    add(found, columns)
    return found


def add(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, Any], log: str = "") -> None:
    """Put a log beside others that share nothing with it: ``log`` opens its raters' and episodes' names."""
    apart = ("action", "better", "item_number")
    stored = {key: list(value) for key, value in columns.items() if key not in apart}
    named = {key: f"concat('{log}', {key})" for key in ("rater_id", "episode_id", "other_episode_id")}
    connection.register("given", pa.table(stored))
    listed = ", ".join(f'"{name}"' for name in stored)
    selected = ", ".join(named.get(name, f'"{name}"') for name in stored)
    connection.execute(f"INSERT INTO usable_for_audit ({listed}) SELECT {selected} FROM given")
    connection.unregister("given")
    if "action" in columns:
        _add_steps(connection, columns["action"], f"printf('{log}e%06d', i // 50), i % 50, x, NULL")
    if "better" in columns:
        _add_steps(connection, columns["better"], f"printf('{log}a%06d', i), 0, NULL, x")
        _add_steps(connection, columns["better"], f"printf('{log}b%06d', i), 0, NULL, 0")


def _add_steps(connection: duckdb.DuckDBPyConnection, x: Any, selected: str) -> None:
    connection.register("given", pa.table({"i": np.arange(len(x)), "x": x}))
    connection.execute(
        f"""INSERT INTO steps (episode_id, step, action, env_reward, env_id)
        SELECT {selected}, 'Sim-v0' FROM given"""
    )
    connection.unregister("given")


def _part(number: int, item: Any, value: Any, latency_s: Any) -> Columns:
    return {
        "number": np.full(len(item), number), "item_number": item, "value": value, "latency_s": latency_s,
        "row": np.arange(len(item)),
    }  # fmt: skip


def _columns(raters: Sequence[tuple[str, str]], parts: Sequence[Columns]) -> Columns:
    joined = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if name not in ("objective", "swapped")
    }
    number, item = joined.pop("number"), joined["item_number"]
    half = joined["row"] > np.max(joined["row"]) / 2
    rater_names = np.array([name for name, _ in raters], dtype=object)
    return joined | {
        "rater_id": rater_names[number].tolist(),
        "session_n": (1 + 2 * number + half).tolist(),
        "kind": ["rating"] * len(item), "objective": ["correct"] * len(item), "n_steps": [1] * len(item),
        "episode_id": [f"e{i // 50:06d}" for i in item], "step": (item % 50).tolist(),
    }  # fmt: skip
