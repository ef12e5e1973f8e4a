"""What raters saw at the most disputed steps: the environment, played again from the recorded seeds.

Nothing else of a session is needed, and nobody's answer is in it. Every value is compared on the way, so a
picture is of the very step that was rated, or there is none.

Determinism:
    The same log gives the same PNG: exact replay, no clock, no draw.
"""

import base64
import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from rlhf_audit.errors import DamagedError, ReplayError, UsageError
from rlhf_audit.log import reader, recorded
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.log.store import Log
from rlhf_audit.replay import resimulate
from rlhf_audit.reports.facts import DisputedStep

_WIDEST = 320
"""Pixels: larger pictures are shrunk by a whole factor."""
_MOST_STEPS = 20_000
"""So many steps are played again for one session's pictures, and no more (ours)."""


def pictured(
    log: Log, steps: Sequence[DisputedStep], every_environment: bool = False
) -> tuple[tuple[DisputedStep, ...], str]:
    """Return the steps with their pictures, and why some have none.

    Args:
        log: Where the steps are.
        steps: Of any sessions.
        every_environment: Run those as well that are not Gymnasium's own. A log from elsewhere may name any
            code as its environment.
    """
    done, reasons = [], []
    for session_id, some in itertools.groupby(sorted(steps, key=_place), key=lambda one: one.session_id):
        wanted = {(one.episode_id, one.step): one for one in some}
        found: dict[tuple[str, int], str] = {}
        try:
            for place, png in _session(log, session_id, list(wanted), every_environment):
                found[place] = png
        except (UsageError, ReplayError, DamagedError) as error:
            reasons.append(error.what)
        except gym.error.Error:
            reasons.append("the environment can't be drawn here")
        done += [replace(one, picture=found.get(place)) for place, one in wanted.items()]
    order = {_place(one): number for number, one in enumerate(steps)}
    return tuple(sorted(done, key=lambda one: order[_place(one)])), "; ".join(dict.fromkeys(reasons))


def _place(step: DisputedStep) -> tuple[str, str, int]:
    return step.session_id, step.episode_id, step.step


def _session(
    log: Log, session_id: str, wanted: Sequence[tuple[str, int]], every_environment: bool
) -> Iterator[tuple[tuple[str, int], str]]:
    facts = reader.session_facts(log, session_id)
    if not (every_environment or _is_gymnasium_s(str(facts["env"]["env_id"]))):
        raise UsageError("an environment that is not Gymnasium's own is drawn only with --frames")
    episodes = list(_needed(recorded.episodes(log, facts), {name for name, _ in wanted}))
    if sum(len(one.columns) for one in episodes) > _MOST_STEPS:
        raise UsageError(f"more than {_MOST_STEPS:,} steps would have to be played again")
    left = set(wanted)

    def is_wanted(episode: RecordedEpisode, number: int) -> bool:
        return (episode.episode_id, number) in left

    with contextlib.closing(resimulate.moments(facts, episodes, is_wanted)) as moments:
        for made in moments:
            if made.picture is not None and made.number is not None:
                place = (made.episode.episode_id, made.number)
                left.discard(place)
                yield place, _png(made.picture)
            if not left:
                return


def _is_gymnasium_s(env_id: str) -> bool:
    """Say whether opening it runs Gymnasium's own code: as registered here, not as a log says."""
    if env_id.startswith("ALE/"):
        return True
    entry_point = gym.registry[env_id].entry_point if env_id in gym.registry else None
    return isinstance(entry_point, str) and entry_point.startswith("gymnasium.")


def _needed(episodes: Iterable[RecordedEpisode], names: set[str]) -> Iterator[RecordedEpisode]:
    """Yield the episodes that are wanted, and of those before them what their generators went on from."""
    behind: dict[int, list[RecordedEpisode]] = {}
    for episode in episodes:
        waiting = behind.setdefault(episode.stream, [])
        if episode.reset_seed is not None:
            waiting.clear()
        waiting.append(episode)
        if episode.episode_id in names:
            yield from waiting
            waiting.clear()
            names = names - {episode.episode_id}
        if not names:
            return


def _png(picture: Any) -> str:
    pixels = np.asarray(picture, np.uint8)
    factor = -(-pixels.shape[1] // _WIDEST)
    if factor > 1:
        height, width = (size - size % factor for size in pixels.shape[:2])
        blocks = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
        pixels = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()
