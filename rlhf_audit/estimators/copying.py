"""Pairs of raters who agree more than two independent raters of their quality would.

What two honest raters of an item agree on depends on how hard it is and on how good they are. Both are known
from the others: the item's true label as the rest of the panel tells it, and each of the two raters'
confusions against that. What is left over is copying, or talking to each other.

References:
    Dawid and Skene 1979 (truth and confusions); KhudaBukhsh, Carbonell and Jansen 2014 (collusion against a
    model of honest answers); expected agreement of a pair after Cohen 1960.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from rlhf_audit.estimators import dawid_skene, in_order

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

INFORMATIVE = 0.9
"""An item tells something where two honest raters would agree with at most this probability (ours)."""
LOOKED_AT = 0.05
"""Excess over the whole panel's expectation from which a pair is looked at without its own answers (ours)."""
_LOOKED_Z = 2.0
"""And from how many standard errors: most pairs of a large crowd need no second look."""
_MOST_STEPS = 100
"""Of EM: where that is too few, the model fits so badly that further digits mean nothing."""
_STEPS = 20
_SMOOTHED = 1.0
_STRATA, _FEWEST = 4, 8
"""Degrees of difficulty under each label, of at least so many items."""
_VERDICT = ("excess", "se", "p", "informative", "identical", "wrong", "wrong_together")
_ROUNDS, _LIKELY, _SURE = 4, 0.05, 1e-6
"""Times that echoes are looked for; corrected p of the first in a round, and of all further ones."""
_MOST_ROWS = 4_000_000
_TINY = 1e-12


@dataclass(frozen=True)
class Pairs:
    """What was found, one entry a pair with enough shared items.

    Attributes:
        a: Index of one rater.
        b: Of the other.
        n: Items that both rated.
        agreed: Share of them on which both gave the same label.
        excess: ``agreed`` less what was expected of honest raters.
        se: Standard error of ``excess``.
        p: One-sided probability of so much agreement.
        informative: Items that tell something; 0 where the pair was not looked at.
        identical: Whether they gave the same label on every one of them.
        wrong: Items on which at least one of them is wrong, as far as the others tell.
        wrong_together: Of these, on which both gave the same wrong label.
    """

    a: Ints
    b: Ints
    n: Ints
    agreed: Array
    excess: Array
    se: Array
    p: Array
    informative: Ints
    identical: npt.NDArray[np.bool_]
    wrong: Ints
    wrong_together: Ints


def find(items: Ints, raters: Ints, labels: Ints, n_min: int, threshold: float) -> Pairs:
    """Judge every pair of raters with at least ``n_min`` shared items; at least one row is given.

    Args:
        items: ``(n,)`` index of the item; a rater and item come once.
        raters: ``(n,)`` numbered by what they gave, see ``content.by_content``.
        labels: ``(n,)`` codes from 0.
        n_min: Fewest shared items.
        threshold: Excess from which a sure pair's one rater is left out of what the others are judged by.

    Determinism:
        Rows are sorted first. The numbers of the raters decide the order of sums and nothing else.
    """
    shape = (int(items.max()) + 1, int(raters.max()) + 1, int(labels.max()) + 1)
    items, raters, labels = in_order.arranged(items, raters, labels, shape)
    shared = _shared(items, raters, shape)
    a, b = np.nonzero(np.triu(shared >= n_min, 1))
    echoes = np.zeros(shape[1], bool)
    found: Pairs | None = None
    for _ in range(_ROUNDS):
        kept = ~echoes[raters] if echoes.any() else slice(None)
        now = _judged(items[kept], raters[kept], labels[kept], shape, a, b)
        if found is None:
            found = now
        # Whose echo it was may stand for nobody else's truth; what was found of it stands.
        _take(found, now, ~(echoes[a] | echoes[b]))
        more = _echoes(found, echoes, shape[1], threshold)
        if not more:
            break
        echoes[more] = True
    assert found is not None
    _match_twins(found, echoes, np.bincount(raters, minlength=shape[1]))
    return found


def _match_twins(found: Pairs, echoes: npt.NDArray[np.bool_], given: Ints) -> None:
    """Let two raters who gave the very same be judged the same, whichever of them was left out."""
    place = {pair: number for number, pair in enumerate(zip(found.a.tolist(), found.b.tolist(), strict=True))}
    for a, b in [*place]:
        number = place[a, b]
        alike = found.agreed[number] == 1 and given[a] == given[b] == found.n[number]
        if not alike or echoes[a] == echoes[b]:
            continue
        echo, other = (a, b) if echoes[a] else (b, a)
        for rater in range(len(given)):
            to, source = _ordered(echo, rater), _ordered(other, rater)
            if rater != other and to in place and source in place:
                for name in _VERDICT:
                    values = getattr(found, name)
                    values[place[to]] = values[place[source]]


def _ordered(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _echoes(found: Pairs, known: npt.NDArray[np.bool_], n_raters: int, threshold: float) -> list[int]:
    """Return raters who surely repeat another: of each such pair the one who agrees less with everybody."""
    usual, taken = _usual(found, n_raters), known.copy()
    more: list[int] = []
    for pair in np.lexsort((found.b, found.a, found.p)).tolist():
        a, b = int(found.a[pair]), int(found.b[pair])
        sure = found.p[pair] * len(found.a) <= (_SURE if more else _LIKELY)
        if not sure:
            break
        if found.excess[pair] >= threshold and not (taken[a] or taken[b]):
            more.append(a if usual[a] < usual[b] else b)
            taken[[a, b]] = True
    return more


def _take(found: Pairs, now: Pairs, which: npt.NDArray[np.bool_]) -> None:
    for name in _VERDICT:
        getattr(found, name)[which] = getattr(now, name)[which]


def _shared(items: Ints, raters: Ints, shape: tuple[int, int, int]) -> Array:
    shared = np.zeros((shape[1], shape[1]))
    for rows, some in in_order.some(items, shape[0]):
        rated = _matrix(items[rows] - some.start, raters[rows], some.stop - some.start, shape[1])
        shared += (rated.T @ rated).toarray()
    return shared


def _judged(items: Ints, raters: Ints, labels: Ints, shape: tuple[int, int, int], a: Ints, b: Ints) -> Pairs:
    """Judge the pairs by the model of these rows."""
    model = dawid_skene.fit(items, raters, labels, *shape, _MOST_STEPS)
    truth, confusion = np.nan_to_num(model.truth), model.confusion
    meet = [confusion[:, label, :] @ confusion[:, label, :].T for label in range(shape[2])]
    certain = np.log(np.maximum(confusion, _TINY))
    n, same, expected = (np.zeros((shape[1], shape[1])) for _ in range(3))
    told, counts = np.empty(truth.shape), np.empty(truth.shape)
    for rows, some in in_order.some(items, shape[0]):
        own, r, given, size = items[rows] - some.start, raters[rows], labels[rows], some.stop - some.start
        rated = _matrix(own, r, size, shape[1])
        n += (rated.T @ rated).toarray()
        for label in range(shape[2]):
            chosen = given == label
            gave = _matrix(own[chosen], r[chosen], size, shape[1])
            same += (gave.T @ gave).toarray()
            weighted = rated.multiply(truth[some, label][:, None]).tocsr()
            expected += (rated.T @ weighted).toarray() * meet[label]
            told[some, label] = np.bincount(own, certain[r, label, given], size)
            counts[some, label] = np.bincount(own[chosen], minlength=size)
    told += np.log(np.maximum(model.prevalence, _TINY))
    shared = n[a, b].astype(np.int64)
    met = np.maximum(shared, 1)
    found = _screened(a, b, shared, same[a, b] / met, expected[a, b] / met)
    by_rater = _by_rater(raters, shape[1])
    _look(found, _Answers(items, raters, labels, by_rater, told, counts, confusion))
    return found


@dataclass(frozen=True)
class _Answers:
    """All rows, and what they say of the items.

    Attributes:
        own: The rows of each rater, in the order of the items.
        told: ``(n_items, k)`` log-probability of each true label and of all answers to the item.
        counts: ``(n_items, k)`` answers of each label.
        confusion: ``(n_raters, k, k)``.
    """

    items: Ints
    raters: Ints
    labels: Ints
    own: list[Ints]
    told: Array
    counts: Array
    confusion: Array


def _matrix(items: Ints, raters: Ints, n_items: int, n_raters: int) -> sparse.csr_matrix:
    """Return ``(n_items, n_raters)``: 1 where the rater rated the item."""
    return sparse.csr_matrix((np.ones(len(items)), (items, raters)), shape=(n_items, n_raters))


def _screened(a: Ints, b: Ints, n: Ints, agreed: Array, expected: Array) -> Pairs:
    """Return the pairs by the whole panel's expectation, in which a pair's own answers count."""
    none, n = np.zeros(len(a), np.int64), n.copy()
    se = np.sqrt(np.maximum(expected * (1 - expected), _TINY) / np.maximum(n, 1))
    excess = agreed - expected
    p = stats.norm.sf(excess / se)
    return Pairs(a, b, n, agreed, excess, se, p, none, none > 0, none.copy(), none.copy())


def _look(found: Pairs, answers: _Answers) -> None:
    """Judge again, by the others alone, pairs that agree more than expected, or than with everybody else."""
    beyond = np.maximum(found.excess, _beyond_usual(found, len(answers.own)))
    order = np.lexsort((found.b, found.a, -beyond / found.se))
    order = order[(beyond >= np.maximum(LOOKED_AT, _LOOKED_Z * found.se))[order]]
    order = order[np.cumsum(found.n[order]) <= _MOST_ROWS]
    for pair in order.tolist():
        if not found.n[pair]:
            continue
        one, other = answers.own[found.a[pair]], answers.own[found.b[pair]]
        _, i, j = np.intersect1d(
            answers.items[one], answers.items[other], assume_unique=True, return_indices=True
        )
        _judge(found, pair, one[i], other[j], answers)


def _usual(found: Pairs, n_raters: int) -> Array:
    """Return each rater's median agreement with the others."""
    usual = np.full(n_raters, np.inf)
    for rater in np.unique(np.concatenate([found.a, found.b])):
        own = ((found.a == rater) | (found.b == rater)) & (found.n > 0)
        usual[rater] = np.median(found.agreed[own]) if own.any() else np.inf
    return usual


def _beyond_usual(found: Pairs, n_raters: int) -> Array:
    """Return how much more each pair agrees than both of them usually do: a pair may rule the whole model."""
    usual = _usual(found, n_raters)
    beyond: Array = found.agreed - np.maximum(usual[found.a], usual[found.b])
    return beyond


def _by_rater(raters: Ints, n_raters: int) -> list[Ints]:
    by = np.argsort(raters, kind="stable").astype(np.int32)
    return np.split(by, np.cumsum(np.bincount(raters, minlength=n_raters))[:-1])


def _strata(counts: Array, x: Ints, y: Ints) -> Ints:
    """Return how hard each item is for the others: by their commonest label, and how common it is."""
    rows = np.arange(len(x))
    others = counts.copy()
    others[rows, x] -= 1
    others[rows, y] -= 1
    share = others / np.maximum(others.sum(axis=1, keepdims=True), 1)
    first, most = share.argmax(axis=1), share.max(axis=1)
    found = np.zeros(len(x), np.int64)
    for label in np.unique(first):
        own = np.flatnonzero(first == label)
        parts = max(1, min(_STRATA, len(own) // _FEWEST))
        edges = np.quantile(most[own], np.arange(1, parts) / parts)
        found[own] = label * _STRATA + np.searchsorted(edges, most[own], side="right")
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _met(x: Ints, y: Ints, stratum: Ints, n_labels: int) -> Array:
    """Return the probability of each item that two answer alike who answer as each does in its stratum."""
    n = np.bincount(stratum)
    met = np.zeros(len(n))
    for label in range(n_labels):
        met += np.bincount(stratum, x == label) * np.bincount(stratum, y == label)
    found: Array = (met / n**2)[stratum]
    return found


def _judge(found: Pairs, pair: int, one: Ints, other: Ints, answers: _Answers) -> None:
    x, y, at = answers.labels[one], answers.labels[other], answers.items[one]
    # The truth as the others tell it: what the two gave is taken out.
    prior = answers.told[at]
    for rater, given in ((found.a[pair], x), (found.b[pair], y)):
        prior = prior - np.log(np.maximum(answers.confusion[rater][:, given].T, _TINY))
    prior = np.exp(prior - prior.max(axis=1, keepdims=True))
    prior /= prior.sum(axis=1, keepdims=True)
    meet = np.einsum("kl,kl->k", _confusion(prior, x), _confusion(prior, y))
    expected = prior @ meet
    hard = _met(x, y, _strata(answers.counts[at], x, y), prior.shape[1])
    if hard.sum() > expected.sum():
        expected = hard
    expected = np.clip(expected, 1e-6, 1 - 1e-6)
    agree = x == y
    n = len(x)
    found.excess[pair] = (agree - expected).sum() / n
    found.se[pair] = np.sqrt((expected * (1 - expected)).sum()) / n
    found.p[pair] = stats.norm.sf(found.excess[pair] / found.se[pair])
    told = expected <= INFORMATIVE
    found.informative[pair] = told.sum()
    found.identical[pair] = bool(told.any() and agree[told].all())
    likely = prior.argmax(axis=1)
    found.wrong[pair] = ((x != likely) | (y != likely)).sum()
    found.wrong_together[pair] = (agree & (x != likely)).sum()


def _confusion(prior: Array, x: Ints) -> Array:
    """Return a rater's confusion against a truth that others tell: ``(k, k)``, by EM, nearly unsmoothed."""
    n_labels = prior.shape[1]
    given = np.eye(n_labels)[x]
    overall = given.mean(axis=0)
    found = _smoothed(prior.T @ given, overall)
    for _ in range(_STEPS):
        right = prior * found[:, x].T
        right /= np.maximum(right.sum(axis=1, keepdims=True), _TINY)
        found = _smoothed(right.T @ given, overall)
    return found


def _smoothed(counts: Array, overall: Array) -> Array:
    whole = counts + _SMOOTHED * overall
    smoothed: Array = whole / whole.sum(axis=1, keepdims=True)
    return smoothed
