"""This project's recorder, around an environment, and the ways to what it recorded."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from benchmarks.recorders.base import Episode, Opened


class Ours:
    name, package, share, images = "ours", "rlhf-audit", 1, False

    def absent(self) -> str | None:
        return None

    def open(self, env: gym.Env[Any, Any], folder: Path) -> Opened:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from rlhf_audit import Recorder
        from rlhf_audit.consent import register, terms
        from rlhf_audit.log import store
        from rlhf_audit.types import Purpose

        log = store.create(folder / "log", signing_key=Ed25519PrivateKey.generate())
        terms.add(log)
        rater_id, _ = register.enrol(log, scripted="oracle")
        register.give(log, rater_id, (Purpose.TRAINING,), "scripted")
        return Opened(Recorder(env, log, rater_id))

    def size(self, folder: Path) -> int:
        return sum(path.stat().st_size for path in _files(folder, "steps/*/*") + _files(folder, "episodes/*"))

    def episodes(self, folder: Path) -> Iterator[Episode]:
        import numpy as np

        from rlhf_audit.log import recorded

        log, facts = _read(folder)
        for episode in recorded.episodes(log, facts):
            columns = episode.columns
            final = np.asarray(episode.final_observation)[None]
            yield Episode(
                np.concatenate([np.asarray(columns.observations), final]),
                columns.actions,
                columns.env_rewards,
                columns.terminated,
                columns.truncated,
            )

    def loads(self, folder: Path, env_id: str) -> Mapping[str, Callable[[], int]]:
        import duckdb

        from rlhf_audit.log import recorded, views

        log, facts = _read(folder)
        paths = [str(path) for path in _files(folder, "steps/*/*")]
        connection = views.connect(log, log.clock.now())
        query = _query(facts["env"])
        view = "steps_of_" + re.sub(r"[^A-Za-z0-9]", "_", env_id)
        return {
            "numpy, the log's columns": lambda: sum(map(len, recorded.columns(log, facts))),
            "numpy, episode by episode": lambda: sum(
                len(episode.columns) for episode in recorded.episodes(log, facts)
            ),
            "numpy by pyarrow": lambda: _arrays(paths),
            "DuckDB, the log's views": lambda: int(connection.sql(f"{query} {view}").fetchall()[0][0]),
            "DuckDB, read_parquet": lambda: int(
                duckdb.sql(f"{query} read_parquet({paths})").fetchall()[0][0]
            ),
        }


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted((folder / "log").glob(f"{pattern}.parquet"))


def _read(folder: Path) -> tuple[Any, Mapping[str, Any]]:
    from rlhf_audit.log import reader
    from rlhf_audit.log.store import Log

    log = Log(folder / "log")
    (name,) = reader.session_ids(log)
    return log, reader.session_facts(log, name)


def _query(env: Mapping[str, Any]) -> str:
    """Return a query that has to look at every observation, action and env_reward."""
    shapes = {name: env[f"{name}_space"].get("shape") or () for name in ("observation", "action")}
    seen = {name: f"max({name}[1])" if shape else f"max({name})" for name, shape in shapes.items()}
    if len(shapes["observation"]) == 3:
        seen["observation"] = "max(octet_length(observation))"
    return f"SELECT count(*), {seen['observation']}, {seen['action']}, sum(env_reward) FROM"


def _arrays(paths: list[str]) -> int:
    """Read the steps into one numpy array a column; return how many there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["observation", "action", "env_reward", "terminated", "truncated"]
    table = pa.concat_tables([pq.ParquetFile(path).read(columns=names) for path in paths])
    for name in names:
        column = table.column(name)
        if pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
            column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        elif pa.types.is_large_binary(column.type):
            import numpy as np

            for chunk in column.chunks:
                np.frombuffer(chunk.buffers()[2], np.uint8)
        else:
            column.to_numpy()
    return int(table.num_rows)
