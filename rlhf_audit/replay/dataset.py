"""Usable feedback as arrays, in training order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.log import reader, recorded
from rlhf_audit.log.store import Log
from rlhf_audit.policy.interface import Interface
from rlhf_audit.spaces.hashed import HASHED
from rlhf_audit.types import IntArray, RatedSteps

_ROWS = """
SELECT u.rater_id, u.session_id, u.episode_id, u.step, u.value, e.session_id AS acted_in
FROM usable_for_training u
JOIN episodes e ON e.episode_id = u.episode_id AND u.step >= 0 AND u.step < e.n_steps
WHERE u.kind = 'rating' AND u.value IS NOT NULL AND e.env_id = $env_id
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
            "SELECT DISTINCT e.env_id FROM usable_for_training u JOIN episodes e USING (episode_id)"
            " WHERE u.step >= 0 AND u.step < e.n_steps AND u.kind = 'rating' AND u.value IS NOT NULL"
            " ORDER BY 1"
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


def load(log: Log, connection: duckdb.DuckDBPyConnection, env_id: str, interface: Interface) -> TrainingData:
    """Read the usable ratings of one environment, and the steps that they are about.

    Raises:
        UsageError: Steps of which only digests were kept, or of other spaces than ``interface`` reads.
    """
    rows = connection.sql(_ROWS, params={"env_id": env_id}).to_arrow_table()
    rater_of, raters = _numbered(rows.column("rater_id"))
    episode_of, episodes = _numbered(rows.column("episode_id"))
    places = _places(episode_of, episodes)
    steps = rows.column("step").to_numpy()
    n_dimensions = () if isinstance(interface.spec.n_actions, int) else (len(interface.spec.heads),)
    observations = np.empty((len(rows), interface.spec.observation_dim), np.float32)
    actions = np.empty((len(rows), *n_dimensions), np.float32 if n_dimensions else np.int64)
    probabilities = np.empty(len(rows), np.float32)
    for acted in _numbered(rows.column("acted_in"))[1]:
        facts = reader.session_facts(log, acted)
        _check(facts, interface)
        for episode in recorded.episodes(log, facts):
            own = places.get(episode.episode_id)
            if own is None:
                # Nobody has rated anything in it.
                continue
            columns, picked = episode.columns, steps[own]
            observations[own] = interface.rows(_picked(columns.observations, picked))
            actions[own] = interface.choices(_picked(columns.actions, picked))
            probabilities[own] = np.asarray(columns.action_probabilities)[picked]
    rated = RatedSteps(
        observations=observations,
        actions=actions,
        values=rows.column("value").to_numpy().astype(np.float32),
        raters=rater_of,
        rater_ids=raters,
        episodes=episode_of,
        action_probabilities=probabilities,
        n_actions=interface.spec.n_actions,
    )
    return TrainingData(rated, _numbered(rows.column("session_id"))[1])


def _check(facts: Mapping[str, Any], interface: Interface) -> None:
    """Refuse a session whose steps can't be read as the others are."""
    session_id, env = facts["session_id"], facts["env"]
    if facts["observations"] == HASHED:
        raise UsageError(
            f"nothing can be learnt from {session_id}: its observations are not in the log",
            seen="a digest of each observation",
            needed="sessions recorded with their observations",
            fix=f"rlhf-audit replay LOG {session_id} --materialise DIR has them again, for your own use;"
            " for retrain record without --observations hashed, or name another environment with --env",
        )
    if not interface.reads(env["observation_space"], env["action_space"]):
        raise UsageError(
            f"{session_id} played {env['env_id']} with other spaces than the latest session",
            seen="spaces of another kind, size, dtype or other bounds",
            needed="one environment with one kind of observation and action",
            fix="keep such sessions in a log of their own",
        )


def _picked(values: Sequence[Any], numbers: IntArray) -> Sequence[Any]:
    return values[numbers] if isinstance(values, np.ndarray) else [values[number] for number in numbers]


def _numbered(names: pa.ChunkedArray) -> tuple[IntArray, tuple[str, ...]]:
    """Return the number of each name, by first appearance, and the names in that order."""
    encoded = names.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), tuple(encoded.dictionary.to_pylist())


def _places(number_of: IntArray, names: Sequence[str]) -> dict[str, IntArray]:
    """Return by name the places that have its number, in order."""
    in_order = np.argsort(number_of, kind="stable")
    ends = np.cumsum(np.bincount(number_of, minlength=len(names)))
    return dict(zip(names, np.split(in_order, ends[:-1]), strict=True)) if names else {}
