"""What the ledger costs: a commitment a file beside a commitment a row; and how fast a log is verified.

Run from a checkout: ``python -m benchmarks.ledger [ROWS]``, 10 million by default. The rows are random, those
of 200 raters in two sessions each. Those compared take turns, and the best of five runs is shown, in the
processor's seconds, which a busy machine changes little. `pymerkle` is measured if it is installed. Nothing
is counted of turning rows into bytes for the others.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import canonical, schema, types, verification
from rlhf_audit.consent import register, terms
from rlhf_audit.log import answers, compaction, keys, merkle, store
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import SeededEntropy, generator

RATERS, SESSIONS, RUNS = 200, 2, 5
SAMPLE = 25_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ROW_BYTES = 150
"""About what a row's canonical bytes are."""


def main(n_rows: int = 10_000_000) -> None:
    sealing()
    with tempfile.TemporaryDirectory() as folder:
        log, raters = _log(Path(folder) / "log")
        per_session = n_rows // (RATERS * SESSIONS)
        for number in range(RATERS * SESSIONS):
            _session(log, raters[number % RATERS], f"s-{number + 1:04d}", per_session)
        verifying(log, per_session * RATERS * SESSIONS, "as sealed")
        compaction.compact(log)
        verifying(log, per_session * RATERS * SESSIONS, "merged: rows read too")


def sealing() -> None:
    """Print what each way of committing to rows costs a row."""
    table = _rows("s-0001", SAMPLE)
    raw = generator(0, "bytes").integers(0, 256, SAMPLE * ROW_BYTES, np.uint8).tobytes()
    rows = [raw[n : n + ROW_BYTES] for n in range(0, len(raw), ROW_BYTES)]
    with tempfile.TemporaryDirectory() as folder:
        log, (rater_id, *_) = _log(Path(folder) / "log", 1)
        key = keys.read(log.layout, rater_id)
        facts = answers.write(log, "s-0001", key, table)
        path = log.layout.root / facts["path"]
        ways: list[tuple[str, int, Callable[[], object]]] = [
            ("ours: two HMACs a file, encoding too", SAMPLE, lambda: _ours(key, path, table)),
            ("SHA-256 chain over rows", SAMPLE, lambda: _chain(rows)),
            ("RFC 6962 leaf a row, and the root", SAMPLE, lambda: _tree(rows)),
            ("Ed25519 signature a row", 1_000, lambda: [KEY.sign(row) for row in rows[:1_000]]),
        ]
        if importlib.util.find_spec("pymerkle"):
            ways.append(("pymerkle leaf a row", 5_000, lambda: _pymerkle(rows[:5_000])))
        taken: list[list[float]] = [[] for _ in ways]
        for _ in range(RUNS):
            for (_, _, act), times in zip(ways, taken, strict=True):
                times.append(_timed(act))
    print(f"{'commitment':<40}{'µs a row':>10}")
    for (name, count, _), times in zip(ways, taken, strict=True):
        print(f"{name:<40}{1e6 * min(times) / count:>10.3f}")


def verifying(log: Log, n_rows: int, what: str) -> float:
    """Print and return how many rows a second `verify` gets through, on all cores; print it of one, too."""
    taken, used = [], []
    for _ in range(RUNS):
        begin, cpu = time.perf_counter(), time.process_time()
        found = verification.verify(log.layout.root)
        taken.append(time.perf_counter() - begin)
        used.append(time.process_time() - cpu)
        assert found.ok, found.problems[:3]
    rates = f"{n_rows / min(taken):,.0f} rows/s ({n_rows / min(used):,.0f} a second of one processor)"
    print(f"verify, {n_rows:,} rows of {RATERS} raters, {what}: {rates}")
    return n_rows / min(taken)


def _ours(key: keys.RaterKey, path: Path, table: pa.Table) -> None:
    key_bytes = canonical.table_bytes(table)
    canonical.hmac_hex(key.mac_key, "rows", key_bytes)
    key.file_mac(path)


def _chain(rows: Sequence[bytes]) -> bytes:
    head = b""
    for row in rows:
        head = hashlib.sha256(head + row).digest()
    return head


def _tree(rows: Sequence[bytes]) -> bytes:
    return merkle.root([merkle.leaf_hash(row) for row in rows])


def _pymerkle(rows: Sequence[bytes]) -> object:
    from pymerkle import InmemoryTree

    tree = InmemoryTree(algorithm="sha256")
    for row in rows:
        tree.append_entry(row)
    return tree.get_state()


def _timed(act: Callable[[], object]) -> float:
    begin = time.process_time()
    act()
    return time.process_time() - begin


def _log(root: Path, n_raters: int = RATERS) -> tuple[Log, list[str]]:
    log = store.create(root, entropy=SeededEntropy(1), signing_key=KEY)
    terms.add(log)
    raters = []
    for _ in range(n_raters):
        rater_id, _ = register.enrol(log, "", {}, "oracle")
        register.give(log, rater_id, [types.Purpose.AUDIT], "scripted")
        raters.append(rater_id)
    return log, raters


def _session(log: Log, rater_id: str, session_id: str, n_rows: int) -> None:
    """Seal answers as a session does, without anything that they are about."""
    key = keys.read(log.layout, rater_id)
    file = answers.write(log, session_id, key, _rows(session_id, n_rows))
    counts = {"n_episodes": 0, "n_steps": 0, "n_feedback": n_rows}
    facts = {"session_id": session_id, "rater_id": rater_id, "learn": None, "files": [file], **counts}
    log.append("session", facts)


def _rows(session_id: str, n: int) -> pa.Table:
    draws = generator(int(session_id[2:]), "rows")
    steps = np.sort(draws.integers(0, 500, n))
    shown = 1_700_000_000_000_000 + np.cumsum(draws.integers(300_000, 9_000_000, n))
    latency = draws.integers(200_000, 3_000_000, n)
    episodes = pa.array([f"{session_id}-{number:06d}" for number in range(n // 40 + 1)])
    columns = {
        "session_id": pa.array([session_id]).take(pa.array(np.zeros(n, np.int64))),
        "row": np.arange(n),
        "episode_id": episodes.take(pa.array(np.arange(n) // 40)),
        "step": steps,
        "kind": pa.array(["rating"]).take(pa.array(np.zeros(n, np.int64))),
        "value": draws.integers(0, 2, n).astype(float),
        "objective": pa.array(["correct"]).take(pa.array(np.zeros(n, np.int64))),
        "other_episode_id": pa.nulls(n, pa.string()),
        "other_step": pa.nulls(n, pa.int64()),
        "n_steps": np.ones(n, np.int64),
        "action": pa.nulls(n, pa.int64()),
        "consent": np.ones(n, bool),
        "grant_id": pa.array(["g-00000001"]).take(pa.array(np.zeros(n, np.int64))),
        "shown_at": pa.array(shown, pa.timestamp("us", "UTC")),
        "answered_at": pa.array(shown + latency, pa.timestamp("us", "UTC")),
        "latency_s": latency / 1e6,
        "position": np.arange(n),
        "supersedes": pa.nulls(n, pa.int64()),
    }
    return pa.table(columns).cast(schema.FEEDBACK)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*map(int, sys.argv[1:]))
