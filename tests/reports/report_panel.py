"""A simulated panel of raters, as DuckDB tables that stand in for the views of a log."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from rlhf_audit.log.ledger import Head
from rlhf_audit.reports.facts import Counts, LogFacts
from rlhf_audit.seeds import generator

START = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
HEAD = Head(41, "5f" * 32)
AS_OF = START + timedelta(days=40)
FACTS = LogFacts("log", HEAD, 1, None, Counts(0, 0, 0, 0, 0, 0, 0))
HOSTILE = (
    '"></code></title><script src="https://evil.example/x.js">alert(1)</script><svg onload=x>\x1b[2J\u202egnp'
)

USED = START + timedelta(days=4)
"""After the last grant, and before the first withdrawal."""

_TABLES = {
    "feedback": """rater_id VARCHAR, session_id VARCHAR, session_n BIGINT, "row" BIGINT, episode_id VARCHAR,
        step BIGINT, item VARCHAR, kind VARCHAR, value DOUBLE, objective VARCHAR, consent BOOLEAN,
        grant_id VARCHAR, shown_at TIMESTAMPTZ, answered_at TIMESTAMPTZ, latency_s DOUBLE, "position" BIGINT,
        supersedes BIGINT, other_episode_id VARCHAR, other_step BIGINT, n_steps BIGINT, action BIGINT""",
    "steps": """session_id VARCHAR, episode_id VARCHAR, step BIGINT, observation FLOAT[], action BIGINT,
        action_probability FLOAT, env_reward DOUBLE, terminated BOOLEAN, truncated BOOLEAN, env_id VARCHAR""",
    "episodes": """session_id VARCHAR, session_n BIGINT, episode_id VARCHAR, episode BIGINT, env_id VARCHAR,
        reset_seed BIGINT, n_steps BIGINT""",
    "gold": "episode_id VARCHAR, step BIGINT, value DOUBLE",
    "raters": "rater_id VARCHAR, scripted VARCHAR, enrolled_at TIMESTAMPTZ, groups MAP(VARCHAR, VARCHAR)",
    "grants": """grant_id VARCHAR, rater_id VARCHAR, state VARCHAR, terms_sha256 VARCHAR, purposes VARCHAR[],
        method VARCHAR, given_at TIMESTAMPTZ, expires_at TIMESTAMPTZ, asked_purposes VARCHAR[],
        given_by VARCHAR""",
    "withdrawals": """rater_id VARCHAR, purposes VARCHAR[], withdrawn_at TIMESTAMPTZ, erase_by TIMESTAMPTZ,
        erased_at TIMESTAMPTZ, overdue BOOLEAN, held BOOLEAN""",
    "policies": """name VARCHAR, weights_sha256 VARCHAR, algorithm VARCHAR, rows BIGINT, rater_ids VARCHAR[],
        trained_at TIMESTAMPTZ, state VARCHAR, path VARCHAR""",
    "policy_rows": 'name VARCHAR, path VARCHAR, rater_id VARCHAR, "rows" BIGINT',
    "reports": "path VARCHAR, rater_ids VARCHAR[], made_at TIMESTAMPTZ, state VARCHAR",
    "exports": """path VARCHAR, rater_ids VARCHAR[], made_at TIMESTAMPTZ, state VARCHAR, purpose VARCHAR,
        told_at TIMESTAMPTZ, recipient VARCHAR""",
    "erasures": "rater_id VARCHAR, begun_at TIMESTAMPTZ, erased_at TIMESTAMPTZ, halted BOOLEAN",
    "files": 'path VARCHAR, rater_id VARCHAR, "rows" BIGINT',
    "terms": "terms_sha256 VARCHAR, version BIGINT, added_at TIMESTAMPTZ, newest BOOLEAN",
    "returned": "kind VARCHAR, n BIGINT",
}

Label = Callable[[bool, int, float, np.random.Generator], bool]
"""truth of the step, action, share of the work done, generator -> yes?"""


def _careful(error: float) -> Label:
    return lambda truth, action, done, draw: truth != (draw.random() < error)


_HABITS: dict[str, Label] = {
    "always-yes": lambda truth, action, done, draw: True,
    "severe": lambda truth, action, done, draw: truth and draw.random() < 0.45,
    "random": lambda truth, action, done, draw: bool(draw.random() < 0.5),
    "favours-1": lambda truth, action, done, draw: (truth != (draw.random() < 0.08)) or action == 1,
    "tires": lambda truth, action, done, draw: truth or bool(draw.random() < done),
    "fast": lambda truth, action, done, draw: truth != (draw.random() < 0.3),
}


class Panel:
    """Rows by table, made from ``seed`` alone; ``connect`` may shuffle them."""

    def __init__(self, n_raters: int = 12, n_steps: int = 240, seed: int = 7, habits: bool = True) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _TABLES}
        draw = generator(seed, "panel")
        self.rater_ids = [f"r-{draw.bytes(4).hex()}" for _ in range(n_raters)]
        self.habit = dict(zip(self.rater_ids, _HABITS if habits else (), strict=False))
        self._trajectories(n_steps, draw)
        for number, rater_id in enumerate(self.rater_ids):
            self._rate(number, rater_id, draw)
        if n_raters >= 10:
            self._trouble()
        if n_raters:
            facts = ("agreeable", "ab" * 32, "reward-model", 900, self.rater_ids, USED, "current")
            self.rows["policies"].append((*facts, "../policies/agreeable"))
            for rater_id in self.rater_ids:
                self.rows["policy_rows"].append(
                    ("agreeable", "../policies/agreeable", rater_id, 900 // n_raters)
                )

    def connect(self, shuffle: int | None = None) -> duckdb.DuckDBPyConnection:
        """Return a connection with the tables; ``shuffle`` seeds another order of every table's rows."""
        connection = duckdb.connect(config={"threads": 2})
        gone = set(self._unusable())
        for name, columns in _TABLES.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
            rows = list(self.rows[name])
            if shuffle is not None:
                order = generator(shuffle, name).permutation(len(rows))
                rows = [rows[place] for place in order]
            if rows:
                columns = [pa.array(column) for column in zip(*rows, strict=True)]
                connection.register("given", pa.table(columns, [str(place) for place in range(len(columns))]))
                connection.execute(f"INSERT INTO {name} SELECT * FROM given")
        names = ",".join(f"'{rater_id}'" for rater_id in gone) or "''"
        for view, kinds in (("usable_for_audit", "kind <> 'skip'"), ("skips_for_audit", "kind = 'skip'")):
            connection.execute(
                f"""CREATE VIEW {view} AS SELECT * FROM feedback given
                WHERE rater_id NOT IN ({names}) AND {kinds} AND NOT EXISTS (
                  SELECT 1 FROM feedback later
                  WHERE later.session_id = given.session_id AND later.supersedes = given."row")"""
            )
        return connection

    def _unusable(self) -> list[str]:
        return [row[0] for row in self.rows["withdrawals"] if "audit" in row[1]]

    def _trajectories(self, n_steps: int, draw: np.random.Generator) -> None:
        self.truth: dict[tuple[str, int], tuple[bool, int]] = {}
        length = 40
        for episode in range(n_steps // length):
            name = f"e-{episode:03d}"
            self.rows["episodes"].append(("s-0000", 0, name, episode, "CartPole-v1", episode, length))
            for step in range(length):
                action = int(draw.integers(2))
                hard = 0.3 + 0.4 * step / length
                self.truth[name, step] = (bool(draw.random() < 1 - hard), action)
                self.rows["steps"].append(
                    ("s-0000", name, step, [0.0], action, 0.5, 1.0, step == length - 1, False, "CartPole-v1")
                )

    def _rate(self, number: int, rater_id: str, draw: np.random.Generator) -> None:
        habit = self.habit.get(rater_id)
        label = _HABITS[habit] if habit else _careful(0.06 + 0.01 * (number % 5))
        scripted = {"always-yes": "always-yes", "favours-1": "favours-1"}.get(habit or "")
        given = START + timedelta(days=number % 4)
        self.rows["raters"].append((rater_id, scripted, given, None))
        self.rows["grants"].append(
            (
                *(f"g-{number:03d}", rater_id, "given", "cd" * 32, ["training", "audit"], "terminal"),
                *(given, given + timedelta(days=365), ["training", "audit"], None),
            )
        )
        for row, ((episode, step), (truth, action)) in enumerate(self.truth.items()):
            shown = given + timedelta(seconds=5 * row)
            latency = round(float(np.exp(draw.normal(-1.6 if habit == "fast" else 1.0, 0.4))), 3)
            value = float(label(truth, action, row / len(self.truth), draw))
            self.rows["feedback"].append(
                (
                    *(rater_id, f"s-{number + 1:04d}", number + 1, row, episode, step, f"{episode}:{step}"),
                    *("rating", value, "correct", True, f"g-{number:03d}", shown),
                    *(shown + timedelta(seconds=latency), latency, row, None, None, None, 1, None),
                )
            )
        path = f"feedback/rater_id={rater_id}/s-{number + 1:04d}.parquet"
        self.rows["files"].append((path, rater_id, len(self.truth)))

    def _trouble(self) -> None:
        """One each: withdrawn and overdue, withdrawn, erased, withdrawn from training only, expired."""
        overdue, pending, erased, partly, expired = self.rater_ids[-5:]
        self.overdue, self.pending, self.erased, self.partly = overdue, pending, erased, partly
        self.expired = expired
        everything = ["training", "audit", "publication"]
        for rater_id, purposes, day, late in (
            (overdue, everything, 5, True),
            (pending, everything, 35, False),
            (partly, ["training"], 30, False),
        ):
            at = START + timedelta(days=day)
            self.rows["withdrawals"].append(
                (rater_id, purposes, at, at + timedelta(days=30), None, late, False)
            )
        self.rows["erasures"].append((erased, START + timedelta(days=8), START + timedelta(days=8), False))
        for name, place in (("feedback", 0), ("raters", 0), ("grants", 1), ("files", 1)):
            self.rows[name] = [row for row in self.rows[name] if row[place] != erased]
        grants = {row[1]: row for row in self.rows["grants"]}
        for rater_id, state in ((overdue, "withdrawn"), (pending, "withdrawn"), (expired, "expired")):
            row = list(grants[rater_id])
            row[2] = state
            row[7] = row[6] + timedelta(days=12) if state == "expired" else row[7]
            grants[rater_id] = tuple(row)
        self.rows["grants"] = list(grants.values())
        self.rows["exports"].append(
            ("exports/flat-parquet", [overdue, partly], USED, "current", "training", USED, None)
        )


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours, ``#rrggbb``."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def receipt(**changes: Any) -> dict[str, Any]:
    """Return an unsigned receipt with an empty seal, as the erasure makes it."""
    return {
        "schema": "rlhf_audit.receipt/1",
        "receipt_id": "e-9c41d2",
        "log_id": "0123456789abcdef",
        "rater_id": "r-7f3a9c21",
        "requested_at": "2026-03-04T09:00:00.000000Z",
        "completed_at": "2026-03-04T09:12:31.000000Z",
        "deleted": {
            "rows": 1310,
            "files": 4,
            "policies": [
                {"name": "agreeable", "before": "ab" * 32, "after": "cd" * 32, "outcome": "retrained"},
                {
                    "name": "lonely",
                    "before": "ef" * 32,
                    "after": None,
                    "outcome": "removed: nobody else taught it",
                },
            ],
            "reports": ["reports/2026-03"],
            "journals": 0,
        },
        "stays": [
            {
                "what": "How many answers you gave, and when",
                "why": "The record of events is sealed as a whole; it holds counts and your code, no answer.",
            },
            {
                "what": "Backups on other media",
                "why": "They are outside our reach; a restored one is refused.",
            },
        ],
        "exports": [{"path": "exports/flat-parquet", "recipient": "University of Somewhere"}],
        "residue_scan": {"bytes": 1834120, "structures": 37, "found": 0},
        "log_head": {"size": 52, "root": "6a" * 32},
        "signature": {"algorithm": "Ed25519", "public_key": "0a" * 32, "value": "0b" * 64},
    } | changes
