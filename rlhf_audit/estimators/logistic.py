"""Many small logistic regressions at once: one a group, with its own intercept and slopes.

References:
    Rao 1948 (score test); Davidson & Beaver 1977 (an order effect in paired comparisons).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_PRIOR_PRECISION = 0.04
_FARTHEST = 30.0


@dataclass(frozen=True)
class Intercepts:
    """Of each group.

    Attributes:
        value: Log odds of a 1 where all covariates are 0.
        error: Its standard error, the slopes unknown.
        score: Normal score statistic of a value of 0, the slopes refitted.
    """

    value: Array
    error: Array
    score: Array


def intercepts(y: Array, x: Array, weights: Array, groups: Indices, n_groups: int) -> Intercepts:
    """Fit logit P(y = 1) = a + x b in each group.

    A normal prior of standard deviation 5 keeps each coefficient finite where answers are separable.

    Args:
        y: ``(n,)`` 0 or 1.
        x: ``(n, k)`` covariates, on a scale of about 1; not centred: 0 is where the intercept is read.
        weights: ``(n,)`` how often each row was seen.
        groups: ``(n,)``, from 0.
        n_groups: How many; one without rows gets a value of 0.

    Determinism:
        Each group's sums run over its own rows in the order given.
    """
    design = np.column_stack([np.ones(len(y)), x])
    full = _fit(y, design, weights, groups, n_groups)
    error = np.sqrt(np.linalg.inv(_information(design, weights, groups, full))[:, 0, 0])
    null = np.zeros_like(full)
    null[:, 1:] = _fit(y, design[:, 1:], weights, groups, n_groups)
    p = _probability(design, groups, null)
    surplus = np.bincount(groups, weights * (y - p), n_groups)
    variance = 1 / np.linalg.inv(_information(design, weights, groups, null))[:, 0, 0]
    return Intercepts(full[:, 0], error, surplus / np.sqrt(variance))


def _fit(y: Array, design: Array, weights: Array, groups: Indices, n_groups: int) -> Array:
    beta = np.zeros((n_groups, design.shape[1]))
    if not design.shape[1]:
        return beta
    for _ in range(50):
        residual = weights * (y - _probability(design, groups, beta))
        columns = [np.bincount(groups, residual * column, n_groups) for column in design.T]
        gradient = np.stack(columns, axis=1) - _PRIOR_PRECISION * beta
        step = np.linalg.solve(_information(design, weights, groups, beta), gradient[..., None])[..., 0]
        beta = beta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max(initial=0.0) < 1e-12:
            break
    return beta


def _probability(design: Array, groups: Indices, beta: Array) -> Array:
    eta = np.clip((design * beta[groups]).sum(axis=1), -_FARTHEST, _FARTHEST)
    return np.asarray(1 / (1 + np.exp(-eta)))


def _information(design: Array, weights: Array, groups: Indices, beta: Array) -> Array:
    p = _probability(design, groups, beta)
    w = weights * p * (1 - p)
    k = design.shape[1]
    found = np.empty((len(beta), k, k))
    for i in range(k):
        for j in range(i + 1):
            found[:, i, j] = found[:, j, i] = np.bincount(groups, w * design[:, i] * design[:, j], len(beta))
    return found + _PRIOR_PRECISION * np.eye(k)
