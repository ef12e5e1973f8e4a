"""Bring back what a thin recording left out: steps and episodes as a full one would have kept them."""

import itertools
import os
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlhf_audit import canonical
from rlhf_audit.errors import UsageError
from rlhf_audit.log import durable, recorded
from rlhf_audit.log.layout import Layout
from rlhf_audit.log.part import part_file, staged_files
from rlhf_audit.log.reader import session_facts
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import Trajectory
from rlhf_audit.log.writer import kind_of
from rlhf_audit.replay import resimulate
from rlhf_audit.spaces.hashed import FULL


@dataclass(frozen=True)
class Materialised:
    """What was written.

    Attributes:
        steps: Rows, each of which was made again and agreed with its digest.
        files: Name, below the folder, and SHA-256 of each.
    """

    session_id: str
    steps: int
    files: Mapping[str, str]


def materialise(log: Log, session_id: str, folder: Path) -> Materialised:
    """Play a session again and write its steps and episodes with every observation.

    The files are, to the byte, those of a recording that kept the observations, in the folders of a log.

    Args:
        log: Where the session is.
        session_id: Which.
        folder: Where to; made when it is not there. On any failure nothing is left there.

    Raises:
        AstrayError: An observation has not the digest that was recorded, or another value differs.
        ReplayError: The environment can't be opened here.
        UsageError: The session has no steps of its own, or ``folder`` holds its files, or lies in the log.
    """
    facts = session_facts(log, session_id)
    if not facts["n_steps"]:
        raise UsageError(
            f"{session_id} has no steps of its own",
            seen=f"it rates those of {facts['rates']}" if facts["rates"] else "0 steps",
            needed="a session in which something acted",
            fix=f"rlhf-audit replay LOG {facts['rates']} --materialise DIR" if facts["rates"] else "",
        )
    _check_free(log, facts, folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    durable.make_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".materialising-", dir=folder) as waiting:
            parts = _played(log, facts, Path(waiting))
            files = _placed(facts, Path(waiting), parts, Layout(folder))
    except BaseException:
        durable.remove_empty(missing)
        raise
    return Materialised(session_id, facts["n_steps"], files)


def _check_free(log: Log, facts: Mapping[str, Any], folder: Path) -> None:
    inside = not log.layout.recorded(folder).startswith("../")
    # What the log calls its files, so will they be called.
    taken = [file["path"] for file in facts["files"] if os.path.lexists(folder / file["path"])]
    if inside or taken or (os.path.lexists(folder) and not folder.is_dir()):
        raise UsageError(
            "that can't be the folder for a session's steps",
            seen="it lies in the log" if inside else f"{(taken or ['a file'])[0]} is there",
            needed="a folder outside of the log that does not hold them yet",
            fix=f"rlhf-audit replay LOG {facts['session_id']} --materialise ANOTHER-FOLDER",
        )


def _played(log: Log, facts: Mapping[str, Any], waiting: Path) -> list[tuple[int, int]]:
    """Record the session again, as a full one; return its parts, by stream and number."""
    parts: list[tuple[int, int]] = []

    def put(event: Mapping[str, Any], sync: bool = False) -> None:
        del sync
        if event["event"] == "part":
            parts.append((event["stream"], event["part"]))

    full = {**facts, "observations": FULL}
    made = resimulate.moments(facts, recorded.episodes(log, facts))
    with ThreadPoolExecutor(1) as beside:
        for stream, moments in itertools.groupby(made, key=lambda one: one.episode.stream):
            kind = kind_of(full, facts["session_id"], stream)
            trajectory = Trajectory(waiting, put, beside, kind)
            for _, episode in itertools.groupby(moments, key=lambda one: one.episode.episode_id):
                _episode(trajectory, episode)
            trajectory.close()
    return sorted(parts)


def _episode(trajectory: Trajectory, moments: Iterable[resimulate.Made]) -> None:
    for number, made in enumerate(moments):
        if number == 0:
            head = made.episode
            trajectory.begin(
                head.episode,
                head.reset_seed,
                made.observation,
                head.reset_options,
                head.behaviour_policy_sha256,
            )
        step = made.step
        if step is not None:
            trajectory.append(
                step.action,
                made.after,
                step.env_reward,
                step.terminated,
                step.truncated,
                step.action_probability,
                step.info,
            )


def _placed(
    facts: Mapping[str, Any], waiting: Path, parts: list[tuple[int, int]], layout: Layout
) -> Mapping[str, str]:
    """Move the sealed files out of where they were made; return their digests."""
    session_id, env_id = facts["session_id"], facts["env"]["env_id"]
    digests = {}
    for number, (stream, part) in enumerate(parts):
        steps, episodes = staged_files(part_file(waiting, stream, part))
        places = layout.steps_file(env_id, session_id, number), layout.episodes_file(session_id, number)
        for staged, place in zip((steps, episodes), places, strict=True):
            # Several parts may share a file; and in some no episode ended.
            if not staged.exists() or not pq.ParquetFile(staged).metadata.num_rows:
                continue
            durable.make_folder(place.parent)
            staged.rename(place)
            durable.sync_folder(place.parent)
            digests[layout.relative(place)] = canonical.file_sha256(place)
    return digests
