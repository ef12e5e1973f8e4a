"""Training depends on the answers and the seed, and on nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from training_data import SPEC, synthetic

from rlhf_audit.errors import UsageError
from rlhf_audit.policy.network import NetworkSpec, initial_weights, weights_sha256
from rlhf_audit.replay.algorithms.fitting import Settings
from rlhf_audit.replay.evaluation import evaluate
from rlhf_audit.replay.trainer import ALGORITHMS, train
from rlhf_audit.types import RatedSteps


def kept(data: RatedSteps, rater: int) -> RatedSteps:
    """Return the log as if ``rater`` had never been there: others numbered by first appearance."""
    rows = data.raters != rater
    _, first = np.unique(data.raters[rows], return_index=True)
    order = data.raters[rows][np.sort(first)]
    number = {int(old): new for new, old in enumerate(order)}
    return replace(
        data,
        observations=data.observations[rows],
        actions=data.actions[rows],
        values=data.values[rows],
        raters=np.array([number[int(old)] for old in data.raters[rows]], np.int64),
        rater_ids=tuple(data.rater_ids[int(old)] for old in order),
        episodes=data.episodes[rows],
        action_probabilities=data.action_probabilities[rows],
    )


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_pseudonyms_do_not_matter(algorithm: str) -> None:
    data = synthetic(60)
    renamed = replace(data, rater_ids=("r-zz", "r-aa", "r-mm"))
    first, second = train(data, SPEC, algorithm, 1), train(renamed, SPEC, algorithm, 1)
    assert first.weights_sha256 == second.weights_sha256
    assert first.reliabilities == second.reliabilities


def test_numbers_of_raters_do_not_matter() -> None:
    data = synthetic(60)
    order = np.array([2, 0, 1])
    renumbered = replace(data, raters=order[data.raters])
    assert train(data, SPEC).weights_sha256 == train(renumbered, SPEC).weights_sha256


def test_a_rater_taken_out_leaves_no_trace() -> None:
    # Rows 2, 5, 8, ... are the third rater's: the same log, recorded without them, has the others' rows only.
    data = synthetic(60)
    without = kept(data, 2)
    recorded = synthetic(60)
    rows = [index for index in range(60) if index % 3 != 2]
    never = replace(
        without,
        observations=recorded.observations[rows],
        actions=recorded.actions[rows],
        values=recorded.values[rows],
        raters=np.arange(40) % 2,
    )
    assert train(without, SPEC).weights_sha256 == train(never, SPEC).weights_sha256
    assert train(without, SPEC).weights_sha256 != train(data, SPEC).weights_sha256


def test_seed_and_answers_do_matter() -> None:
    data = synthetic(60)
    digest = train(data, SPEC, seed=0).weights_sha256
    assert digest != train(data, SPEC, seed=1).weights_sha256
    assert digest != train(replace(data, values=1 - data.values), SPEC, seed=0).weights_sha256


def test_the_result_says_what_made_it() -> None:
    done: list[tuple[int, int]] = []
    policy = train(synthetic(90), SPEC, progress=lambda now, total: done.append((now, total)))
    assert policy.weights_sha256 == weights_sha256(policy.weights)
    assert (policy.rows, policy.mode, policy.algorithm) == (90, "xla", "likelihood")
    assert policy.parameters["seed"] == 0 and policy.parameters["folds"] == 3
    assert [reliability.n for reliability in policy.reliabilities] == [30, 30, 30]
    assert done[-1][0] == done[-1][1] and done == sorted(done)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_few_rows_still_train(rows: int, algorithm: str) -> None:
    policy = train(synthetic(rows, 1), SPEC, algorithm)
    assert all(np.isfinite(array).all() for _, array in policy.weights)


def test_mini_batches_pass_over_every_row() -> None:
    data = synthetic(100, 1)
    small = Settings(batch_size=32, n_steps=1, n_epochs=20, rounds=1)
    policy = train(data, SPEC, "trusting", settings=small)
    last = replace(
        data, values=np.where(np.arange(100) == 99, 1 - data.values, data.values).astype(np.float32)
    )
    assert policy.weights_sha256 != train(last, SPEC, "trusting", settings=small).weights_sha256


def test_the_article_ignores_no() -> None:
    data = synthetic(40, 1)
    noes = replace(data, values=np.zeros(40, np.float32))
    untrained = train(replace(noes, observations=noes.observations * 0.5), SPEC, "article")
    assert train(noes, SPEC, "article").weights_sha256 == untrained.weights_sha256


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"n_actions": 3}, "another kind"),
        ({"values": np.full(60, 0.5, np.float32)}, "neither 0 nor 1"),
        ({"observations": np.full((60, 4), np.nan, np.float32)}, "not finite"),
        ({"actions": np.full(60, 2)}, "action is out of range"),
        ({"raters": np.full(60, 3)}, "rater index"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, object], needle: str) -> None:
    with pytest.raises(UsageError, match=needle):
        train(replace(synthetic(60), **change), SPEC)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        train(kept(synthetic(30, 1), 0), SPEC)
    with pytest.raises(UsageError, match="did you mean trusting"):
        train(synthetic(30), SPEC, "trustin")


def test_evaluation_repeats_and_brackets_the_mean() -> None:
    weights = initial_weights(SPEC, 0)
    first = evaluate(weights, SPEC, "CartPole-v1", 20, seed=5)
    assert first == evaluate(weights, SPEC, "CartPole-v1", 20, seed=5)
    assert first.lower <= first.mean_return <= first.upper and len(first.returns) == 20
    assert evaluate(weights, SPEC, "CartPole-v1", 20, seed=5, sampled=True).returns != first.returns
    with pytest.raises(UsageError, match="another kind"):
        evaluate(weights, NetworkSpec(3, 2), "CartPole-v1", 1)
    with pytest.raises(UsageError, match="needs an episode"):
        evaluate(weights, SPEC, "CartPole-v1", 0)
