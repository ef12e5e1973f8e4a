"""Many-facet Rasch against the reference's fit of Guilford 1954, and against its own likelihood equations."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rlhf_audit.errors import UsageError
from rlhf_audit.estimators import rasch

FILE = Path(__file__).parents[1] / "audits" / "fixtures" / "guilford1954_creativity.csv"
SEVERITY = (0.03967138456474915, 0.24539674471162065, -0.09599418836974358)
ERROR = (0.1165962573379765, 0.11782778109357007, 0.116443710539211)
INFIT = (0.849184165900747, 1.4752136156581823, 0.6724035475805483)
OUTFIT = (0.8801036716333767, 1.5244105576621794, 0.6663246427287891)
PERSON = (
    -0.07146882943397691, 0.6638322921859487, -0.2554327250068743, -0.48151884581790033, 0.44069690358010416,
    -0.5841311546387352, 0.28802235913143387,
)  # fmt: skip
TRAIT = (
    -0.2799967067299477,
    -0.14700950521085657,
    0.210855545113007,
    -0.3022511423626898,
    0.5184018091904871,
)
STEP = (
    -0.6904939269819218, -2.351989885653632, 0.8093225025887097, -1.4837456747752333, 1.718598313058064,
    -0.9788961137042492, 2.3926154527382524, 0.5845893327300105,
)  # fmt: skip
LOG_LIKELIHOOD = -165.68498402128083
PRINTED = (0.040, 0.245, -0.096)
REFERENCE = 1e-6
"""How far the reference itself is from the maximum: see docs/adr/0063."""


@pytest.fixture(scope="module")
def guilford() -> np.ndarray:
    """Rater, person, trait and label, all from 0."""
    with FILE.open(newline="", encoding="utf-8") as stream:
        rows = [[int(cell) for cell in row] for row in list(csv.reader(stream))[1:]]
    return np.array(rows) - 1


@pytest.fixture(scope="module")
def fitted(guilford: np.ndarray) -> rasch.RaschFit:
    return rasch.fit(np.eye(9)[guilford[:, 3]], [guilford[:, j] for j in range(3)])


def test_severities_match_the_printed_digits(fitted: rasch.RaschFit) -> None:
    assert fitted.converged
    assert tuple(fitted.measures[0].round(3)) == PRINTED


def test_the_fit_matches_the_reference_as_far_as_that_converged(
    fitted: rasch.RaschFit, guilford: np.ndarray
) -> None:
    counts = np.eye(9)[guilford[:, 3]]
    infit, outfit = rasch.mean_squares(counts, fitted.probabilities, guilford[:, 0])
    spread = rasch.spread(fitted.measures[0], fitted.errors[0])
    # The reference's traits are difficulties.
    for ours, theirs in (
        (fitted.measures[0], SEVERITY), (fitted.errors[0], ERROR), (fitted.measures[1], PERSON),
        (-fitted.measures[2], TRAIT), (np.diff(fitted.thresholds[0]), STEP), (infit, INFIT), (outfit, OUTFIT),
        (spread.chi2, 4.300259625036322), (spread.reliability, 0.5370242127749069),
    ):  # fmt: skip
        assert ours == pytest.approx(theirs, abs=REFERENCE)
    assert spread.df == 2
    assert fitted.log_likelihood == pytest.approx(LOG_LIKELIHOOD, abs=1e-9)


def surplus(guilford: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the largest difference of a level's score, or a label's count, from what the fit expects."""
    x = guilford[:, 3]
    gap = x - probabilities @ np.arange(9)
    by_level = [np.bincount(guilford[:, j], gap) for j in range(3)]
    return float(max(np.abs(one).max() for one in (*by_level, np.bincount(x) - probabilities.sum(axis=0))))


def test_ours_solves_the_likelihood_equations_and_the_reference_does_not_quite(
    fitted: rasch.RaschFit, guilford: np.ndarray
) -> None:
    eta = (
        -np.array(SEVERITY)[guilford[:, 0]]
        + np.array(PERSON)[guilford[:, 1]]
        - np.array(TRAIT)[guilford[:, 2]]
    )
    logits = np.outer(eta, np.arange(9)) - np.concatenate([[0], np.cumsum(STEP)])
    theirs = np.exp(logits)
    theirs /= theirs.sum(axis=1, keepdims=True)
    assert surplus(guilford, fitted.probabilities) < 1e-9
    assert surplus(guilford, theirs) > 1e-7
    likelihood = np.log(theirs[np.arange(len(guilford)), guilford[:, 3]]).sum()
    assert fitted.log_likelihood >= likelihood - 1e-12


def test_binary_severities_are_logits() -> None:
    """Two raters and one class of items: the difference is that of the log odds."""
    counts = np.array([[30.0, 70.0], [60.0, 40.0]])
    fit = rasch.fit(counts, [np.array([0, 1])], np.zeros(2, np.int64))
    assert fit.measures[0][1] - fit.measures[0][0] == pytest.approx(np.log(70 / 30 * 60 / 40), abs=1e-9)
    assert fit.measures[0].sum() == pytest.approx(0, abs=1e-12)
    assert fit.errors[0] == pytest.approx(1 / np.sqrt([21, 24]), abs=1e-9)


def test_a_level_at_one_end_is_refused() -> None:
    counts = np.array([[0.0, 5.0], [2.0, 3.0]])
    levels, groups = np.array([0, 1]), np.zeros(2, np.int64)
    assert rasch.extreme(counts, levels, groups).tolist() == [True, False]
    with pytest.raises(UsageError, match="leave it out"):
        rasch.fit(counts, [levels], groups)


def test_a_label_that_nobody_gave_in_a_group_has_no_probability() -> None:
    counts = np.array([[3.0, 2.0, 0.0], [1.0, 4.0, 0.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    fit = rasch.fit(counts, [np.array([0, 1, 0, 1])], np.array([0, 0, 1, 1]))
    assert np.isinf(fit.thresholds[0, 2]) and fit.probabilities[0, 2] == 0 and np.isfinite(fit.log_likelihood)


def test_mean_squares_of_what_the_model_draws_are_about_one() -> None:
    random = np.random.default_rng(1)
    p = random.dirichlet([2, 2, 2], 6)
    drawn = rasch.replicates(np.full((6, 3), 20.0), p, 400, random)
    infit, outfit = rasch.mean_squares(drawn, p, np.array([0, 0, 0, 1, 1, 1]))
    assert infit.shape == outfit.shape == (400, 2)
    assert np.mean(infit) == pytest.approx(1, abs=0.02) and np.mean(outfit) == pytest.approx(1, abs=0.02)
    assert (drawn.sum(axis=2) == 60).all()


def test_fixed_chi2_is_that_of_a_weighted_mean() -> None:
    b, se = np.array([0.3, -0.1, 0.5, -0.7]), np.array([0.1, 0.2, 0.1, 0.3])
    centred = b - np.average(b, weights=se**-2)
    found = rasch.spread(b, se)
    assert found.chi2 == pytest.approx(((centred / se) ** 2).sum())
    assert found.reliability == pytest.approx(1 - (se**2).mean() / b.var(ddof=1))
    assert stats.chi2.sf(found.chi2, found.df) < 0.01
    assert rasch.spread(np.zeros(3), np.ones(3)).reliability == 0.0


def test_errors_off_the_mean_are_those_of_the_whole_information() -> None:
    """Of a table of raters by classes of items: every parameter's information at once, inverted."""
    n, n_groups, n_labels = 5, 3, 4
    levels, groups = np.repeat(np.arange(n), n_groups), np.tile(np.arange(n_groups), n)
    counts = np.random.default_rng(1).integers(1, 9, (n * n_groups, n_labels)).astype(float)
    counts[groups == 1, 0] = 0
    found = rasch.fit(counts, [levels], groups)
    information = np.zeros((n + n_groups * n_labels,) * 2)
    for row, p in enumerate(found.probabilities):
        design = np.zeros((n_labels, len(information)))
        design[:, levels[row]] = -np.arange(n_labels)
        design[:, n + groups[row] * n_labels : n + (groups[row] + 1) * n_labels] = np.eye(n_labels)
        information += counts[row].sum() * design.T @ (np.diag(p) - np.outer(p, p)) @ design
    centre = np.eye(n) - 1 / n
    covariance = centre @ np.linalg.pinv(information, 1e-10)[:n, :n] @ centre
    errors = rasch.errors_off_the_mean(counts, found.probabilities, levels, groups, np.ones(n))
    assert errors == pytest.approx(np.sqrt(covariance.diagonal()), rel=1e-9)

    doubled, own = np.r_[counts[:n_groups], counts], np.r_[levels[:n_groups], levels + 1]
    both = rasch.fit(doubled, [own], np.r_[groups[:n_groups], groups])
    apart = rasch.errors_off_the_mean(
        doubled, both.probabilities, own, np.r_[groups[:n_groups], groups], np.ones(n + 1)
    )
    size = np.r_[2.0, np.ones(n - 1)]
    one = rasch.fit(counts * size[levels, None], [levels], groups)
    together = rasch.errors_off_the_mean(counts * size[levels, None], one.probabilities, levels, groups, size)
    assert together == pytest.approx(apart[1:], rel=1e-9)
