import contextlib
import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from rlhf_audit import envs
from rlhf_audit.canonical import json_bytes
from rlhf_audit.envs import (
    EnvMismatchError,
    EnvRecord,
    NoPictureError,
    check_same,
    describe,
    open_again,
    open_env,
)
from rlhf_audit.errors import ReplayError, UsageError
from rlhf_audit.meanings import action_meanings, observation_meanings
from rlhf_audit.raters.oracles import ORACLES, oracle_action

# Box2D and old ids warn; neither is ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*Overriding environment")
UNIT = Box(-1.0, 1.0, (3,))


class OddEnv(gym.Env[Any, Any]):
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        observations: gym.Space[Any] = UNIT,
        actions: gym.Space[Any] | None = None,
        render_mode: str | None = None,
        gain: Any = 1.0,
    ) -> None:
        self.observation_space = observations
        self.action_space = actions or Discrete(2)
        self.render_mode = render_mode


@pytest.fixture
def odd(monkeypatch):
    """Registers OddEnv with the arguments given, for one test."""

    def register(**arguments: Any) -> str:
        gym.register("Unsure-v0", entry_point=OddEnv, kwargs=arguments)
        return "Unsure-v0"

    yield register
    gym.registry.pop("Unsure-v0", None)


@pytest.mark.parametrize("env_id", ORACLES)
def test_a_record_survives_json_and_matches_its_environment(env_id):
    env = open_env(env_id)
    record = describe(env)
    text = record.to_json()
    assert EnvRecord.from_json(text) == record
    assert json_bytes(json.loads(text)).decode() == text
    assert record.env_id == env_id
    n_actions, observation_dim = int(env.action_space.n), env.observation_space.shape[0]
    assert record.action_space["n"] == n_actions
    assert record.observation_space["shape"] == [observation_dim]
    assert record.observation_space["dtype"] == str(env.observation_space.dtype)
    check_same(record, open_env(env_id))
    assert len(action_meanings(env_id, n_actions)) == n_actions
    assert not action_meanings(env_id, n_actions)[0].startswith("action")
    assert not observation_meanings(env_id, observation_dim)[0].startswith("number")


def test_what_a_record_holds():
    record = describe(open_env("CartPole-v1"))
    assert record.observation_space["high"][1] == "inf" and record.observation_space["low"][3] == "-inf"
    assert record.spec["max_episode_steps"] == 500
    assert record.versions == {"gymnasium": gym.__version__, "numpy": np.__version__}
    assert "box2d" in describe(open_env("LunarLander-v3")).versions


def test_pictures_are_not_part_of_the_record():
    with_pictures = open_env("CartPole-v1", frames=True)
    assert describe(with_pictures) == describe(open_env("CartPole-v1"))
    with_pictures.reset(seed=0)
    assert with_pictures.render().shape == (400, 600, 3)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3"])
def test_drawing_does_not_change_what_happens(env_id):
    plain, drawn = open_env(env_id), open_env(env_id, frames=True)
    a, b = plain.reset(seed=3)[0], drawn.reset(seed=3)[0]
    for step in range(150):
        assert np.array_equal(a, b)
        if step % 10 == 0:
            drawn.render()
        action = oracle_action(env_id, a)
        a, reward_a, over_a, *_ = plain.step(action)
        b, reward_b, over_b, *_ = drawn.step(action)
        assert (reward_a, over_a) == (reward_b, over_b)


@pytest.mark.parametrize(
    ("env_id", "hint"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("CartPole-v9", "CartPole-v1"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("no_such_module:Some-v0", "line above"),
        ("", "gymnasium"),
        ("two words", "gymnasium"),
    ],
)
def test_an_unknown_environment_is_refused_with_a_hint(env_id, hint):
    with pytest.raises(UsageError) as refused:
        open_env(env_id)
    assert refused.value.exit_code == 2
    assert hint in refused.value.fix


@pytest.mark.parametrize(
    "arguments",
    [
        {"observations": Box(-1.0, 1.0, (2, 3))},
        {"observations": Box(-1.0, 1.0, ())},
        {"observations": Discrete(4)},
        {"observations": Dict(a=UNIT)},
        {"actions": UNIT},
        {"actions": Discrete(3, start=1)},
    ],
)
def test_every_space_is_written_down_and_found_again(odd, arguments):
    odd()
    gym.register("Unsure-v1", entry_point=lambda render_mode=None: OddEnv(**arguments))
    record = EnvRecord.from_json(describe(open_env("Unsure-v1")).to_json())
    check_same(record, open_env("Unsure-v1"))
    del gym.registry["Unsure-v1"]


def test_arguments_that_are_not_json_are_refused(odd):
    with pytest.raises(UsageError, match="cannot be written down"):
        describe(open_env(odd(gain=object())))
    with pytest.raises(UsageError, match="cannot be written down"):
        describe(open_env(odd(gain=float("nan"))))


def test_an_environment_without_a_spec_goes_by_its_class_and_cannot_be_opened_again():
    record = describe(OddEnv())
    assert record.env_id == "OddEnv"
    with pytest.raises(UsageError, match="no environment"):
        open_again(record)


def test_a_missing_box2d_names_the_extra(monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise gym.error.DependencyNotInstalled("Box2D is not installed, run `pip install swig`")

    monkeypatch.setattr(gym, "make", broken)
    with pytest.raises(UsageError) as refused:
        open_env("LunarLander-v3")
    assert refused.value.fix == "pip install 'rlhf-audit[box2d]'"


def test_a_missing_pygame_is_told_before_the_session_and_can_be_done_without(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        envs.importlib.util, "find_spec", lambda name, *rest: None if name == "pygame" else found(name, *rest)
    )
    with pytest.raises(NoPictureError) as refused:
        open_env("CartPole-v1", frames=True)
    assert "rlhf-audit[render]" in refused.value.fix
    open_env("CartPole-v1")


@pytest.mark.filterwarnings("ignore:.*render_mode")
def test_an_environment_that_cannot_be_drawn_says_so(odd):
    with pytest.raises(NoPictureError):
        open_env(odd(), frames=True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"env_id": "Acrobot-v1"}, "env_id"),
        ({"spec": "max_episode_steps"}, "spec.max_episode_steps"),
        ({"observation_space": "high"}, "observation_space.high"),
        ({"action_space": "n"}, "action_space.n"),
        ({"versions": "numpy"}, "versions.numpy"),
    ],
)
def test_the_first_difference_is_named(change, field):
    env = open_env("CartPole-v1")
    record = describe(env)
    part, key = next(iter(change.items()))
    value = key if part == "env_id" else {**getattr(record, part), key: "0.1; rm -rf ~"}
    with pytest.raises(EnvMismatchError) as refused:
        check_same(dataclasses.replace(record, **{part: value}), env)
    assert isinstance(refused.value, ReplayError)
    assert refused.value.field == field
    if part == "versions":
        assert refused.value.fix == "pip install 'numpy==0.1; rm -rf ~'"
        check_same(dataclasses.replace(record, versions=value), env, versions=False)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"env_id":"a"}', '{"env_id":1,"spec":[],"versions":0}', "null", "\ud800"]
)
def test_a_damaged_record_is_refused(text):
    with pytest.raises(ReplayError):
        EnvRecord.from_json(text)


def test_a_damaged_part_of_a_record_is_refused():
    fields = json.loads(describe(open_env("CartPole-v1")).to_json())
    for part in fields:
        with pytest.raises(ReplayError):
            EnvRecord.from_json(json.dumps({**fields, part: [1]}))


def test_an_id_with_a_module_opens_again_in_another_process(tmp_path):
    (tmp_path / "my_world.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gym.register('Mine-v0', entry_point='my_world:CartPoleEnv', max_episode_steps=9)\n"
    )
    code = (
        "from rlhf_audit.envs import *\n"
        "import sys\n"
        "told = sys.argv[1:]\n"
        "record = EnvRecord.from_json(told[0]) if told else describe(open_env('my_world:Mine-v0'))\n"
        "check_same(record, open_env(record.env_id))\n"
        "print(record.to_json())"
    )
    first = _python(code, cwd=tmp_path)
    assert json.loads(first)["env_id"] == "my_world:Mine-v0"
    assert _python(code, first.strip(), cwd=tmp_path) == first


def test_pygame_does_not_greet_on_standard_output():
    lines = [
        "from rlhf_audit.envs import open_env",
        "env = open_env('CartPole-v1', frames=True)",
        "env.reset()",
        "env.render()",
    ]
    assert _python("\n".join(lines)) == ""


def _python(code: str, *arguments: str, cwd: Any = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_what_a_module_registers_is_opened_again_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worlds_of_my_own.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class World(CartPoleEnv):\n    pass\n"
        "gym.register('My/World-v0', entry_point='worlds_of_my_own:World')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("worlds_of_my_own")
    record = envs.describe(gym.make("My/World-v0"))
    assert record.env_id == "My/World-v0"
    # As in a process that has not imported it.
    gym.registry.pop("My/World-v0")
    del sys.modules["worlds_of_my_own"]
    with contextlib.closing(envs.open_again(record)) as env:
        assert type(env.unwrapped).__name__ == "World"
    gym.registry.pop("My/World-v0")
