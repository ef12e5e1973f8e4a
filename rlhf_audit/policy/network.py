"""The policy network: its shape, its first weights, and acting with it in exact arithmetic.

Acting uses only +, ×, ÷ and max on float64, in a fixed order, with no BLAS and no libm: IEEE 754 rounds each
of these in one way, so a session plays again to the same bits on another CPU. Results are rounded to float32.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.determinism import tensorflow
from rlhf_audit.errors import UsageError
from rlhf_audit.seeds import generator
from rlhf_audit.types import FloatArray, Weights

_CHUNK_ROWS = 64
_EXP_HALVINGS = 10


@dataclass(frozen=True)
class NetworkSpec:
    """A softmax policy over discrete actions: dense ReLU layers on a flat observation.

    Attributes:
        observation_dim: Length of one observation.
        n_actions: Size of the action space.
        hidden: Units of each hidden layer.
    """

    observation_dim: int
    n_actions: int
    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        # One unit alone would let numpy sum a single row pairwise, and other bits come out than in a batch.
        if self.observation_dim < 1 or min((*self.hidden, self.n_actions)) < 2:
            raise UsageError(
                "this is no shape for a policy network",
                seen=f"{self.sizes} units",
                needed="at least one input, two units a layer and two actions",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units from input to output."""
        return (self.observation_dim, *self.hidden, self.n_actions)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that ``from_json`` reads."""
        return {
            "observation_dim": self.observation_dim,
            "n_actions": self.n_actions,
            "hidden": list(self.hidden),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NetworkSpec":
        """Return the spec that ``to_json`` wrote.

        >>> spec = NetworkSpec(4, 2)
        >>> NetworkSpec.from_json(spec.to_json()) == spec
        True
        """
        hidden = tuple(int(units) for units in value["hidden"])
        return cls(int(value["observation_dim"]), int(value["n_actions"]), hidden)


def weight_names(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of the weights, input to output: kernel, then bias.

    >>> weight_names(NetworkSpec(4, 2, (8,)))
    ('hidden_0/kernel', 'hidden_0/bias', 'policy/kernel', 'policy/bias')
    """
    layers = [*(f"hidden_{i}" for i in range(len(spec.hidden))), "policy"]
    return tuple(f"{layer}/{part}" for layer in layers for part in ("kernel", "bias"))


def initial_weights(spec: NetworkSpec, seed: int) -> Weights:
    """Return an untrained network: Glorot uniform kernels, zero biases.

    Args:
        spec: The shape.
        seed: Root seed; each layer draws from a named child of it.

    References:
        Glorot & Bengio 2010, equation 16.
    """
    arrays: list[FloatArray] = []
    for layer, (rows, columns) in enumerate(zip(spec.sizes, spec.sizes[1:], strict=False)):
        limit = np.sqrt(6.0 / (rows + columns))
        draws = generator(seed, "initial-weights", layer).uniform(-limit, limit, (rows, columns))
        arrays += [draws.astype(np.float32), np.zeros(columns, np.float32)]
    return tuple(zip(weight_names(spec), arrays, strict=True))


def probabilities(weights: Weights, observations: npt.NDArray[Any]) -> FloatArray:
    """Return the probability of each action.

    Args:
        weights: As ``initial_weights`` lays them out.
        observations: ``(n, observation_dim)``, any float dtype.

    Returns:
        ``(n, n_actions)`` float32.

    Determinism:
        A row's result has the same bits alone and among others, on every IEEE 754 machine.
    """
    layers = _layers(weights)
    rows = np.asarray(observations, np.float64)
    chunks = [
        _forward(layers, rows[start : start + _CHUNK_ROWS]) for start in range(0, len(rows), _CHUNK_ROWS)
    ]
    return np.concatenate(chunks) if chunks else np.zeros((0, layers[-1][1].size), np.float32)


def draw_action(row: FloatArray, uniform: float) -> int:
    """Return the action that a uniform number in [0, 1) picks from one row of ``probabilities``.

    >>> draw_action(np.array([0.25, 0.75], np.float32), 0.3)
    1
    """
    sums = np.add.accumulate(row, dtype=np.float64)
    # Rounded probabilities may sum to a little below 1.
    return min(int(np.searchsorted(sums, uniform, side="right")), len(row) - 1)


def weights_sha256(weights: Weights) -> str:
    """Return the digest of a policy: SHA-256 over name, dtype, shape and little-endian bytes, in order."""
    digest = hashlib.sha256()
    for name, array in weights:
        header = f"{name}\0{array.dtype.name}\0{','.join(str(size) for size in array.shape)}\0"
        digest.update(header.encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def keras_model(spec: NetworkSpec, weights: Weights) -> Any:
    """Return a Keras model of the policy, ``(n, observation_dim)`` to ``(n, n_actions)`` probabilities.

    It agrees with ``probabilities`` to 1e-5, not to the bit.
    """
    keras = tensorflow().keras
    model = keras.Sequential([keras.Input((spec.observation_dim,))])
    for layer, units in enumerate(spec.hidden):
        model.add(keras.layers.Dense(units, activation="relu", name=f"hidden_{layer}"))
    model.add(keras.layers.Dense(spec.n_actions, activation="softmax", name="policy"))
    model.set_weights([array for _, array in weights])
    return model


_Layer = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _layers(weights: Weights) -> list[_Layer]:
    arrays = [array.astype(np.float64) for _, array in weights]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _forward(layers: list[_Layer], rows: npt.NDArray[np.float64]) -> FloatArray:
    for kernel, bias in layers[:-1]:
        rows = np.maximum(_product(rows, kernel) + bias, 0.0)
    logits = _product(rows, layers[-1][0]) + layers[-1][1]
    powers = _exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / np.add.accumulate(powers, axis=1)[:, -1:]).astype(np.float32)


def _product(rows: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Summing over the slowest axis adds term after term; a matrix product would be ordered by the BLAS.
    product: npt.NDArray[np.float64] = np.add.reduce(rows.T[:, :, None] * kernel[:, None, :], axis=0)
    return product


def _exp(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # exp(v) = exp(v / 2^10)^(2^10), the inner one by Taylor: libm-free, within 1e-8 of exp for v in [-10, 0].
    small = np.maximum(values, -100.0) / 2.0**_EXP_HALVINGS
    result: npt.NDArray[np.float64] = 1 + small * (1 + small / 2 * (1 + small / 3 * (1 + small / 4)))
    for _ in range(_EXP_HALVINGS):
        result = result * result
    return result
