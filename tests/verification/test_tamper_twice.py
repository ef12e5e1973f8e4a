"""Whatever is done to a log, `verify` and docs/verify.py notice it and name the same place; and only then."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))
sys.path.insert(0, str(Path(__file__).parent))

import small_log
import tampering
from small_log import signing_key  # noqa: F401 - for every test here
from tampering import Seen, World

from rlhf_audit import verification
from rlhf_audit.log import ledger

NOTHING = Seen(frozenset(), frozenset())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return tampering.build(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _nobody_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_PAUSE_S", 0.0)
    monkeypatch.setattr(ledger, "_LOOKS", 1)


def test_a_log_is_right_at_every_time_of_its_life(world: World) -> None:
    """New, in use, compacted, with a new key, with somebody erased: no false alarm."""
    for state in world.states:
        world.restore(state)
        is_last = state is world.states[-1]
        assert tampering.look(world, since=is_last) == NOTHING


def test_some_bytes_flipped(world: World) -> None:
    rng = random.Random(1)
    for path in small_log.every_file(world.home):
        if path != world.anchor:
            places = rng.sample(range(path.stat().st_size), min(6, path.stat().st_size))
            assert list(tampering.flipped(world, path, iter(places), rng)) == []
    assert tampering.look(world) == NOTHING


def test_some_of_everything(world: World) -> None:
    assert list(tampering.random_acts(world, 100, seed=2)) == []
    assert tampering.look(world) == NOTHING


@pytest.mark.sweep
def test_tamper_with_every_byte(world: World) -> None:
    rng, n_bytes, unseen = random.Random(3), 0, []
    files = [path for path in small_log.every_file(world.home) if path != world.anchor]
    for path in files:
        size = path.stat().st_size
        n_bytes += size
        unseen += list(tampering.flipped(world, path, iter(range(size)), rng))
    print(f"{n_bytes} bytes of {len(files)} files, one flipped at a time: {len(unseen)} unseen")
    assert unseen == []


@pytest.mark.sweep
def test_tamper_10_000_times(world: World) -> None:
    unseen = list(tampering.random_acts(world, 10_000, seed=4))
    print(f"10,000 acts of {len(tampering.ACTS)} kinds: {len(unseen)} unseen")
    assert unseen == []
