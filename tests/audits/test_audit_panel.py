"""The panel family beside its cases: the estimators themselves, and what does not grow with the log."""

from random import Random

import audit_panel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_audit.audits import runner
from rlhf_audit.estimators import bootstrap, complete_blocks, dawid_skene, homogeneity

FEW = settings(max_examples=25, deadline=None, derandomize=True)


def crowd(seed: int, n_items: int, n_raters: int, k: int, per_item: int) -> tuple[np.ndarray, ...]:
    """Return items, raters, labels, and the truth: raters are right with 60 to 95 per cent."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n_items)
    raters = rng.random((n_items, n_raters)).argsort(axis=1)[:, :per_item].reshape(-1)
    items = np.repeat(np.arange(n_items), per_item)
    right = rng.random(len(items)) < np.linspace(0.6, 0.95, n_raters)[raters]
    labels = np.where(right, truth[items], rng.integers(0, k, len(items)))
    return items, raters, labels, truth


@FEW
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 5))
def test_the_likelihood_never_falls_and_ends_at_its_height(seed: int, k: int, per_item: int) -> None:
    items, raters, labels, _ = crowd(seed, 40, 6, k, per_item)
    fit = dawid_skene.fit(items, raters, labels, 40, 6, k)
    assert fit.converged and abs(fit.gains[-1]) < dawid_skene.TOLERANCE
    assert min(fit.gains) > -1e-9
    # One plain step more changes nothing that is seen.
    log_likelihood = sum(
        np.log(
            sum(
                fit.prevalence[t] * np.prod(fit.confusion[raters[items == i], t, labels[items == i]])
                for t in range(k)
            )
        )
        for i in range(40)
    )
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-7)
    assert fit.prevalence.sum() == pytest.approx(1) and np.allclose(fit.confusion.sum(axis=2), 1)


def test_dawid_skene_is_the_same_in_any_order_and_finds_the_truth() -> None:
    items, raters, labels, truth = crowd(3, 2000, 20, 3, 6)
    fit = dawid_skene.fit(items, raters, labels, 2000, 20, 3)
    order = np.random.default_rng(0).permutation(len(items))
    again = dawid_skene.fit(items[order], raters[order], labels[order], 2000, 20, 3)
    assert fit.gains == again.gains and fit.truth.tobytes() == again.truth.tobytes()
    assert (fit.truth.argmax(axis=1) == truth).mean() > 0.93


def test_items_answered_alike_are_put_together_without_a_trace() -> None:
    items, raters, labels, _ = crowd(5, 400, 4, 2, 4)
    fit = dawid_skene.fit(items, raters, labels, 400, 4, 2)
    alone = dawid_skene._answers(items, raters, labels, 400, 4, 2)
    assert alone.given.shape[0] <= 16 and alone.weight.sum() == 400
    kept, dawid_skene._FEWER = dawid_skene._FEWER, 0.0
    try:
        apart = dawid_skene.fit(items, raters, labels, 400, 4, 2)
    finally:
        dawid_skene._FEWER = kept
    assert fit.log_likelihood == pytest.approx(apart.log_likelihood, abs=1e-8)
    assert fit.truth == pytest.approx(apart.truth, abs=1e-5)


def test_an_item_and_a_rater_without_answers_have_no_verdict() -> None:
    fit = dawid_skene.fit([0, 0, 2], [0, 1, 0], [1, 1, 0], 3, 3, 2)
    assert np.isnan(fit.truth[1]).all() and not fit.confusion[2].any() and fit.converged


def test_steps_are_bounded_where_that_is_asked_for() -> None:
    items, raters, labels, _ = crowd(1, 300, 10, 4, 3)
    fit = dawid_skene.fit(items, raters, labels, 300, 10, 4, most_steps=3)
    assert not fit.converged and len(fit.gains) <= 4


@pytest.mark.parametrize("far", [0, 2**61])
def test_intervals_by_draws_do_not_depend_on_the_order_of_rows(far: int) -> None:
    """Nor where an item, a rater and a label are too much for one number."""
    items, raters, labels, _ = crowd(2, 1500, 12, 2, 4)
    items += far // 12
    order = np.random.default_rng(0).permutation(len(items))
    scores = np.array([0.0, 0.3])
    one, other = (
        bootstrap.draw(items[o], raters[o], labels[o], scores, 50, np.random.default_rng(7))
        for o in (np.arange(len(items)), order)
    )
    assert one.over_items.tobytes() == other.over_items.tobytes()
    assert one.over_both.tobytes() == other.over_both.tobytes()


def test_draws_do_not_depend_on_how_many_ratings_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, raters, labels, _ = crowd(2, 300, 12, 3, 4)
    found = []
    for at_once in (7, 100, 10**6):
        monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
        scores = np.array([0.0, 0.5, 1.0])
        found.append(bootstrap.draw(items, raters, labels, scores, 50, np.random.default_rng(7)))
    for one in found[1:]:
        assert np.allclose(one.over_items, found[0].over_items, rtol=0, atol=1e-12)
        assert np.allclose(one.over_both, found[0].over_both, rtol=0, atol=1e-12)


def test_perfect_agreement_has_every_coefficient_one() -> None:
    x = np.repeat(np.arange(6.0)[:, None], 3, axis=1)
    assert {estimate.value for estimate in complete_blocks.intraclass(x).values()} == {1.0}
    assert complete_blocks.kendall(x)[0].value == 1.0
    assert complete_blocks.intraclass(np.ones((6, 3))) == {}


def test_a_table_and_its_mirror_image_have_one_verdict() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (20, 4, 4)).astype(float)
    for test in (homogeneity.stuart_maxwell, homogeneity.bhapkar, homogeneity.bowker, homogeneity.rater_bias):
        one, other = test(tables), test(tables.transpose(0, 2, 1))
        assert one[0] == pytest.approx(other[0]) and (one[1] == other[1]).all()


def test_a_scalar_of_very_many_values_is_judged_by_its_interval_alpha() -> None:
    with audit_panel.connect() as connection:
        connection.execute(
            """INSERT INTO usable_for_audit
              (rater_id, session_n, "row", episode_id, step, kind, objective, value)
            SELECT concat('r-', i % 3), 1, i, 'e', i // 3, 'rating', 'correct',
              (hash(i // 3) % 100000) / 1e5 + (hash(i) % 1000) / 1e4
            FROM range(30000) AS t(i)"""
        )
        scaled, plain, kappa = runner.run(connection, ["scaled_agreement", "agreement", "pairwise_kappa"])
        x = connection.execute("SELECT value FROM usable_for_audit ORDER BY step, rater_id").fetchnumpy()[
            "value"
        ]
    rows = {row.subject: row for row in scaled.rows}
    x = x.reshape(-1, 3)
    within = np.mean([(x[:, a] - x[:, b]) ** 2 for a, b in ((0, 1), (0, 2), (1, 2))])
    known = 1 - within / (2 * x.var(ddof=1))
    assert rows["alpha interval"].value == pytest.approx(known, abs=1e-9)
    assert rows["alpha ordinal"].value == pytest.approx(rows["alpha interval"].value, abs=0.05)
    assert rows["Fleiss linear"].note == "too many different labels" == kappa.rows[0].note
    assert {row.note for row in plain.rows} == {"too many different labels: see scaled_agreement"}


def test_only_so_many_disputed_items_are_rows() -> None:
    with audit_panel.connect() as connection:
        connection.execute(
            """INSERT INTO usable_for_audit
              (rater_id, session_n, "row", episode_id, step, kind, objective, value)
            SELECT concat('r-', i % 4), 1, i, 'e', i // 4, 'rating', 'correct', hash(i) % 2
            FROM range(12000) AS t(i)"""
        )
        (result,) = runner.run(connection, ["item_controversy"])
        (fewer,) = runner.run(connection, ["item_controversy"], {"item_controversy": {"max_rows": 7}})
    assert len(result.rows) == 101 and len(fewer.rows) == 8
    assert not result.findings  # all of it is noise: nobody is accused of it


def test_many_labels_are_judged_as_few_are() -> None:
    """Rating by rating or label by label: the same alphas and errors, of labels with ties, at 25 labels."""
    random = Random(6)
    rows = [
        {"rater": f"r-{rater}", "item": f"e:{item}", "value": float(random.randrange(25))}
        for rater in range(5)
        for item in range(60)
        if random.random() < 0.8
    ]
    found = []
    for max_labels in (20, 30):
        with audit_panel.connect(rows) as connection:
            (result,) = runner.run(
                connection, ["scaled_agreement"], {"scaled_agreement": {"max_labels": max_labels}}
            )
        found.append({row.subject: row for row in result.rows})
    for name in ("alpha interval", "alpha ordinal"):
        one, other = (rows[name] for rows in found)
        assert (one.n, one.note, one.flagged) == (other.n, other.note, other.flagged)
        for number in ("value", "lower", "upper"):
            assert getattr(one, number) == pytest.approx(getattr(other, number), rel=1e-12)
    assert found[0]["alpha ratio"].note == "too many different labels" != found[1]["alpha ratio"].note
