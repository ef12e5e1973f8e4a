"""Films: what was recorded, with what may be shown of what raters said."""

import sys
from pathlib import Path

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from session_world import CART_POLE, Presses, enrolled, new_log, rate, script

from rlhf_audit.consent import register
from rlhf_audit.errors import UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.replay.resimulate import AstrayError
from rlhf_audit.replay.video import _remarks, film
from rlhf_audit.types import Purpose

GREEN, AMBER = (46, 160, 67), (210, 153, 34)


def world(root: Path) -> tuple[Log, str, str]:
    """A person rates 1, 0, skip, an answer taken back; a script rates the same steps."""
    log = new_log(root / "log")
    person, robot = enrolled(log), enrolled(log, "always-yes")
    rate(log, person, Presses("10s1u"), seed=5)
    script(log, robot, "always-yes", rates="s-0001")
    return log, person, robot


def frames(path: Path) -> list[np.ndarray]:
    image = Image.open(path)
    found = []
    for number in range(image.n_frames):
        image.seek(number)
        found.append(np.asarray(image.convert("RGB")))
    return found


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 24)


def test_a_film_shows_each_step_and_what_was_said_of_it(tmp_path: Path) -> None:
    log, person, robot = world(tmp_path)
    made = film(log, "s-0002", tmp_path / "film.gif", log.clock.now())
    assert made.raters == tuple(sorted((person, robot)))
    assert (made.steps, made.frames) == (5, 6)
    # Of the person: yes, no and a skip; what was taken back is not there.
    assert made.remarks == 3 + 5
    pictures = frames(tmp_path / "film.gif")
    assert len(pictures) == 6
    for picture, colour in zip(pictures, (GREEN, AMBER, AMBER, GREEN, GREEN), strict=False):
        assert near(picture[1, 300], colour)
    env = gym.make(CART_POLE, render_mode="rgb_array")
    env.reset(seed=_seed(log))
    inside = slice(10, 390), slice(10, 590)
    assert np.abs(pictures[0][inside].astype(int) - env.render()[inside]).mean() < 2


def _seed(log: Log) -> int:
    from rlhf_audit.log import reader

    return int(reader.session(log, "s-0001").episodes[0].reset_seed or 0)


def test_only_what_may_be_audited_is_shown(tmp_path: Path) -> None:
    log, person, robot = world(tmp_path)
    now = log.clock.now()

    def raters() -> set[str]:
        return {remark.rater_id for said in _remarks(log, "s-0001", now).values() for remark in said}

    assert raters() == {person, robot}
    register.withdraw(log, robot, [Purpose.TRAINING])
    assert raters() == {person, robot}
    register.withdraw(log, person, [Purpose.AUDIT])
    assert raters() == {robot}
    register.withdraw(log, robot)
    assert raters() == set()
    assert film(log, "s-0001", tmp_path / "none.gif", now).raters == ()


def test_the_same_film_has_the_same_bytes(tmp_path: Path) -> None:
    log, *_ = world(tmp_path)
    for name in ("one.gif", "two.gif"):
        film(log, "s-0001", tmp_path / name, log.clock.now())
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "two.gif").read_bytes()


def test_an_mp4_holds_the_same_pictures_longer_where_something_was_said(tmp_path: Path) -> None:
    log, *_ = world(tmp_path)
    made = film(log, "s-0001", tmp_path / "film.mp4", log.clock.now())
    read = imageio_ffmpeg.read_frames(str(tmp_path / "film.mp4"))
    size = next(read)["size"]
    assert size[0] == 600 and made.frames == 6
    # 50 a second: each of the five that somebody spoke of stands for 0.6 s.
    assert sum(1 for _ in read) == 5 * 30 + 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["film.mp4"]


def test_small_pictures_are_enlarged_and_continuous_actions_told(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    person = enrolled(log)
    with Recorder(gym.make("FrozenLake-v1"), log, person) as env:
        env.reset(seed=1)
        env.step(1)
        env.rate(1)
    with Recorder(gym.make("Pendulum-v1"), log, person, observations="hashed") as env:
        env.reset(seed=1)
        env.step([0.25])
    for name, shown in (("s-0001", (person,)), ("s-0002", ())):
        assert film(log, name, tmp_path / f"{name}.gif", log.clock.now()).raters == shown
        assert frames(tmp_path / f"{name}.gif")[0].shape[1] >= 320


def test_what_can_not_be_filmed_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    log, person, _ = world(tmp_path)
    with pytest.raises(UsageError, match="that film can't be made"):
        film(log, "s-0001", tmp_path / "film.avi", log.clock.now())
    with Recorder(gym.make("CartPole-v1"), log, person) as env:
        env.reset(seed=1)
        env._session.begin(0, 99, None, np.array(env.unwrapped.state, np.float32))
        env.step(0)
    with pytest.raises(AstrayError):
        film(log, "s-0003", tmp_path / "film.gif", log.clock.now())
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, *_ = world(tmp_path)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match="needs a package") as refused:
        film(log, "s-0001", tmp_path / "film.mp4", log.clock.now())
    assert refused.value.fix == "pip install 'rlhf-audit[video]'"
