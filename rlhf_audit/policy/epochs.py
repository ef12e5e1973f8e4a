"""Whole epochs of Adam as one XLA program: what every training here, live and offline, runs on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.determinism import tensorflow
from rlhf_audit.policy.losses import LOSSES, judged
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.types import FloatArray, IntArray, Weights

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_KNEE = 0.3
"""δ of the sparsity penalty: well above it, an input's norm is hardly penalised."""
_SMOOTHING = 1e-6
"""Keeps the norm of a silenced input differentiable."""


@dataclass(frozen=True)
class Rows:
    """What a loss is computed on.

    Attributes:
        observations: ``(n, observation_dim)`` float32.
        actions: ``(n,)`` int64 where one of several is chosen, otherwise ``(n, n_dimensions)`` float32.
        values: ``(n,)`` float32.
        yes_when_right: ``(n,)`` float32, α of each row's rater.
        yes_when_wrong: ``(n,)`` float32, β of each row's rater.
        weights: ``(n,)`` float32; 0 leaves a row out.
    """

    observations: FloatArray
    actions: IntArray | FloatArray
    values: FloatArray
    yes_when_right: FloatArray
    yes_when_wrong: FloatArray
    weights: FloatArray


@dataclass(frozen=True)
class AdamState:
    """A network in training: its weights and Adam's two moments, in one order, and the steps taken."""

    weights: tuple[FloatArray, ...]
    first: tuple[FloatArray, ...]
    second: tuple[FloatArray, ...]
    steps: int

    @classmethod
    def fresh(cls, weights: Weights) -> "AdamState":
        """Return the state before the first step."""
        arrays = tuple(np.asarray(array, np.float32) for _, array in weights)
        zeros = tuple(np.zeros_like(array) for array in arrays)
        return cls(arrays, zeros, zeros, 0)

    def named(self, like: Weights) -> Weights:
        """Return the weights under the names of ``like``."""
        return tuple((name, array) for (name, _), array in zip(like, self.weights, strict=True))


def run(
    state: AdamState,
    rows: Rows,
    *,
    spec: NetworkSpec,
    loss: str,
    batch_size: int,
    n_steps: int,
    learning_rate: float,
    l2: float = 0.0,
    sparsity: float = 0.0,
) -> AdamState:
    """Take ``n_steps`` of Adam over batches of consecutive rows, round and round, and return the new state.

    Minimised is the mean of ``loss`` over the weighted rows, plus ``l2`` / 2 times the squared kernels, plus
    ``sparsity`` · Σ δ log(1 + ‖k‖ / δ) over the first kernel's rows k, one an input (δ = .3). One-hot
    inputs are free of the last, as each has a say in its own state alone, and so are images. Rows of data
    are padded with weight 0 to a whole, rounded-up number of batches, so that few shapes are ever compiled.

    Args:
        state: Where to start.
        rows: At least one, in the order to train in.
        spec: The network's shape.
        loss: Name in ``losses.LOSSES``.
        batch_size: Rows of one step.
        n_steps: Steps; batches after the last start again at the first.
        learning_rate: Adam's.
        l2: Strength of the penalty on kernels; biases are free.
        sparsity: Strength of the log-sum penalty on inputs: it silences those that explain nothing, and,
            unlike a group lasso, spares those that explain much.

    References:
        Kingma & Ba 2015, algorithm 1, with Keras's epsilon; Candès, Wakin & Boyd 2008 (log-sum penalty).
    """
    n_batches = -(-len(rows.actions) // batch_size)
    tensors = _batches(rows, batch_size, n_batches)
    scale = n_batches / max(float(rows.weights.sum(dtype=np.float64)), 1.0)
    settings = np.array([learning_rate, l2, sparsity, scale], np.float32)
    counts = np.array([n_batches, n_steps, state.steps], np.int32)
    weights, first, second = _program(loss, spec)(
        state.weights, state.first, state.second, tensors, settings, counts
    )
    return AdamState(_arrays(weights), _arrays(first), _arrays(second), state.steps + n_steps)


def _arrays(tensors: Sequence[Any]) -> tuple[FloatArray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _batches(rows: Rows, batch_size: int, n_batches: int) -> tuple[npt.NDArray[Any], ...]:
    padded = _rounded_up(n_batches) * batch_size
    actions = rows.actions if rows.actions.ndim > 1 else rows.actions.astype(np.int32)
    parts = [rows.observations, actions, rows.values, rows.yes_when_right, rows.yes_when_wrong, rows.weights]
    fills = [0, 0, 0, 0.5, 0.5, 0]
    return tuple(
        _pad(part, padded, fill).reshape(-1, batch_size, *part.shape[1:])
        for part, fill in zip(parts, fills, strict=True)
    )


def _pad(part: npt.NDArray[Any], n_rows: int, fill: float) -> npt.NDArray[Any]:
    if len(part) == n_rows:
        return part
    padded = np.full((n_rows, *part.shape[1:]), fill, part.dtype)
    padded[: len(part)] = part
    return padded


def _rounded_up(count: int) -> int:
    """Return the power of two that holds ``count``."""
    return 1 << (count - 1).bit_length()


@lru_cache(maxsize=16)
def _program(loss: str, spec: NetworkSpec) -> Any:
    tf = tensorflow()
    loss_function = LOSSES[loss]
    n_arrays, last = 2 * len(spec.kernels), 2 * len(spec.kernels) - 2
    measures = _measures(spec)

    def outputs_of(weights: Sequence[Any], observations: Any) -> Any:
        hidden = _convolved(spec, weights, observations) if spec.image else observations
        for index in range(2 * len(spec.convolutions), last, 2):
            hidden = tf.nn.relu(tf.matmul(hidden, weights[index]) + weights[index + 1])
        return tf.matmul(hidden, weights[last], transpose_b=True) + weights[last + 1]

    def turned(arrays: Sequence[Any]) -> list[Any]:
        # Its columns are few, one an action: products with it are several times faster on its transpose.
        return [*arrays[:last], tf.transpose(arrays[last]), *arrays[last + 1 :]]

    def gradients(weights: Sequence[Any], batch: Sequence[Any], penalties: Any, scale: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            log_std = weights[-1] if spec.n_gaussians else None
            said = judged(spec.heads, outputs_of(weights, batch[0]), batch[1], log_std)
            total = scale * loss_function(*said, *batch[2:])
            squares = [kernel * kernel for kernel in weights[:n_arrays:2]]
            total += penalties[0] / 2 * tf.add_n([tf.reduce_sum(square) for square in squares])
            if measures is None or measures.any():
                norms = tf.sqrt(tf.reduce_sum(squares[0], axis=0 if n_arrays == 2 else 1) + _SMOOTHING)
                costs = _KNEE * tf.math.log(1 + norms / _KNEE)
                total += penalties[1] * tf.reduce_sum(costs if measures is None else measures * costs)
        found: list[Any] = tape.gradient(total, weights)
        return found

    def program(
        weights: Sequence[Any],
        first: Sequence[Any],
        second: Sequence[Any],
        tensors: Sequence[Any],
        settings: Any,
        counts: Any,
    ) -> Any:
        learning_rate, penalties, scale = settings[0], settings[1:3], settings[3]
        n_batches, n_steps, done = counts[0], counts[1], counts[2]

        def step(index: Any, weights: list[Any], first: list[Any], second: list[Any]) -> Any:
            batch = [tf.gather(tensor, index % n_batches) for tensor in tensors]
            found = gradients(weights, batch, penalties, scale)
            taken = tf.cast(done + index + 1, tf.float32)
            rate = learning_rate * tf.sqrt(1 - _BETA_2**taken) / (1 - _BETA_1**taken)
            first = [_BETA_1 * m + (1 - _BETA_1) * g for m, g in zip(first, found, strict=True)]
            second = [_BETA_2 * v + (1 - _BETA_2) * g * g for v, g in zip(second, found, strict=True)]
            moves = [rate * m / (tf.sqrt(v) + _EPSILON) for m, v in zip(first, second, strict=True)]
            return index + 1, [w - move for w, move in zip(weights, moves, strict=True)], first, second

        start = (tf.constant(0), turned(weights), turned(first), turned(second))
        _, *result = tf.while_loop(lambda index, *_: index < n_steps, step, start)
        return [turned(arrays) for arrays in result]

    return tf.function(program, jit_compile=True)


def _measures(spec: NetworkSpec) -> FloatArray | None:
    """Return 1 for each input that the sparsity penalty is for and 0 for the others; None where it is all."""
    if not (spec.image or spec.one_hot):
        return None
    found = np.full(spec.observation_dim, 0 if spec.image else 1, np.float32)
    for start, stop in spec.one_hot:
        found[start:stop] = 0
    return found


def _convolved(spec: NetworkSpec, weights: Sequence[Any], observations: Any) -> Any:
    """Return the flat maps after the last convolution: each one a product of its patches, as in acting."""
    tf = tensorflow()
    maps = tf.reshape(observations, (-1, *spec.image))
    for number, (_, side, stride) in enumerate(spec.convolutions):
        height, width, filters = spec.maps[number + 1]
        pieces = [
            maps[
                :,
                top : top + stride * (height - 1) + 1 : stride,
                left : left + stride * (width - 1) + 1 : stride,
            ]
            for top in range(side)
            for left in range(side)
        ]
        kernel, bias = weights[2 * number], weights[2 * number + 1]
        patches = tf.reshape(tf.concat(pieces, axis=3), (-1, kernel.shape[0]))
        maps = tf.reshape(tf.nn.relu(tf.matmul(patches, kernel) + bias), (-1, height, width, filters))
    return tf.reshape(maps, (-1, height * width * filters))
