"""A log of many small sessions, and everything that can be read from it, as text that can be compared."""

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import small_log

from rlhf_audit.audits import runner
from rlhf_audit.log import reader, views
from rlhf_audit.log.recorded import Columns
from rlhf_audit.log.store import Log
from rlhf_audit.recording.record import Request, record

_VIEWS = ("episodes", "steps", "feedback", "sessions", "usable", "grants", "steps_of_CartPole_v1")


def learns(log: Log, rater_id: str, seed: int = 5, n: int = 3) -> str:
    """The agent acts and learns from a rater; return the session's id."""
    request = Request(
        rater_id, "scripted:oracle", "CartPole-v1", learn="likelihood", max_feedback=n, seed=seed
    )
    return str(record(log, request).session_id)


def many(root: Path) -> tuple[Log, list[str]]:
    """Three raters, eleven sessions: rated and taught, in turns; made once a process, then copied."""
    template, raters = _many()
    shutil.copytree(template, root)
    return Log(root), list(raters)


@functools.cache
def _many() -> tuple[Path, list[str]]:
    log = small_log.empty(small_log._kept("many") / "log", seed=5)
    raters = [small_log.join(log, alias=f"Quintessa Number {n}") for n in range(3)]
    for turn in range(2):
        for rater_id in raters:
            first = small_log.acts(log, rater_id, n=4, seed=10 * turn + 3)
        small_log.rates(log, raters[0], first, seed=turn)
    learns(log, raters[1], 5)
    learns(log, raters[2], 6)
    learns(log, raters[1], 7)
    return log.layout.root, raters


def few(root: Path) -> tuple[Log, list[str]]:
    """Two raters, five sessions, of which two taught; made once a process, then copied."""
    template, raters = _few()
    shutil.copytree(template, root)
    return Log(root), list(raters)


@functools.cache
def _few() -> tuple[Path, list[str]]:
    log = small_log.empty(small_log._kept("few") / "log", seed=6)
    raters = [small_log.join(log, alias=f"Quintessa Number {n}") for n in range(2)]
    first = small_log.acts(log, raters[0], n=2)
    small_log.acts(log, raters[1], n=2, seed=9)
    small_log.rates(log, raters[1], first)
    learns(log, raters[1], 5, n=1)
    learns(log, raters[1], 6, n=1)
    return log.layout.root, raters


def everything(log: Log) -> dict[str, Any]:
    """What the log says through every reader."""
    found: dict[str, Any] = {name: session(log, name) for name in reader.session_ids(log)}
    with views.connect(log, log.clock.now()) as connection:
        for view in _VIEWS:
            found[view] = sorted(
                map(repr, connection.sql(f"SELECT * FROM {view}").to_arrow_table().to_pylist())
            )
        found["audits"] = repr(runner.run(connection))
    return found


def session(log: Log, session_id: str) -> str:
    """One session's episodes and answers."""
    read = reader.session(log, session_id)
    episodes = [
        (episode.episode_id, episode.reset_seed, episode.final_observation, *_plain(episode.columns))
        for episode in read.episodes
    ]
    return repr((episodes, None if read.feedback is None else list(read.feedback)))


def _plain(columns: Columns) -> list[Any]:
    return [
        column.to_pylist() if hasattr(column, "to_pylist") else [_value(value) for value in column]
        for column in (getattr(columns, name) for name in Columns.__dataclass_fields__)
    ]


def _value(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def sealed(log: Log) -> dict[str, bytes]:
    """The bytes of every file of steps, episodes and answers."""
    folders = (log.layout.steps, log.layout.episodes, log.layout.feedback)
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {log.layout.relative(path): path.read_bytes() for path in sorted(paths)}


def named(log: Log) -> set[str]:
    return set(log.whereabouts.files)
