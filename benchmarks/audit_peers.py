"""Alpha, all pairwise kappas and Dawid-Skene, beside the libraries that are used for them.

Run from a checkout: ``python -m benchmarks.audit_peers [RATINGS]``, 1 million by default: yes and no of 200
raters, five on each item, three of four right, read from Parquet. One thread each; the best of some runs, in
the processor's seconds: of alpha from the Parquet file to the number, of the others from what each side has
prepared. A library that is not installed is named and left out.

- `krippendorff` is given each item's counts of each label, its fastest way in; and as a table of raters
  by items, with NaN where nobody answered. Building either is counted.
- scikit-learn has no way to ask for all pairs: a loop over pairs, each on the items that both rated. They are
  found twice: as most would write it, in a table of items by raters (pandas' pivot, then dropna of two of its
  columns), and in arrays sorted beforehand, the fastest that we know. A sample of the pairs is timed and the
  rest are taken to cost the same; the pivot itself is not counted.
- crowd-kit's Dawid-Skene is given ten iterations; ours goes on until the likelihood no longer rises by 1e-9.
"""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit.audits import catalogue, prepared, runner
from rlhf_audit.estimators import dawid_skene

RATERS, PER_ITEM, RUNS, SAMPLE = 200, 5, 3, 400
ALPHA = """WITH counts AS (
  SELECT count(*) AS m, sum(value) AS yes FROM ratings GROUP BY episode_id, step HAVING count(*) >= 2
),
alike AS (SELECT m, yes, count(*) AS c FROM counts GROUP BY m, yes),
sums AS (
  SELECT sum(c * m) AS n, sum(c * yes) AS n_yes, sum(c * 2 * yes * (m - yes) / (m - 1)) AS apart FROM alike
)
SELECT 1 - apart * (n - 1) / (2 * n_yes * (n - n_yes)) FROM sums"""
"""Of two labels, and nothing but the number: what the audit's first steps come to."""


def main(n_ratings: int = 1_000_000) -> None:
    """Print each comparison."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.parquet"
        generate(path, n_ratings)
        print(f"{n_ratings:,} ratings of {RATERS} raters; processor's seconds, best of some runs")
        alphas(path)
        kappas(path)
        truths(path)


def generate(path: Path, n_ratings: int) -> None:
    """Write ``rater_id, item, value`` and what else the audits' views need."""
    rng = np.random.default_rng(0)
    n_items = n_ratings // PER_ITEM
    item = np.repeat(np.arange(n_items), PER_ITEM)
    # PER_ITEM different raters: a random one, and others at random multiples of one distance.
    start, stride = rng.integers(0, RATERS, n_items), rng.integers(1, RATERS // PER_ITEM, n_items)
    rater = (start[item] + np.tile(np.arange(PER_ITEM), n_items) * stride[item]) % RATERS
    right = rng.random(len(item)) < 0.75
    truth = rng.integers(0, 2, n_items)[item]
    value = np.where(right, truth, 1 - truth)
    names = pa.array([f"r-{number:08x}" for number in range(RATERS)])
    episodes = pa.array([f"s-{number:04d}-e0000" for number in range(n_items // 1000 + 1)])
    row = np.arange(len(item))
    n = len(item)
    table = pa.table(
        {
            "rater_id": names.take(pa.array(rater)), "session_n": 1 + row // 1000, "row": row % 1000,
            "kind": pa.repeat("rating", n), "objective": pa.repeat("correct", n),
            "episode_id": episodes.take(pa.array(item // 1000)), "step": item % 1000,
            "other_episode_id": pa.nulls(n, pa.string()), "other_step": pa.nulls(n, pa.int64()),
            "n_steps": np.ones(n, np.int64), "value": value.astype(np.float64), "latency_s": np.ones(n),
        }
    )  # fmt: skip
    pq.write_table(table, path)


def best(act: Callable[[], object], runs: int = RUNS) -> tuple[float, object]:
    """Return the least of the processor's seconds, and the last result."""
    least, result = float("inf"), None
    for _ in range(runs):
        begun = time.process_time()
        result = act()
        least = min(least, time.process_time() - begun)
    return least, result


def compare(what: str, ours: float, theirs: float, wanted: str) -> None:
    """Print one line."""
    print(f"{what:<58} {ours:>8.3f} s  {theirs:>9.3f} s  {theirs / ours:>7.1f} times  (wanted: {wanted})")


def _connected(path: Path) -> duckdb.DuckDBPyConnection:
    """Return the audits' views on the file, `items` and `ratings` kept; of pairs nothing is."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"CREATE VIEW usable_for_audit AS SELECT * FROM '{path}'")
    connection.execute("CREATE TABLE steps (episode_id VARCHAR, step BIGINT, action BIGINT, env_id VARCHAR)")
    connection.execute("CREATE TABLE files (path VARCHAR, session_id VARCHAR, rater_id VARCHAR, rows BIGINT)")
    for one in prepared.needed(["ratings", "pair_answers"]):
        made = "TABLE" if one.kept and one.name != "pair_answers" else "VIEW"
        connection.execute(f"CREATE {made} {one.name} AS\n{one.sql}")
    return connection


def _rows(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = pq.read_table(path, columns=["rater_id", "episode_id", "step", "value"], use_threads=False)
    rater = table["rater_id"].combine_chunks().dictionary_encode()
    episode = table["episode_id"].combine_chunks().dictionary_encode()
    item = episode.indices.to_numpy().astype(np.int64) * 1000 + table["step"].to_numpy()
    return item, rater.indices.to_numpy(), table["value"].to_numpy().astype(np.int64)


def alphas(path: Path) -> None:
    """Alpha alone, and the audit with all its coefficients and standard errors."""

    def alone() -> float:
        read = f"WITH ratings AS (SELECT episode_id, step, value FROM '{path}'),"
        return float(fresh.execute(ALPHA.replace("WITH", read, 1)).fetchone()[0])

    # Opened before, as the libraries are imported before.
    with duckdb.connect(config={"threads": 1}) as fresh:
        ours, value = best(alone, 9)
    connection = _connected(path)
    sql = runner.printable_sql(catalogue.find("agreement"))
    audit, rows = best(lambda: connection.execute(sql).fetchall())
    assert abs(dict((row[0], row[2]) for row in rows)["alpha"] - value) < 1e-9
    print(f"  audit `agreement`, six coefficients and their errors, on the prepared ratings: {audit:.3f} s")
    if importlib.util.find_spec("krippendorff") is None:
        print("  krippendorff is not installed: left out")
        return
    import krippendorff

    def counted() -> np.ndarray:
        item, _, value_ = _rows(path)
        _, place = np.unique(item, return_inverse=True)
        return np.bincount(place * 2 + value_, minlength=(place.max() + 1) * 2).reshape(-1, 2)

    def matrix() -> np.ndarray:
        item, rater, value_ = _rows(path)
        _, place = np.unique(item, return_inverse=True)
        table = np.full((RATERS, place.max() + 1), np.nan)
        table[rater, place] = value_
        return table

    for name, build, key in (
        ("counts", counted, "value_counts"),
        ("raters x items", matrix, "reliability_data"),
    ):

        def act(build: Callable[[], np.ndarray] = build, key: str = key) -> float:
            return float(krippendorff.alpha(**{key: build()}, level_of_measurement="nominal"))

        theirs, known = best(act, 9)
        assert abs(known - value) < 1e-9
        compare(f"alpha from Parquet; krippendorff, {name}", ours, theirs, "4")


def kappas(path: Path) -> None:
    """Every pair's kappa with its standard error; a loop has no errors."""
    connection = _connected(path)
    sql = runner.printable_sql(catalogue.find("pairwise_kappa"))
    ours, rows = best(lambda: connection.execute(sql).fetchall())
    pairs = {row[0]: row[2] for row in rows if "/" in row[0]}
    if importlib.util.find_spec("sklearn") is None:
        print("  scikit-learn is not installed: left out")
        return
    from sklearn.metrics import cohen_kappa_score

    item, rater, value = _rows(path)
    own = []
    for r in range(RATERS):
        mine = np.flatnonzero(rater == r)
        mine = mine[np.argsort(item[mine])]
        own.append((item[mine], value[mine]))
    names = (
        pq.read_table(path, columns=["rater_id"])["rater_id"].combine_chunks().dictionary_encode().dictionary
    )
    every = list(combinations(range(RATERS), 2))
    chosen = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:SAMPLE]]

    def sorted_arrays() -> dict[str, float]:
        found = {}
        for a, b in chosen:
            _, at_a, at_b = np.intersect1d(own[a][0], own[b][0], assume_unique=True, return_indices=True)
            if len(at_a):
                kappa = cohen_kappa_score(own[a][1][at_a], own[b][1][at_b])
                found["/".join(sorted((str(names[a]), str(names[b]))))] = kappa
        return found

    import pandas as pd

    frame = pd.DataFrame({"item": item, "rater": rater, "value": value})
    table = frame.pivot(index="item", columns="rater", values="value")

    def pivoted() -> dict[str, float]:
        found = {}
        for a, b in chosen:
            both = table[[a, b]].dropna()
            if len(both):
                kappa = cohen_kappa_score(both[a], both[b])
                found["/".join(sorted((str(names[a]), str(names[b]))))] = kappa
        return found

    for name, loop in (("pivot and dropna", pivoted), ("sorted arrays", sorted_arrays)):
        theirs, found = best(loop, 1)
        assert len(found) > SAMPLE / 2
        for pair, kappa in found.items():
            known = pairs[pair]
            assert np.isnan(kappa) if known is None else abs(known - kappa) < 1e-9
        scaled = theirs * len(every) / SAMPLE
        compare(f"{len(every):,} kappas; scikit-learn on {SAMPLE} pairs, {name}", ours, scaled, "100")


def truths(path: Path) -> None:
    """Dawid-Skene from arrays; and the audit from the prepared ratings."""
    item, rater, value = _rows(path)
    n_items = int(item.max()) + 1
    ours, fit = best(lambda: dawid_skene.fit(item, rater, value, n_items, RATERS, 2))
    assert fit.converged
    end = f"the last gained {fit.gains[-1]:.1e}, log-likelihood {fit.log_likelihood:.6f}"
    print(f"  {len(fit.gains)} steps, {end}")
    if importlib.util.find_spec("crowdkit") is None:
        print("  crowd-kit is not installed: left out")
        return
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    frame = pd.DataFrame({"task": item, "worker": rater, "label": value})
    theirs, _ = best(lambda: DawidSkene(n_iter=10).fit(frame), 1)
    compare("Dawid-Skene converged; crowd-kit, ten iterations", ours, theirs, "5")


if __name__ == "__main__":
    main(*[int(text) for text in sys.argv[1:2]])
