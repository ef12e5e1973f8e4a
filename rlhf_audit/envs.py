"""Gymnasium environments: open one, say exactly which one it was, and check that it is the same one again."""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from gymnasium.error import DependencyNotInstalled

from rlhf_audit import canonical
from rlhf_audit.errors import ReplayError, UsageError, near
from rlhf_audit.spaces import describing

_DRAWS_WITH_PYGAME = ("gymnasium.envs.classic_control", "gymnasium.envs.box2d", "gymnasium.envs.toy_text")
_SIMULATORS = (("gymnasium.envs.box2d", "Box2D"), ("gymnasium.envs.mujoco", "mujoco"))
_PLAYABLE = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
_QUIET_PYGAME = {
    # It greets on stdout, where --json promises one document, and looks for a screen and a sound card.
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
}


class EnvMismatchError(ReplayError):
    """The environment is not the build that was recorded.

    Args:
        field: Where the two first differ, such as ``spec.max_episode_steps``.
        recorded: Its value in the record.
        found: Its value here.
    """

    def __init__(self, env_id: str, field: str, recorded: object, found: object, fix: str = "") -> None:
        super().__init__(
            f"{env_id} is not the environment that was recorded: its {field} differs",
            seen=f"{field} = {found}",
            needed=f"{field} = {recorded}",
            fix=fix or "open the environment as it was when it was recorded",
        )
        self.field = field


class NoPictureError(UsageError):
    """The environment cannot be drawn here; whoever can do without pictures may open it again without."""


@dataclass(frozen=True)
class EnvRecord:
    """Which environment was played, as it is written into ``episodes/``.

    Attributes:
        env_id: What ``open_env`` takes to open it again.
        spec: What of gymnasium's EnvSpec changes behaviour; ``render_mode`` is left out.
        observation_space: As ``spaces.describing`` writes it.
        action_space: Likewise.
        versions: Of gymnasium, numpy and the distribution that holds the environment.
    """

    env_id: str
    spec: Mapping[str, Any]
    observation_space: Mapping[str, Any]
    action_space: Mapping[str, Any]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """Return canonical JSON."""
        return canonical.json_bytes(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> "EnvRecord":
        """Read what ``to_json`` wrote.

        Raises:
            ReplayError: ``text`` is not an environment's record.
        """
        try:
            record = cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise _unreadable(text) from error
        if not isinstance(record.env_id, str) or not all(
            isinstance(part, dict)
            for part in (record.spec, record.observation_space, record.action_space, record.versions)
        ):
            raise _unreadable(text)
        return record


def open_env(env_id: str, frames: bool = False, **kept: Any) -> gym.Env[Any, Any]:
    """Open an environment.

    Args:
        env_id: A registered id, or gymnasium's ``module:Id-v0``, which imports ``module`` first.
        frames: Make it able to ``render()`` pictures, ``(h, w, 3)`` uint8.
        kept: The environment's own arguments, and gymnasium's ``max_episode_steps``.

    Raises:
        UsageError: The id is unknown, or a package is missing.
        NoPictureError: ``frames`` was asked for, and this environment cannot be drawn here.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET_PYGAME.items()})
    arguments: dict[str, Any] = {**kept, "render_mode": "rgb_array"} if frames else kept
    try:
        if env_id.startswith("ALE/"):
            # Registers its games, which gymnasium does not do by itself.
            importlib.import_module("ale_py")
        with warnings.catch_warnings(action="ignore"):
            env: gym.Env[Any, Any] = gym.make(env_id, disable_env_checker=True, **arguments)
    except DependencyNotInstalled as error:
        raise _missing(env_id, str(error)) from error
    except ImportError as error:
        raise _missing(env_id, f"{type(error).__name__}: {error}") from error
    except gym.error.Error as error:
        raise UsageError(
            f"no environment {env_id!r}",
            seen="gymnasium has not registered it",
            needed="an id that gymnasium knows, such as CartPole-v1",
            fix=near(env_id, gym.registry) or "python -c 'import gymnasium; gymnasium.pprint_registry()'",
        ) from error
    module, colon, _ = env_id.rpartition(":")
    if colon and env.unwrapped.spec is not None:
        # Without its module the id would open nothing in another process.
        env.unwrapped.spec.id = f"{module}:{env.unwrapped.spec.id}"
    try:
        if frames:
            _check_pictures(env_id, env)
    except UsageError:
        env.close()
        raise
    return env


def describe(env: gym.Env[Any, Any]) -> EnvRecord:
    """Return what to write down about an environment, so that the same one can be opened again.

    One that gymnasium did not make has no id; it goes by the name of its class, and can't be opened again.

    Raises:
        UsageError: Its spec cannot be written as JSON, or one of its spaces is of a kind that nobody knows.
    """
    own = type(env.unwrapped)
    spec = env.spec or EnvSpec(own.__name__.strip("_"), _name(own))
    entry_point = spec.entry_point
    name = entry_point if isinstance(entry_point, str) else _name(entry_point)
    behaviour = {
        "id": spec.id,
        "entry_point": name,
        "kwargs": {key: value for key, value in spec.kwargs.items() if key != "render_mode"},
        "max_episode_steps": spec.max_episode_steps,
        "nondeterministic": spec.nondeterministic,
        "additional_wrappers": [_wrapper(wrapper) for wrapper in spec.additional_wrappers],
    }
    try:
        behaviour = json.loads(canonical.json_bytes(behaviour))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the arguments of {spec.id} cannot be written down",
            seen=str(error),
            needed="numbers, text, lists and mappings only",
        ) from error
    return EnvRecord(
        env_id=spec.id,
        spec=behaviour,
        observation_space=describing.describe(env.observation_space),
        action_space=describing.describe(env.action_space),
        versions=_versions(name),
    )


def _wrapper(spec: WrapperSpec) -> dict[str, Any]:
    """Return a wrapper as JSON; without arguments if JSON can't say them, so that it is refused later."""
    given = spec.kwargs or {}
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in given.items()}
    kwargs = None
    with contextlib.suppress(TypeError, ValueError):
        kwargs = None if spec.kwargs is None else json.loads(canonical.json_bytes(plain))
    return {"name": spec.name, "entry_point": spec.entry_point, "kwargs": kwargs}


def open_again(record: EnvRecord, frames: bool = False) -> gym.Env[Any, Any]:
    """Open the environment of a record, with the arguments and gymnasium's own wrappers that it had.

    Raises:
        EnvMismatchError: It is not the one in the record, or had a wrapper that is not gymnasium's: a record
            may be a stranger's, and names no code that is run.
    """
    spec = record.spec
    kept = {**spec["kwargs"], "max_episode_steps": spec["max_episode_steps"]}
    given = {name: value for name, value in kept.items() if value is not None}
    env = open_env(_importing(record), frames, **given)
    try:
        for wrapper in spec["additional_wrappers"]:
            module, _, name = wrapper["entry_point"].partition(":")
            known = getattr(gym.wrappers, name, None)
            if known is None or not module.startswith("gymnasium.wrappers") or wrapper["kwargs"] is None:
                raise EnvMismatchError(
                    record.env_id, f"wrapper {name}", wrapper["entry_point"], "only gymnasium's own wrappers"
                )
            env = known(env, **wrapper["kwargs"])
        check_same(record, env, versions=False)
    except (EnvMismatchError, TypeError, ValueError) as error:
        env.close()
        if isinstance(error, EnvMismatchError):
            raise
        raise EnvMismatchError(
            record.env_id, "wrappers", "as recorded", "wrappers that refuse that"
        ) from error
    return env


def _importing(record: EnvRecord) -> str:
    """Return the record's id; with its module, as ``module:Id-v0``, if gymnasium has not registered it.

    A script had imported that itself: gymnasium then keeps the id alone.
    """
    env_id, entry_point = record.env_id, str(record.spec["entry_point"])
    module = entry_point.partition(":")[0]
    known = ":" in env_id or env_id in gym.registry or env_id.startswith("ALE/")
    return env_id if known or not re.fullmatch(r"[A-Za-z_][\w.]*", module) else f"{module}:{env_id}"


def check_same(record: EnvRecord, env: gym.Env[Any, Any], *, versions: bool = True) -> None:
    """Refuse an environment that is not the one in the record.

    Args:
        record: What was written when it was recorded.
        env: What ``open_env`` gives here.
        versions: Also refuse other versions of gymnasium, numpy and the environment's own distribution.

    Raises:
        EnvMismatchError: Names the first difference.
    """
    here = describe(env)
    if here.env_id == f"{here.env_id.partition(':')[0]}:{record.env_id}":
        # The same by its whole name.
        here = replace(here, env_id=record.env_id, spec={**here.spec, "id": record.spec["id"]})
    parts = ["env_id", "spec", "observation_space", "action_space"] + ["versions"] * versions
    for part in parts:
        difference = _first_difference(part, getattr(record, part), getattr(here, part))
        if difference is not None:
            raise EnvMismatchError(record.env_id, *difference, fix=_install(record.versions, here.versions))


def _first_difference(field: str, recorded: object, found: object) -> tuple[str, object, object] | None:
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for key in sorted({*recorded, *found}):
            inner = _first_difference(f"{field}.{key}", recorded.get(key), found.get(key))
            if inner is not None:
                return inner
        return None
    return None if recorded == found else (field, recorded, found)


def _install(recorded: Mapping[str, str], found: Mapping[str, str]) -> str:
    wanted = [f"{name}=={recorded[name]}" for name in sorted(recorded) if recorded[name] != found.get(name)]
    # The record may be somebody else's log: what is pasted into a shell is quoted.
    return f"pip install {shlex.join(wanted)}" if wanted else ""


def check_playable(record: EnvRecord) -> None:
    """Refuse an environment for whose spaces there is no policy network.

    Raises:
        UsageError: Names the space.
    """
    for which, space in (("observation", record.observation_space), ("action", record.action_space)):
        for found in _plain_spaces(space):
            if found["type"] not in _PLAYABLE:
                needed = f"{', '.join(_PLAYABLE)}; or a Dict or Tuple of them"
                raise _unsupported(record.env_id, f"{which} space", found, needed)


def _plain_spaces(space: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if space["type"] == "Dict":
        for _, member in space["spaces"]:
            yield from _plain_spaces(member)
    elif space["type"] == "Tuple":
        for member in space["spaces"]:
            yield from _plain_spaces(member)
    else:
        yield space


def _unsupported(env_id: str, which: str, space: Mapping[str, Any], needed: str) -> UsageError:
    shape = f" of shape {tuple(space['shape'])}" if "shape" in space else ""
    return UsageError(
        f"no policy can act in {env_id}: its {which} is not supported",
        seen=f"{which} {space['type']}{shape}",
        needed=needed,
        fix="choose another environment, or wrap it in one that has such a space",
    )


def _check_pictures(env_id: str, env: gym.Env[Any, Any]) -> None:
    if "rgb_array" not in env.metadata.get("render_modes", []):
        raise NoPictureError(
            f"{env_id} has no pictures", seen=str(env.metadata.get("render_modes")), needed="rgb_array"
        )
    drawn = type(env.unwrapped).__module__.startswith(_DRAWS_WITH_PYGAME)
    if drawn and importlib.util.find_spec("pygame") is None:
        raise NoPictureError(
            f"{env_id} cannot be drawn: pygame is not installed",
            needed="pygame",
            fix="pip install 'rlhf-audit[render]'",
        )


def _unreadable(text: str) -> ReplayError:
    return ReplayError(
        "the record of an environment cannot be read",
        seen=repr(text[:60]),
        needed="the JSON of an EnvRecord",
        fix="rlhf-audit verify LOG",
    )


def _missing(env_id: str, reason: str) -> UsageError:
    extras = {"box2d": "box2d", "mujoco": "mujoco", "ale_py": "atari"}
    extra = next((extra for word, extra in extras.items() if word in reason.lower()), None)
    return UsageError(
        f"{env_id!r} needs a package that is not installed",
        seen=reason.splitlines()[0],
        fix=f"pip install 'rlhf-audit[{extra}]'" if extra else "install what the line above names",
    )


def _name(creator: object) -> str:
    return f"{getattr(creator, '__module__', '')}:{getattr(creator, '__qualname__', type(creator).__name__)}"


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    # Walks through all that is installed: half a second.
    return importlib.metadata.packages_distributions()


def _versions(entry_point: str) -> dict[str, str]:
    names = ["gymnasium", "numpy"]
    module = entry_point.partition(":")[0]
    package = next(
        (name for prefix, name in _SIMULATORS if module.startswith(prefix)), module.partition(".")[0]
    )
    if package != "gymnasium":
        found = _distributions().get(package, [])
        # Several may bring parts of one package: the one of its name, if there is one.
        names += sorted(found, key=lambda name: (name.lower().replace("-", "_") != package.lower(), name))[:1]
    return {name.lower(): importlib.metadata.version(name) for name in names}
