"""What sealing costs: the answers of one rater written and read, in clear and encrypted, in turns.

Run from a checkout: ``python -m benchmarks.encryption [ROWS]``. The best of five runs of each is shown.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption as parquet_encryption

from rlhf_audit import canonical, schema
from rlhf_audit.log import encryption, sealing, view_sql, viewed
from rlhf_audit.seeds import generator

RUNS = 5
_CIPHER = encryption.Cipher(bytes(range(32)))
_CLEAR = {"compression": "zstd", "use_dictionary": False, "store_schema": False}
_OPTIONS = {False: _CLEAR, True: {**_CLEAR, **_CIPHER.parquet()}}
_QUERY = "SELECT kind, count(*), sum(value), min(latency_s) FROM rows WHERE position % 2 = 1 GROUP BY kind"


def main() -> None:
    n_rows = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    table = _answers(n_rows)
    with tempfile.TemporaryDirectory() as folder:
        files = {
            sealed: Path(folder) / str(sealed) / "feedback" / "rater_id=r-00000000" / "s-0001.parquet"
            for sealed in (False, True)
        }
        for path in files.values():
            path.parent.mkdir(parents=True)
        steps: Mapping[str, Callable[[bool], object]] = {
            "write (what sealing a session does)": lambda sealed: sealing.write(
                files[sealed], table, table.schema, **_OPTIONS[sealed]
            ),
            "commitment to the rows, for comparison": lambda _: canonical.hmac_hex(
                bytes(32), "rows", canonical.table_bytes(table)
            ),
            "read by pyarrow": lambda sealed: _read(files[sealed], sealed=sealed),
            "query by the log's view": lambda sealed: _query(files[sealed], sealed=sealed),
        }
        print(f"{n_rows:,} rows{'':<30}{'clear, s':>10}{'sealed, s':>11}{'x':>6}")
        for name, step in steps.items():
            clear, sealed = _in_turns(step)
            print(f"{name:<42}{clear:>8.3f}{sealed:>11.3f}{sealed / clear:>6.2f}")
        clear, sealed = (files[sealed].stat().st_size for sealed in (False, True))
        print(f"{'bytes a row':<42}{clear / n_rows:>8.2f}{sealed / n_rows:>11.2f}{sealed / clear:>6.2f}")


def _answers(n: int) -> pa.Table:
    draws = generator(0, "benchmark")
    start = datetime(2026, 3, 4, tzinfo=UTC)
    times = pa.array(
        np.datetime64(start.replace(tzinfo=None), "us") + np.cumsum(draws.integers(1, 9_000_000, n))
    )
    times = times.cast(pa.timestamp("us", tz="UTC"))
    given = {
        "session_id": pa.repeat("s-0001", n),
        "row": pa.array(np.arange(n)),
        "episode_id": pa.array([f"s-0001-e{number // 200:04d}" for number in range(n)]),
        "step": pa.array(np.arange(n) % 200),
        "kind": pa.repeat("rating", n),
        "value": pa.array(draws.integers(0, 2, n).astype(float)),
        "objective": pa.repeat("", n),
        "n_steps": pa.repeat(pa.scalar(1, pa.int64()), n),
        "consent": pa.repeat(pa.scalar(True), n),
        "grant_id": pa.repeat("g-0001", n),
        "shown_at": times,
        "answered_at": times,
        "latency_s": pa.array(draws.gamma(2.0, 0.7, n)),
        "position": pa.array(np.arange(n)),
    }
    columns = [given.get(field.name, pa.nulls(n, field.type)) for field in schema.FEEDBACK]
    return pa.table(columns, names=schema.FEEDBACK.names).cast(schema.FEEDBACK)


def _read(path: Path, *, sealed: bool) -> int:
    key = parquet_encryption.create_decryption_properties(_CIPHER.key) if sealed else None
    return int(pq.ParquetFile(path, decryption_properties=key).read(use_threads=False).num_rows)


def _query(path: Path, *, sealed: bool) -> list[tuple[object, ...]]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"PRAGMA add_parquet_key('r-00000000', '{_CIPHER.name_in_sql}')")
        (select,) = view_sql.selects(viewed.Kind("feedback_rows"), [path], sealed=sealed)
        connection.execute(f"CREATE VIEW rows AS {select}")
        return connection.sql(_QUERY).fetchall()


def _in_turns(step: Callable[[bool], object]) -> tuple[float, float]:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(RUNS):
        for sealed, taken in seconds.items():
            begin = time.perf_counter()
            step(sealed)
            taken.append(time.perf_counter() - begin)
    return min(seconds[False]), min(seconds[True])


if __name__ == "__main__":
    main()
