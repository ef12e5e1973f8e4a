"""Make recorded episodes again from their seeds and actions, and check every value on the way."""

import contextlib
import copy
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlhf_audit import envs
from rlhf_audit.errors import ReplayError, UsageError
from rlhf_audit.log import info as infos
from rlhf_audit.log.recorded import AT_ONCE, Columns, RecordedEpisode, plain_numbers
from rlhf_audit.replay.comparing import Difference, each_same, same, same_number, stored_form
from rlhf_audit.seeds import child_seed
from rlhf_audit.types import Transition


class Made(NamedTuple):
    """One moment of an episode that was made again, and the step from there.

    Attributes:
        number: Of the step; None after the last one.
        observation: What ``reset`` gave, copied, in an episode's first moment; None in the others.
        after: The observation after the step, good until the next moment is asked for: the environment may
            use its memory again. None after the last step.
        picture: What the environment looked like before the step; None unless pictures were asked for.
    """

    episode: RecordedEpisode
    number: int | None
    observation: Any
    after: Any
    picture: Any

    @property
    def step(self) -> Transition | None:
        """The recorded step, all of which came out; None after the last one."""
        return None if self.number is None else self.episode.steps[self.number]


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
    facts: Mapping[str, Any],
    episodes: Iterable[RecordedEpisode],
    frames: bool | Callable[[RecordedEpisode, int], bool] = False,
) -> Generator[Made, None, None]:
    """Make episodes again; in each stream one environment, whose generators go on as they did.

    Args:
        facts: The ledger's of the session.
        episodes: All of it, in order; or some, each with those before it whose generators it goes on from.
        frames: Take a picture of each moment; or of the steps that this function picks.

    Raises:
        AstrayError: The first value that came out otherwise.
        ReplayError: The environment can't be opened here.

    Determinism:
        Exact comparison; no clock, no randomness beyond the recorded seeds.
    """
    stored = stored_form(facts)
    for _, group in itertools.groupby(episodes, key=lambda episode: episode.stream):
        with contextlib.closing(opened(facts, bool(frames))) as env:
            for episode in group:
                yield from _again(facts, episode, env, stored, frames)


def _again(
    facts: Mapping[str, Any],
    episode: RecordedEpisode,
    env: gym.Env[Any, Any],
    stored: Callable[[Any], Any],
    frames: bool | Callable[[RecordedEpisode, int], bool],
) -> Iterator[Made]:
    keys, space = facts["info"], env.action_space
    seen = each_same(episode.columns.observations, stored)
    allowed = range(space.start, space.start + space.n) if isinstance(space, gym.spaces.Discrete) else None

    def astray(number: int, field: str) -> AstrayError:
        near = episode.steps[min(number, len(episode.steps) - 1)] if len(episode.steps) else None
        where = (near.episode_id, near.step) if near else (episode.episode_id, 0)
        return AstrayError(Difference(facts["session_id"], *where, field))

    # A policy's session has its seeds by rule.
    wanted = child_seed(facts["seed"], "reset", episode.episode) % 2**31 if facts["policy"] else None
    if wanted is not None and episode.reset_seed != wanted:
        raise astray(0, "reset_seed")
    options = None if episode.reset_options is None else json.loads(episode.reset_options)
    observation = env.reset(seed=episode.reset_seed, options=options)[0]
    first = copy.deepcopy(observation)
    for number, (action, reward, ended, cut, said) in enumerate(_steps(episode.columns, bool(keys))):
        if not seen(number, observation):
            raise astray(number, "observation")
        if allowed is not None and action not in allowed:
            raise astray(number, "action")
        picture = env.render() if (frames(episode, number) if callable(frames) else frames) else None
        observation, env_reward, terminated, truncated, info = env.step(action)
        if not same_number(reward, float(env_reward)):
            raise astray(number, "env_reward")
        if ended != terminated or cut != truncated:
            raise astray(number, "terminated" if ended != terminated else "truncated")
        if keys and said != infos.kept(info, keys):
            raise astray(number, "info")
        yield Made(episode, number, first, observation, picture)
        first = None
    if not same(episode.final_observation, stored(observation)):
        raise astray(len(episode.columns), "final_observation")
    yield Made(episode, None, first, None, env.render() if frames is True else None)


def _steps(columns: Columns, info: bool) -> Iterator[tuple[Any, float, bool, bool, str | None]]:
    """Yield action, env_reward, terminated, truncated and, if asked for, info of each step."""
    for start in range(0, len(columns), AT_ONCE):
        some = columns.cut(start, start + AT_ONCE)
        said = some.info.to_pylist() if info else itertools.repeat(None)
        numbers = (np.asarray(one).tolist() for one in (some.env_rewards, some.terminated, some.truncated))
        yield from zip(plain_numbers(some.actions), *numbers, said, strict=False)
