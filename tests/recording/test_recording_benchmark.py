"""The benchmark of recording: it runs, and its check of what is lost finds what is lost."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import recording
from benchmarks.recorders import base
from benchmarks.recorders.environments import CASES, Case, actions, make
from benchmarks.recorders.ours import Ours

N = 60


@pytest.fixture
def kept(tmp_path):
    """What our recorder kept of 60 steps of CartPole, several episodes among them."""
    opened = Ours().open(make("CartPole-v1"), tmp_path)
    opened.env.reset(seed=1)
    base.play(opened, actions(make("CartPole-v1"), N))
    opened.env.close()
    return list(Ours().episodes(tmp_path))


def lost(episodes):
    return base.difference(iter(episodes), make("CartPole-v1"), actions(make("CartPole-v1"), N))


def test_nothing_is_lost_and_whatever_is_changed_is_found(kept):
    assert len(kept) > 1 and lost(kept) is None
    first, *others = kept
    for name, value in vars(first).items():
        changed = np.array(value)
        changed.flat[0] = changed.flat[0] + 1
        assert lost([replace(first, **{name: changed}), *others]) == name
        narrower = np.asarray(value).astype(np.float16)
        assert lost([replace(first, **{name: narrower}), *others]) == name
    assert lost(others) is not None
    assert lost(kept[:-1]) == f"episodes: fewer than {len(kept)}"
    assert lost([*kept, first]) == f"episodes: more than {len(kept)}"


def test_it_measures_and_prints_a_table_of_120_columns(monkeypatch, capsys):
    monkeypatch.setattr(recording, "CASES", [Case("CartPole-v1", 200, 50, 1, "short")])
    recording.main(["CartPole-v1", "--rounds", "1"])
    told = capsys.readouterr()
    assert all(len(line) <= 120 for line in told.out.splitlines())
    line = next(line for line in told.out.splitlines() if line.startswith("CartPole-v1    ours"))
    assert line.endswith("  yes")
    loaded = [line.split()[-1] for line in told.out.splitlines() if "DuckDB" in line]
    assert len(loaded) == 2 and all(int(rate.replace(",", "")) > 0 for rate in loaded)
    assert "CartPole-v1, round 1 of 1: ours" in told.err


def test_each_case_has_whole_stretches_for_slow_recorders_too():
    for case in CASES:
        assert case.steps // case.shorter // case.stretch >= 5
