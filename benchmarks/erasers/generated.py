"""A log of many scripted raters, as large as asked for: by the package's own sealing, in bulk.

The raters rate one recorded session again and again. They are marked scripted; their answers are drawn from
a seed, shown and answered at times of microseconds, so that the files are as large as people's.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import schema
from rlhf_audit.consent import register, terms
from rlhf_audit.log import answers as sealed_answers
from rlhf_audit.log import keys, store
from rlhf_audit.log.store import Log
from rlhf_audit.recording.record import Request, record
from rlhf_audit.types import Purpose

N_RATERS = 200
N_SESSIONS = 20
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_BEGAN_US = 1_767_225_600_000_000


def log(folder: Path, n_rows: int) -> tuple[Log, list[str]]:
    """Return a log of ``n_rows`` answers, by 200 raters in 20 sessions each, and the raters."""
    made = store.create(folder, signing_key=KEY)
    terms.add(made)
    with made.writing():
        raters = [_enrolled(made) for _ in range(N_RATERS)]
        record(made, Request(raters[0], "scripted:oracle", "CartPole-v1", ask_every=5, max_feedback=20))
        facts = next(made.ledger.of("session")).body
        rng = np.random.default_rng(7)
        bodies = []
        n_each = n_rows // (N_RATERS * N_SESSIONS)
        grants = {entry.body["rater_id"]: entry.body["grant_id"] for entry in made.ledger.of("consent")}
        # Session by session, as a team of raters works, not rater by rater.
        for number in range(N_RATERS * N_SESSIONS):
            rater_id = raters[number % N_RATERS]
            session_id = f"s-{number + 2:04d}"
            table = answers(rng, session_id, grants[rater_id], n_each)
            bodies.append(("session", sealed(made, facts, rater_id, session_id, table)))
        made.ledger.append(made.signing_key, made.clock, bodies)
    return made, raters


def parts(n_rows: int) -> Iterator[tuple[str, pa.Table]]:
    """Yield the same rows for other stores: whose, and a session's, in the order of time."""
    rng = np.random.default_rng(7)
    for number in range(N_RATERS * N_SESSIONS):
        rater_id = f"r-{number % N_RATERS:08x}"
        table = answers(rng, f"s-{number + 2:04d}", "g-0001", n_rows // (N_RATERS * N_SESSIONS))
        yield rater_id, table


def answers(rng: np.random.Generator, session_id: str, grant_id: str, n: int) -> pa.Table:
    """Return the rows of one session."""
    shown = _BEGAN_US + np.cumsum(rng.integers(800_000, 1_200_000, n))
    latency = rng.integers(300_000, 3_000_000, n)
    columns: Mapping[str, Any] = {
        "session_id": pa.repeat(session_id, n),
        "row": np.arange(n),
        "episode_id": pa.repeat("s-0001-e0000", n),
        "step": np.arange(n) % 20,
        "kind": pa.repeat("rating", n),
        "value": rng.integers(0, 2, n).astype(np.float64),
        "objective": pa.repeat("correct", n),
        "n_steps": np.ones(n, np.int64),
        "consent": np.ones(n, bool),
        "grant_id": pa.repeat(grant_id, n),
        "shown_at": pa.array(shown).cast(schema.FEEDBACK.field("shown_at").type),
        "answered_at": pa.array(shown + latency).cast(schema.FEEDBACK.field("answered_at").type),
        "latency_s": latency / 1e6,
        "position": np.arange(n),
    }
    arrays = [
        pa.array(columns[field.name]) if field.name in columns else pa.nulls(n, field.type)
        for field in schema.FEEDBACK
    ]
    return pa.Table.from_arrays(arrays, schema=schema.FEEDBACK)


def _enrolled(made: Log) -> str:
    rater_id, _ = register.enrol(made, scripted="oracle")
    register.give(made, rater_id, (Purpose.TRAINING,), "scripted")
    return rater_id


def sealed(
    made: Log, facts: Mapping[str, Any], rater_id: str, session_id: str, table: pa.Table
) -> dict[str, Any]:
    """Write a session's file; return the body of its entry."""
    key = keys.read(made.layout, rater_id)
    file = sealed_answers.write(made, session_id, key, table)
    own = {"session_id": session_id, "rater_id": rater_id, "grant_id": table["grant_id"][0].as_py()}
    none = {"n_episodes": 0, "n_steps": 0, "n_feedback": table.num_rows, "rates": "s-0001"}
    return {**facts, **own, **none, "files": [file]}
