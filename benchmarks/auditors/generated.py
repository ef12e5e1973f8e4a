"""A log of any number of ratings by 200 raters, as a team leaves it: recorded steps, each rated by five.

The steps are recorded by the package's own recorder; the answers are drawn from a seed and sealed in bulk, by
the package's own sealing. A few raters are biased, so that audits have something to find.
"""

from pathlib import Path

import gymnasium
import numpy as np
import pyarrow as pa

from benchmarks.erasers.generated import KEY, sealed
from rlhf_audit import schema
from rlhf_audit.consent import register, terms
from rlhf_audit.log import store, views
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.types import Purpose

N_RATERS = 200
N_EACH = 5
"""Raters of an item."""
_ROUNDS = 4
"""How often the whole team rates: each rater's sessions are five times as many."""
_SESSION_STEPS = 500_000


def log(folder: Path, n_ratings: int) -> Log:
    """Write the log of ``n_ratings`` ratings, a multiple of 4,000; return it."""
    made = store.create(folder, signing_key=KEY)
    terms.add(made)
    with made.writing():
        raters = [_enrolled(made, number) for number in range(N_RATERS)]
        steps = _recorded(made, raters[0], n_ratings // N_EACH)
        facts = next(made.ledger.of("session")).body
        grants = {entry.body["rater_id"]: entry.body["grant_id"] for entry in made.ledger.of("consent")}
        rng = np.random.default_rng(7)
        now_us = int(made.clock.now().timestamp() * 1e6)
        bodies, first = [], len(list(made.ledger.of("session"))) + 1
        n_blocks = N_RATERS * _ROUNDS
        # Each block of steps is rated by the next five raters of a shuffled team: everybody meets everybody.
        order = np.concatenate([rng.permutation(N_RATERS) for _ in range(_ROUNDS * N_EACH)])
        for number, rater in enumerate(order):
            block = steps.slice(*_block(number // N_EACH, n_blocks, steps.num_rows))
            session_id, rater_id = f"s-{first + number:04d}", raters[rater]
            table = answers(rng, session_id, grants[rater_id], block, int(rater), now_us)
            bodies.append(("session", sealed(made, facts, rater_id, session_id, table)))
        made.ledger.append(made.signing_key, made.clock, bodies)
    return made


def answers(
    rng: np.random.Generator, session_id: str, grant_id: str, steps: pa.Table, rater: int, first_us: int
) -> pa.Table:
    """Return what a rater answers to these steps; of each twenty one is lenient, one constant, one fast."""
    n = steps.num_rows
    quality = steps["truth"].to_numpy()
    value = np.where(rng.random(n) < 0.85, quality, 1 - quality)
    if rater % 20 == 1:
        value = np.where(rng.random(n) < 0.6, 1.0, value)
    if rater % 20 == 2:
        value = np.ones(n)
    shown = first_us + np.cumsum(rng.integers(800_000, 1_200_000, n))
    latency = (rng.lognormal(0.7, 0.5, n) * (0.05 if rater % 20 == 3 else 1.0) * 1e6).astype(np.int64)
    columns = {
        "session_id": pa.repeat(session_id, n),
        "row": np.arange(n),
        "episode_id": steps["episode_id"],
        "step": steps["step"],
        "kind": pa.repeat("rating", n),
        "value": value,
        "objective": pa.repeat("correct", n),
        "n_steps": np.ones(n, np.int64),
        "consent": np.ones(n, bool),
        "grant_id": pa.repeat(grant_id, n),
        "shown_at": pa.array(shown).cast(schema.FEEDBACK.field("shown_at").type),
        "answered_at": pa.array(shown + latency).cast(schema.FEEDBACK.field("answered_at").type),
        "latency_s": latency / 1e6,
        "position": np.arange(n),
    }
    arrays = [columns.get(field.name, pa.nulls(n, field.type)) for field in schema.FEEDBACK]
    return pa.table(dict(zip(schema.FEEDBACK.names, arrays, strict=True)), schema=schema.FEEDBACK)


def _enrolled(made: Log, number: int) -> str:
    groups = {"language": "en" if number % 2 else "fr", "site": "abcd"[number % 4]}
    rater_id, _ = register.enrol(made, groups=groups, scripted="oracle")
    register.give(made, rater_id, (Purpose.TRAINING, Purpose.AUDIT), "scripted")
    return rater_id


def _recorded(made: Log, rater_id: str, n_steps: int) -> pa.Table:
    """Record steps of CartPole; return their ``episode_id``, ``step`` and a ``truth`` to be rated."""
    rng = np.random.default_rng(8)
    for start in range(0, n_steps, _SESSION_STEPS):
        with Recorder(gymnasium.make("CartPole-v1"), made, rater_id, seed=start) as env:
            env.reset()
            for action in rng.integers(0, 2, min(n_steps - start, _SESSION_STEPS)).tolist():
                if any(env.step(action)[2:4]):
                    env.reset()
    with views.connect(made, made.clock.now()) as connection:
        table = views.query(
            connection, "SELECT episode_id, step FROM steps ORDER BY session_id, episode_id, step"
        )
    return table.append_column("truth", pa.array((rng.random(n_steps) < 0.6).astype(np.float64)))


def _block(number: int, n_blocks: int, n_steps: int) -> tuple[int, int]:
    start, end = (n_steps * one // n_blocks for one in (number, number + 1))
    return start, end - start
