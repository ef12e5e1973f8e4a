"""Usable feedback as arrays, streamed out of Parquet in training order."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.types import RatedSteps

_BATCH_ROWS = 65_536
_ROWS = """
SELECT u.rater_id, u.session_id, u.episode_id, u.value, s.observation, s.action, s.action_probability
FROM usable_for_training u
JOIN steps s ON s.episode_id = u.episode_id AND s.step = u.step
JOIN episodes e ON e.episode_id = u.episode_id
WHERE u.kind = 'rating' AND u.value IS NOT NULL AND s.env_id = $env_id
-- The ledger's order, never a pseudonym's: DESIGN.md, section 6.
ORDER BY u.session_n, e.session_n, e.episode, u.step, u.row
"""


@dataclass(frozen=True)
class TrainingData:
    """Rows to train on.

    Attributes:
        sessions: Whose rows these are, in the ledger's order.
    """

    rated: RatedSteps
    sessions: tuple[str, ...]


def environment(connection: duckdb.DuckDBPyConnection, wanted: str | None) -> str:
    """Return the environment whose ratings are to be trained on.

    Raises:
        ConsentError: There are ratings, but none that may be used for training.
        UsageError: There is none at all, or more than one environment and none was named.
    """
    found = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT s.env_id FROM usable_for_training u JOIN steps s USING (episode_id, step)"
            " WHERE u.kind = 'rating' AND u.value IS NOT NULL ORDER BY 1"
        ).fetchall()
    ]
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return str(found[0])
    if found:
        raise UsageError(
            "which environment's policy is to be trained?",
            seen=", ".join(found),
            needed="one of them",
            fix=f"rlhf-audit retrain LOG --to policies/NAME --env {found[0]}",
        )
    given = connection.execute("SELECT count(*) FROM feedback WHERE kind = 'rating'").fetchall()[0][0]
    if given:
        raise ConsentError(
            f"{given} of {given} ratings may not be used for training",
            seen="no grant that covers training stands, or it began after the rating",
            needed="a grant for training, given before the rating",
            fix="rlhf-audit consent LOG RATER --purpose training, then record again",
        )
    raise UsageError(
        "this log holds no ratings to train on",
        needed="at least one session of ratings",
        fix="rlhf-audit record LOG --env ID --rater R --source terminal",
    )


def load(connection: duckdb.DuckDBPyConnection, env_id: str, n_actions: int) -> TrainingData:
    """Stream the usable ratings of one environment."""
    reader: pa.RecordBatchReader = connection.sql(_ROWS, params={"env_id": env_id}).to_arrow_reader(
        _BATCH_ROWS
    )
    raters: dict[str, int] = {}
    episodes: dict[str, int] = {}
    sessions: dict[str, int] = {}
    parts: list[tuple[np.ndarray, ...]] = []
    for batch in reader:
        observations = batch.column("observation")
        flat = observations.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        parts.append(
            (
                flat.reshape(batch.num_rows, -1),
                batch.column("action").to_numpy(zero_copy_only=False).astype(np.int64),
                batch.column("value").to_numpy(zero_copy_only=False).astype(np.float32),
                _numbered(batch.column("rater_id").to_pylist(), raters),
                _numbered(batch.column("episode_id").to_pylist(), episodes),
                batch.column("action_probability").to_numpy(zero_copy_only=False).astype(np.float32),
            )
        )
        _numbered(batch.column("session_id").to_pylist(), sessions)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    rated = RatedSteps(
        observations=columns[0],
        actions=columns[1],
        values=columns[2],
        raters=columns[3],
        rater_ids=tuple(raters),
        episodes=columns[4],
        action_probabilities=columns[5],
        n_actions=n_actions,
    )
    return TrainingData(rated, tuple(sessions))


def _numbered(names: Sequence[str], known: dict[str, int]) -> np.ndarray:
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)
