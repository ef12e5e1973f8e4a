"""Make recorded episodes again from their seeds and actions, and check every value on the way."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from rlhf_audit import envs
from rlhf_audit.errors import ReplayError, UsageError
from rlhf_audit.log import info as infos
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.replay.comparing import Difference, copied, same, stored_form
from rlhf_audit.seeds import child_seed
from rlhf_audit.types import Transition


@dataclass(frozen=True)
class Made:
    """One moment of an episode that was made again, and the step from there.

    Attributes:
        observation: As the environment gave it, copied.
        step: The recorded step, all of which came out; None after the last one.
        after: The observation after the step, copied; None after the last one.
        picture: What the environment looked like before the step; None unless pictures were asked for.
    """

    episode: RecordedEpisode
    observation: Any
    step: Transition | None
    after: Any
    picture: Any


class AstrayError(ReplayError):
    """Something came out otherwise than recorded."""

    def __init__(self, difference: Difference) -> None:
        where = f"episode {difference.episode_id}, step {difference.step}"
        super().__init__(
            f"{difference.session_id} does not come out as it was recorded",
            seen=f"another {difference.field} in {where}",
            needed="every value as recorded",
            fix="replay with the versions of packages that env_spec names, on the machine that recorded it",
        )
        self.difference = difference


def opened(facts: Mapping[str, Any], frames: bool = False) -> gym.Env[Any, Any]:
    """Open a session's environment again.

    Raises:
        ReplayError: It is none that can be opened here.
    """
    record = envs.EnvRecord.from_json(json.dumps(facts["env"]))
    try:
        return envs.open_again(record, frames)
    except envs.NoPictureError:
        raise
    except UsageError as error:
        made_by = record.spec["entry_point"].rpartition(":")[2].rpartition(".")[2]
        if made_by.strip("_") != record.env_id:
            raise
        raise ReplayError(
            f"the environment of {facts['session_id']} can't be opened again",
            seen=f"{record.spec['entry_point']}, which was not made by gymnasium.make",
            needed="an environment with an id",
            fix="gymnasium.register it, record gymnasium.make('module:Id-v0') next time",
        ) from error


def moments(
    facts: Mapping[str, Any], episodes: Iterable[RecordedEpisode], frames: bool = False
) -> Iterator[Made]:
    """Make episodes again; in each stream one environment, whose generators go on as they did.

    Args:
        facts: The ledger's of the session.
        episodes: All of it, in order.
        frames: Take a picture of each moment.

    Raises:
        AstrayError: The first value that came out otherwise.
        ReplayError: The environment can't be opened here.

    Determinism:
        Exact comparison; no clock, no randomness beyond the recorded seeds.
    """
    for _, group in itertools.groupby(episodes, key=lambda episode: episode.stream):
        with contextlib.closing(opened(facts, frames)) as env:
            for episode in group:
                yield from _again(facts, episode, env, frames)


def _again(
    facts: Mapping[str, Any], episode: RecordedEpisode, env: gym.Env[Any, Any], frames: bool
) -> Iterator[Made]:
    where: tuple[str, int] = (episode.episode_id, 0)

    def check(recorded: Any, found: Any, field: str) -> None:
        if not same(recorded, found):
            raise AstrayError(Difference(facts["session_id"], *where, field))

    if facts["policy"] is not None:
        check(episode.reset_seed, child_seed(facts["seed"], "reset", episode.episode) % 2**31, "reset_seed")
    stored = stored_form(facts)
    options = None if episode.reset_options is None else json.loads(episode.reset_options)
    observation = copied(env.reset(seed=episode.reset_seed, options=options)[0])
    for step in episode.steps:
        where = (step.episode_id, step.step)
        check(step.observation, stored(observation), "observation")
        if isinstance(env.action_space, gym.spaces.Discrete):
            check(True, env.action_space.contains(np.int64(step.action)), "action")
        picture = env.render() if frames else None
        after, env_reward, terminated, truncated, info = env.step(step.action)
        check(step.env_reward, float(env_reward), "env_reward")
        check(step.terminated, bool(terminated), "terminated")
        check(step.truncated, bool(truncated), "truncated")
        if facts["info"]:
            check(step.info, infos.kept(info, facts["info"]), "info")
        after = copied(after)
        yield Made(episode, observation, step, after, picture)
        observation = after
    check(episode.final_observation, stored(observation), "final_observation")
    yield Made(episode, observation, None, None, env.render() if frames else None)
