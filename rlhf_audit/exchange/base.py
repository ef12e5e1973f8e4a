"""What every format of the exchange is given, and what it gives: the files of one export, or a reading."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlhf_audit import canonical
from rlhf_audit.envs import EnvRecord
from rlhf_audit.errors import UsageError
from rlhf_audit.log import recorded
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.log.store import Log
from rlhf_audit.spaces.base import Array, Space
from rlhf_audit.types import FloatArray, IntArray, Kind

SCHEMA = "rlhf_audit.export/1"
MANIFEST = "export.json"

FEEDBACK = pa.schema(
    [
        pa.field("rater", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("objective", pa.string()),
        pa.field("named_action", pa.int64()),
        pa.field("other_episode_id", pa.string()),
        pa.field("other_step", pa.int64()),
        pa.field("n_steps", pa.int64()),
        pa.field("latency_s", pa.float64()),
        pa.field("position", pa.int64()),
    ]
)
"""What an export tells of feedback: no time, no grant, and the rater by the export's own name."""


@dataclass(frozen=True)
class Trajectories:
    """All that is exported of one environment.

    Attributes:
        name: For files and folders: ``CartPole-v1``.
        env: Its record.
        observation: Space of observations.
        action: Space of actions.
        log: Where the steps are read from.
        sessions: The ledger's facts of each, in its order.
        feedback: ``episode_id``, ``step`` and the columns of ``FEEDBACK``, in the ledger's order.
    """

    name: str
    env: EnvRecord
    observation: Space
    action: Space
    log: Log = field(repr=False)
    sessions: tuple[Mapping[str, Any], ...]
    feedback: pa.Table

    def episodes(self) -> Iterator[tuple[str, RecordedEpisode]]:
        """Yield session and episode, in the ledger's order, read anew: they may not fit into memory."""
        for facts in self.sessions:
            for episode in recorded.episodes(self.log, facts):
                yield facts["session_id"], episode

    @property
    def n_episodes(self) -> int:
        return sum(facts["n_episodes"] for facts in self.sessions)

    @property
    def n_steps(self) -> int:
        return sum(facts["n_steps"] for facts in self.sessions)

    @cached_property
    def feedback_places(self) -> Mapping[str, IntArray]:
        """The rows of ``feedback`` about each episode, by its id."""
        encoded = self.feedback.column("episode_id").combine_chunks().dictionary_encode()
        numbers, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        in_order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(names)))
        return dict(zip(names, np.split(in_order, ends[:-1]), strict=True)) if names else {}

    def ratings(self, episode: RecordedEpisode, raters: Sequence[str]) -> FloatArray:
        """Return an episode's ratings as ``(T, n_raters)``, NaN where there is none.

        Of two ratings of a step by one rater the later one counts. Feedback of other kinds is left out.
        """
        columns = {name: number for number, name in enumerate(raters)}
        found = np.full((len(episode.columns), len(raters)), np.nan, np.float32)
        about = self.feedback_places.get(episode.episode_id)
        for row in () if about is None else self.feedback.take(pa.array(about)).to_pylist():
            if row["kind"] == Kind.RATING:
                found[row["step"], columns[row["rater"]]] = row["value"]
        return found


@dataclass(frozen=True)
class Export:
    """What is handed out.

    Attributes:
        purpose: What every rater in it has agreed to.
        raters: Their names in this export, and only here.
        environments: One after the other, by name.
        left_out: Sessions of which only digests of the observations were kept.
    """

    purpose: str
    raters: tuple[str, ...]
    environments: tuple[Trajectories, ...]
    left_out: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many pieces of feedback are in it."""
        return sum(one.feedback.num_rows for one in self.environments)

    @property
    def steps(self) -> int:
        return sum(one.n_steps for one in self.environments)

    @property
    def episodes(self) -> int:
        return sum(one.n_episodes for one in self.environments)

    def manifest(self, form: str) -> bytes:
        """Return ``export.json``: what this is, and the environments as they were recorded."""
        told = {
            "schema": SCHEMA,
            "format": form,
            "purpose": self.purpose,
            "raters": list(self.raters),
            "rows": self.rows,
            "steps": self.steps,
            "episodes": self.episodes,
            "environments": {
                one.name: canonical.parse_object(one.env.to_json().encode()) for one in self.environments
            },
        }
        return canonical.json_bytes(told) + b"\n"


Files = Iterator[tuple[str, bytes]]
"""Name, relative to the export's folder, and content."""
Writer = Callable[[Export], Files]
"""Yields the files of an export in one format; the manifest is added to them."""


@dataclass(frozen=True)
class ImportedEpisode:
    """One episode read from elsewhere.

    Attributes:
        stream: Which of the source's environments it was played in.
        reset_seed: None where the source has none.
        reset_options: JSON of the other arguments of ``reset``; None without any.
        observations: ``T + 1`` values of the observation space.
        actions: ``T`` values of the action space.
        env_rewards: ``(T,)``.
        terminated: ``(T,)``.
        truncated: ``(T,)``.
    """

    stream: int
    reset_seed: int | None
    reset_options: str | None
    observations: Sequence[Any]
    actions: Sequence[Any]
    env_rewards: Array
    terminated: Array
    truncated: Array

    def __post_init__(self) -> None:
        counts = {len(self.actions), len(self.env_rewards), len(self.terminated), len(self.truncated)}
        if counts != {len(self.observations) - 1} or 0 in counts:
            raise damaged(
                "an episode's columns don't go together",
                f"{len(self.observations)} observations and {sorted(counts)} steps",
                "at least one step, and one observation more than steps",
            )


@dataclass(frozen=True)
class Reading:
    """What a file holds.

    Attributes:
        env: The environment, as this log will name it.
        episodes: In the file's order.
        sha256: Of the files that were read, by name.
    """

    env: EnvRecord
    episodes: tuple[ImportedEpisode, ...]
    sha256: Mapping[str, str]


Reader = Callable[[Path, str | None], Reading]
"""Reads a file, given the id of the environment where the user named one."""


def column(space: Space, values: Sequence[Any]) -> pa.Array:
    """Return values of a space as a column of its Arrow type."""
    if space.one_array:
        return space.column(iter([np.asarray(values)]))
    return pa.array([space.plain(value) for value in values], space.arrow)


def column_field(name: str, space: Space, nullable: bool = False) -> pa.Field:
    """Return a column's field; where it is raw bytes, the metadata say of what dtype and shape."""
    told = None
    if pa.types.is_large_binary(space.arrow) and space.parts:
        part = space.parts[0]
        told = {"dtype": str(part.dtype), "shape": canonical.json_bytes(list(part.shape)).decode()}
    return pa.field(name, space.arrow, nullable=nullable, metadata=told)


def unsupported(form: str, one: Trajectories, what: str, needed: str) -> UsageError:
    """Return the error for spaces that a format can't hold."""
    return UsageError(
        f"{one.name} can't be written as {form}",
        seen=what,
        needed=needed,
        fix="rlhf-audit export LOG --format parquet, which holds every space",
    )


def damaged(what: str, seen: str, needed: str) -> UsageError:
    """Return the error for a file that can't be imported."""
    return UsageError(what, seen=seen, needed=needed, fix="rlhf-audit import --help; docs/exchange.md")
