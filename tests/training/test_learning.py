"""The figures of docs/learning.md. One seed of a kind runs always; all ten with ``-m learning``."""

import pytest
from training_data import PANEL, in_rounds, mean_return, rated

from rlhf_audit.estimators.reliability import Verdict, identified, verdict
from rlhf_audit.replay.trainer import train

SOLVED, LANDED = 475, 200
CART, LANDER = "CartPole-v1", "LunarLander-v3"


def rest(seeds: range) -> list[object]:
    """Return the seeds, all but the first marked as the long run's."""
    return [seed if seed == 0 else pytest.param(seed, marks=pytest.mark.learning) for seed in seeds]


@pytest.mark.parametrize("seed", rest(range(10)))
def test_a_hundred_answers_of_an_oracle_solve_cartpole(seed: int) -> None:
    data, spec = rated(CART, 100, seed)
    assert mean_return(CART, data, spec, "likelihood", seed) >= SOLVED


@pytest.mark.parametrize("seed", rest(range(10)))
def test_the_articles_update_does_not(seed: int) -> None:
    data, spec = rated(CART, 100, seed)
    assert mean_return(CART, data, spec, "article", seed) < SOLVED


@pytest.mark.parametrize("in_turn", [True, pytest.param(False, marks=pytest.mark.learning)])
@pytest.mark.parametrize("seed", rest(range(10)))
def test_em_sees_through_two_bad_raters_of_five(seed: int, in_turn: bool) -> None:
    data, spec = rated(CART, 200, seed, PANEL, in_turn=in_turn)
    found = train(data, spec, "likelihood", seed).reliabilities
    assert [verdict(reliability) for reliability in found] == [
        *[Verdict.GOOD] * 3,
        Verdict.UNINFORMATIVE,
        Verdict.INVERTED,
    ]
    assert identified(found)
    assert mean_return(CART, data, spec, "likelihood", seed) >= SOLVED


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(3))
def test_two_thousand_answers_in_five_rounds_land(seed: int) -> None:
    data, spec = in_rounds(LANDER, 2_000, 5, seed)
    assert len(data) == 2_000
    assert mean_return(LANDER, data, spec, "likelihood", seed) >= LANDED
    assert mean_return(LANDER, data, spec, "article", seed) < LANDED
