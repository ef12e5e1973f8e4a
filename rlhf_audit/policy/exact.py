"""Arithmetic that comes out the same on every machine: what acting is made of.

Only +, −, ×, ÷, max, square roots and splitting into mantissa and exponent, on float64 and in a fixed order:
IEEE 754 rounds each of these in one way. No BLAS, whose order of summing depends on the CPU, and no libm.
"""

import numpy as np
import numpy.typing as npt

from rlhf_audit.types import FloatArray

Exact = npt.NDArray[np.float64]

_EXP_HALVINGS = 10
_LN_2 = 0.6931471805599453
_LOOPED = 4096
"""Results at which adding term by term is faster than reducing one large array of products."""


def product(rows: Exact, kernel: Exact) -> Exact:
    """Return the matrix product of ``(n, k)`` and ``(k, units)``, each sum taken from the first term on.

    A row's result has the same bits alone and among others.
    """
    if kernel.shape[1] == 1:
        # One unit alone would let numpy sum a single row pairwise.
        return product(rows, np.repeat(kernel, 2, axis=1))[:, :1]
    if len(rows) * kernel.shape[1] < _LOOPED:
        # Summing over the slowest axis adds term after term; a matrix product would be ordered by the BLAS.
        summed: Exact = np.add.reduce(rows.T[:, :, None] * kernel[:, None, :], axis=0)
        return summed
    columns = np.ascontiguousarray(rows.T)
    total = kernel[0][:, None] * columns[0]
    term = np.empty_like(total)
    for index in range(1, len(columns)):
        np.multiply(kernel[index][:, None], columns[index], out=term)
        np.add(total, term, out=total)
    return np.ascontiguousarray(total.T)


def patches(images: Exact, size: int, stride: int) -> Exact:
    """Return the patches of ``(n, h, w, c)`` images, ``(n, h', w', size · size · c)``."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    chosen = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    return chosen.reshape(*chosen.shape[:3], -1)


def exp(values: Exact) -> Exact:
    """Return e to the power of each value up to 10, within a relative 1e-8; below −100 as at −100."""
    # exp(v) = exp(v / 2^10)^(2^10), the inner one by Taylor.
    small = np.maximum(values, -100.0) / 2.0**_EXP_HALVINGS
    result: Exact = 1 + small * (1 + small / 2 * (1 + small / 3 * (1 + small / 4)))
    for _ in range(_EXP_HALVINGS):
        result = result * result
    return result


def softmax(logits: Exact) -> FloatArray:
    """Return the softmax of each row of ``(n, k)``, rounded to float32."""
    powers = exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / np.add.accumulate(powers, axis=1)[:, -1:]).astype(np.float32)


def log(value: float) -> float:
    """Return the natural logarithm of a positive number, within 1e-14.

    >>> log(1.0)
    0.0
    """
    mantissa, exponent = np.frexp(value)
    ratio = (float(mantissa) - 1) / (float(mantissa) + 1)
    square, term, total = ratio * ratio, ratio, ratio
    for odd in range(3, 33, 2):
        term *= square
        total += term / odd
    # ln m = 2 artanh((m − 1) / (m + 1)); at m = 1/2 the powers of (1/3)² fall fast.
    return 0.0 if value == 1 else int(exponent) * _LN_2 + 2 * total


def normal_quantile(uniform: float) -> float:
    """Return the number below which a standard normal variable lies with this probability.

    Within a relative 1e-6; 0 is taken as 2^-54, half of the smallest step of a generator's uniform numbers.

    References:
        Wichura 1988, algorithm AS 241 (PPND7).

    >>> normal_quantile(0.5)
    0.0
    """
    chance = max(uniform, 2.0**-54)
    centred = chance - 0.5
    if abs(centred) <= 0.425:
        r = 0.180625 - centred * centred
        above = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179
        return centred * above / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1)
    r = float(np.sqrt(-log(min(chance, 1 - chance))))
    if r <= 5:
        r -= 1.6
        above = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777
        tail = above / ((0.12021132975 * r + 0.73700164250) * r + 1)
    else:
        r -= 5
        above = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150
        tail = above / ((0.012258202635 * r + 0.24197894225) * r + 1)
    return tail if centred > 0 else -tail
