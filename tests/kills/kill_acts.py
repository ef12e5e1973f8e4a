"""What is killed: recorders, recoveries and compactions of small logs. Each act is told of as it goes."""

import importlib.metadata
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import crash_rig
import kill_worlds as world
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from kill_worlds import Note

from rlhf_audit import envs
from rlhf_audit.log import part, trajectory, writer
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionWriter
from rlhf_audit.policy.network import weights_sha256
from rlhf_audit.recording.record import Request, record
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.recording.vector import VectorRecorder
from rlhf_audit.session import Fixed
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.hashed import FULL, HASHED, HashedSpace
from rlhf_audit.types import Feedback
from rlhf_audit.withdrawal import erase

Act = Callable[[Path, Note], None]
SLOTS, FIRST_SLOTS = 16, 8
"""As small as parts may be, so that they fill, rotate and are sealed all the time."""


def small_and_quick() -> None:
    patched = pytest.MonkeyPatch()
    patched.setattr(part, "_MOST_SLOTS", SLOTS)
    patched.setattr(part, "_MOST_VARYING", SLOTS)
    patched.setattr(part, "_FRAMES", 2 * SLOTS)
    patched.setattr(trajectory, "_FIRST_SLOTS", FIRST_SLOTS)
    patched.setattr(writer, "_SYNC_EVERY_S", 0.005)
    # A kill takes nothing from the operating system: what is waited for here would only be waited for.
    patched.setattr(os, "fsync", lambda descriptor: None)
    patched.setattr(os, "fdatasync", lambda descriptor: None)
    # Looks through all that is installed, for whose the environment is.
    patched.setattr(importlib.metadata, "packages_distributions", lambda: {})


def opened(home: Path) -> tuple[Log, str]:
    log = Log(home / "log")
    return log, next(log.ledger.of("enrolled")).body["rater_id"]


def by_library(
    home: Path,
    note: Note,
    make: Callable[[], Any] = world.Short,
    info: str | None = None,
    observations: str = FULL,
    sessions: int = 2,
    n_steps: int = 45,
) -> None:
    """Session after session, each sealed as it is closed."""
    log, rater_id = opened(home)
    seen: world.Seen = world.plain
    if observations == HASHED:
        space = HashedSpace(reading.from_json(envs.describe(make()).observation_space))
        seen = lambda value: space.digest(value).hex()  # noqa: E731
    for seed in range(sessions):
        keys = [info] if info else []
        with Recorder(make(), log, rater_id, info=keys, observations=observations, seed=seed) as env:
            world.act(env, note, n_steps, seen, info)


def boasting(home: Path, note: Note) -> None:
    """Acknowledges everything before it is done: what the check is there to find."""
    for fact in json.loads((home / "facts.json").read_text())["reference"]:
        note(fact)
    by_library(home, lambda fact: None)


def by_vector(home: Path, note: Note) -> None:
    log, rater_id = opened(home)
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        with VectorRecorder(world.vector(mode), log, rater_id) as env:
            world.act_in_vector(env, note, 20, mode)


def by_command(home: Path, note: Note, learn: str | None = None, answers: int = 8) -> None:
    """What ``rlhf-audit record`` does; told of as the writer is."""
    patched, seen = pytest.MonkeyPatch(), list[Any]()
    opening, answer = SessionWriter.__init__, SessionWriter.feedback
    reset, act = Recorder.reset, Recorder.act

    def starts(self: SessionWriter, *args: Any) -> None:
        # Until now a policy was loaded and, where it learns, compiled.
        note(crash_rig.BEGUN)
        opening(self, *args)

    def begun(self: Recorder, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = reset(self, seed=seed, options=options)
        seen[:] = [seed, observation.copy()]
        return observation, info

    def stepped(self: Recorder, action: Any, probability: float) -> Any:
        result = act(self, action, probability)
        assert self._trajectory is not None and self._trajectory.position is not None
        episode, after = self._trajectory.position
        where = self.session_id, episode, after - 1
        outcome = float(result[1]), *result[2:4], None
        note(world.step_fact(where, (seen[0], None), seen[1], action, result[0], outcome))
        seen[1] = result[0].copy()
        return result

    def answered(self: SessionWriter, row: Feedback) -> None:
        answer(self, row)
        note(["rating", self.session_id, row.episode_id, row.step, row.value])

    patched.setattr(SessionWriter, "__init__", starts)
    patched.setattr(Recorder, "reset", begun)
    patched.setattr(Recorder, "act", stepped)
    patched.setattr(SessionWriter, "feedback", answered)
    log, rater_id = opened(home)
    to = home / "policies" / "live" if learn else None
    request = Request(rater_id, "scripted:oracle", "CartPole-v1", learn=learn, to=to, ask_every=5, seed=9)
    record(log, replace(request, max_feedback=answers))


class Cheap(Fixed):
    """In place of the live learner: weights that say what they were taught, without TensorFlow."""

    parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self, spec: Any, weights: Any, *args: Any, **named: Any) -> None:
        super().__init__(weights, weights_sha256(weights))

    def update(self, observation: Any, action: Any, value: float) -> None:
        self.weights = tuple((name, array + np.float32(value + 1)) for name, array in self.weights)
        self.weights_sha256 = weights_sha256(self.weights)


def by_command_cheaply(home: Path, note: Note) -> None:
    pytest.MonkeyPatch().setattr("rlhf_audit.recording.record.LiveLearner", Cheap)
    by_command(home, note, "likelihood", answers=5)


def by_opening(home: Path, note: Note) -> None:
    """What every verb does first: seal what a kill has left open."""
    erase.heal(Log(home / "log"))


def by_compacting(home: Path, note: Note) -> None:
    """``rlhf-audit compact``, a few files at a time."""
    from rlhf_audit.log import compaction

    patched = pytest.MonkeyPatch()
    patched.setattr(compaction, "_GROUP_ROWS", SLOTS)
    patched.setattr(compaction, "_BATCH_FILES", 4)
    compaction.compact(opened(home)[0])
