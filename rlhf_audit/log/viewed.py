"""The sealed files behind the views: which the ledger names and are there, and which can be read together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlhf_audit.log.layout import EPISODES, FEEDBACK, STEPS, rater_in
from rlhf_audit.log.store import Log
from rlhf_audit.log.whereabouts import SealedFile
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.hashed import HASHED, observation_space

_FOLDERS = {EPISODES: "episode_rows", STEPS: "step_rows", FEEDBACK: "feedback_rows"}


@dataclass(frozen=True, order=True)
class Kind:
    """What sealed files have in common whose rows can be read together.

    Attributes:
        view: Which view reads them.
        env_id: Of what environment the steps are; empty for other files.
        native: The view in which steps are shown in their own types; empty for other files.
        observation: Arrow's type of the observations, as text; empty for feedback.
        vector: Whether observations are vectors of numbers.
        number: Whether actions are single whole numbers.
    """

    view: str
    env_id: str = ""
    native: str = ""
    observation: str = ""
    vector: bool = False
    number: bool = False


Files = Mapping[Kind, Sequence[Path]]


def files(log: Log) -> Files:
    """Return the files that the ledger names and that are there: none of a rater whose erasure has begun.

    One that is gone may have been merged into another since the ledger was read: then it is read again, for
    no row may be missing, or come twice.
    """
    while True:
        erased = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
        where = log.whereabouts
        expected = [
            file
            for file in where.files.values()
            if not (file.holds_answers and where.rater_of(file) in erased)
        ]
        there = [file for file in expected if (log.layout.root / file.path).is_file()]
        if len(there) == len(expected) or not log.refreshed():
            return _by_kind(log, there)


def _by_kind(log: Log, there: Sequence[SealedFile]) -> Files:
    known: dict[str, str] = {}
    alike: dict[str, Mapping[str, Kind]] = {}
    kinds: dict[tuple[str, str], Kind] = {}
    for session_id, facts in log.whereabouts.sessions.items():
        # Reading a space takes longer than all else here, and sessions of one environment say the same of it.
        said = repr((facts["env"], facts["observations"]))
        if said not in alike:
            alike[said] = _of_session(facts, known)
        kinds |= {(session_id, folder): kind for folder, kind in alike[said].items()}
    found: dict[Kind, list[Path]] = {}
    for file in there:
        kind = kinds[file.slices[0].session_id, file.folder]
        found.setdefault(kind, []).append(log.layout.root / file.path)
    # In the ledger's order within a folder: a merged file stands where the first of its sessions stood.
    return {kind: sorted(paths, key=lambda path: path.parent) for kind, paths in sorted(found.items())}


def _of_session(facts: Mapping[str, Any], known: dict[str, str]) -> Mapping[str, Kind]:
    """Return of what kind a session's files are, by folder."""
    env_id, hashed = facts["env"]["env_id"], facts["observations"] == HASHED
    observation = observation_space(facts).arrow
    action = reading.from_json(facts["env"]["action_space"]).arrow
    native = _native_name(env_id, hashed, f"{env_id} {(observation, action)}", known)
    vector, number = _kinds(observation, action)
    return {
        STEPS: Kind(_FOLDERS[STEPS], env_id, native, str(observation), vector, number),
        EPISODES: Kind(_FOLDERS[EPISODES], observation=str(observation), vector=vector),
        FEEDBACK: Kind(_FOLDERS[FEEDBACK]),
    }


def by_rater(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return files of answers by whose they are, in their order."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(rater_in(f"{path.parent.name}/{path.name}"), []).append(path)
    return found


def slices(log: Log) -> list[tuple[str, str, int]]:
    """Return path, session and number of rows of each stretch of a session's rows in a sealed file."""
    named = log.whereabouts.files.values()
    return [(file.path, one.session_id, one.rows) for file in named for one in file.slices]


def _kinds(observation: pa.DataType, action: pa.DataType) -> tuple[bool, bool]:
    vector = pa.types.is_fixed_size_list(observation) and not pa.types.is_boolean(observation.value_type)
    return bool(vector), bool(pa.types.is_integer(action))


def _native_name(env_id: str, hashed: bool, types: str, known: dict[str, str]) -> str:
    """Return the name of a view for these types; another one where the first was of other types."""
    name = ("hashed_" if hashed else "") + "steps_of_" + re.sub(r"[^A-Za-z0-9]", "_", env_id)
    number = 1
    # DuckDB takes capitals and small letters of a name for the same.
    while known.setdefault((f"{name}_{number}" if number > 1 else name).lower(), types) != types:
        number += 1
    return f"{name}_{number}" if number > 1 else name
