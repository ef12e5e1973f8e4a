"""The policy network: its shape, its first weights, and what it says, in exact arithmetic (``exact.py``).

A session plays again to the same bits on another CPU. What the outputs mean is in ``heads.py``; how an
environment's values become rows of numbers, in ``interface.py``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.errors import UsageError
from rlhf_audit.policy import exact
from rlhf_audit.policy.exact import Exact
from rlhf_audit.seeds import generator
from rlhf_audit.types import FloatArray, Weights

_CHUNK_ROWS = 64
_CHUNK_PRODUCTS = 2**23
"""Most terms of the first layer that are in memory at once."""
_LOG_STD = -0.6931472
"""Logarithm of .5: the first spread of a Gaussian, as a share of half an action's range."""


@dataclass(frozen=True)
class NetworkSpec:
    """Dense ReLU layers on a flat row of numbers; before them convolutions where the row is an image.

    Attributes:
        observation_dim: Length of one row.
        n_actions: How many actions there are to choose from. Where an action has several dimensions: the
            choices of each, 0 for a number that a Gaussian draws.
        hidden: Units of each hidden layer.
        image: Height, width and channels of an image, whose numbers are the row.
        convolutions: Filters, side and stride of each, without padding; ReLU.
        one_hot: From where to where in the row are choices rather than measures.
    """

    observation_dim: int
    n_actions: int | tuple[int, ...]
    hidden: tuple[int, ...] = (64, 64)
    image: tuple[int, ...] = ()
    convolutions: tuple[tuple[int, ...], ...] = ()
    one_hot: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        least = 2 if isinstance(self.n_actions, int) else 0
        # With one hidden unit a layer numpy would sum a single row pairwise: see ``exact.product``.
        if (
            self.observation_dim < 1
            or min(self.hidden, default=2) < 2
            or min(self.heads, default=-1) < least
            or (self.image and np.prod(self.image) != self.observation_dim)
            or (self.image and min(min(shape) for shape in self.maps) < 1)
        ):
            raise UsageError(
                "this is no shape for a policy network",
                seen=f"{(self.observation_dim, *self.hidden, self.n_outputs)} units",
                needed="at least one input, two units a layer and two actions",
            )

    @property
    def heads(self) -> tuple[int, ...]:
        """The choices of each dimension of an action, 0 for a Gaussian one."""
        return (self.n_actions,) if isinstance(self.n_actions, int) else self.n_actions

    @property
    def n_outputs(self) -> int:
        """Units of the last layer: a logit for each choice, a mean for each Gaussian."""
        return sum(max(choices, 1) for choices in self.heads)

    @property
    def in_words(self) -> str:
        """What it sees and does, for a message."""
        inputs = " x ".join(map(str, self.image)) if self.image else str(self.observation_dim)
        if isinstance(self.n_actions, int):
            return f"{inputs} inputs, {self.n_actions} actions"
        dimensions = [str(choices) if choices else "a number" for choices in self.heads]
        return f"{inputs} inputs, actions of {len(dimensions)} dimensions: {', '.join(dimensions[:12])}"

    @property
    def n_gaussians(self) -> int:
        """Dimensions of an action that are numbers."""
        return self.heads.count(0)

    @property
    def maps(self) -> tuple[tuple[int, ...], ...]:
        """Height, width and channels, of the image and after each convolution."""
        shapes: list[tuple[int, ...]] = [self.image] if self.image else []
        for filters, side, stride in self.convolutions:
            height, width, _ = shapes[-1]
            shapes.append(((height - side) // stride + 1, (width - side) // stride + 1, filters))
        return tuple(shapes)

    @property
    def kernels(self) -> tuple[tuple[str, int, int], ...]:
        """Name, rows and columns of each layer's kernel; a convolution's row is a number of the patch."""
        found = [
            (f"conv_{number}", side * side * self.maps[number][2], filters)
            for number, (filters, side, _) in enumerate(self.convolutions)
        ]
        first = int(np.prod(self.maps[-1])) if self.image else self.observation_dim
        sizes = (first, *self.hidden, self.n_outputs)
        names = [*(f"hidden_{number}" for number in range(len(self.hidden))), "policy"]
        return (*found, *zip(names, sizes, sizes[1:], strict=False))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that ``from_json`` reads."""
        actions = self.n_actions if isinstance(self.n_actions, int) else list(self.n_actions)
        value: dict[str, Any] = {
            "observation_dim": self.observation_dim,
            "n_actions": actions,
            "hidden": list(self.hidden),
        }
        if self.image:
            value |= {"image": list(self.image), "convolutions": [list(one) for one in self.convolutions]}
        return value | ({"one_hot": [list(one) for one in self.one_hot]} if self.one_hot else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NetworkSpec":
        """Return the spec that ``to_json`` wrote.

        >>> spec = NetworkSpec(4, 2)
        >>> NetworkSpec.from_json(spec.to_json()) == spec
        True
        """
        actions = value["n_actions"]
        return cls(
            int(value["observation_dim"]),
            _whole(actions) if isinstance(actions, list) else int(actions),
            _whole(value["hidden"]),
            _whole(value.get("image", ())),
            tuple(_whole(one) for one in value.get("convolutions", ())),
            tuple(_whole(one) for one in value.get("one_hot", ())),
        )


def weight_shapes(spec: NetworkSpec) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return name and shape of each weight, input to output: kernel, then bias; the spreads come last.

    >>> [name for name, _ in weight_shapes(NetworkSpec(4, 2, (8,)))]
    ['hidden_0/kernel', 'hidden_0/bias', 'policy/kernel', 'policy/bias']
    >>> weight_shapes(NetworkSpec(3, (0,)))[-1]
    ('policy/log_std', (1,))
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    for layer, rows, columns in spec.kernels:
        found += [(f"{layer}/kernel", (rows, columns)), (f"{layer}/bias", (columns,))]
    return (*found, *([("policy/log_std", (spec.n_gaussians,))] if spec.n_gaussians else []))


def weight_names(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of the weights in order."""
    return tuple(name for name, _ in weight_shapes(spec))


def initial_weights(spec: NetworkSpec, seed: int) -> Weights:
    """Return an untrained network: Glorot uniform kernels, zero biases, a spread of a half.

    Args:
        spec: The shape.
        seed: Root seed; each layer draws from a named child of it.

    References:
        Glorot & Bengio 2010, equation 16; a convolution's fans are its patch and its filters.
    """
    arrays: list[FloatArray] = []
    for layer, (_, rows, columns) in enumerate(spec.kernels):
        limit = np.sqrt(6.0 / (rows + columns))
        draws = generator(seed, "initial-weights", layer).uniform(-limit, limit, (rows, columns))
        arrays += [draws.astype(np.float32), np.zeros(columns, np.float32)]
    if spec.n_gaussians:
        arrays.append(np.full(spec.n_gaussians, _LOG_STD, np.float32))
    return tuple(zip(weight_names(spec), arrays, strict=True))


def outputs(spec: NetworkSpec, weights: Weights, rows: npt.NDArray[Any]) -> Exact:
    """Return what the last layer says.

    Args:
        spec: The network's shape.
        weights: As ``initial_weights`` lays them out.
        rows: ``(n, observation_dim)``, any float dtype.

    Returns:
        ``(n, n_outputs)``.

    Determinism:
        A row's result has the same bits alone and among others, on every IEEE 754 machine.
    """
    layers = _layers(weights)
    n_chunk = max(min(_CHUNK_ROWS, _CHUNK_PRODUCTS // (64 * spec.observation_dim)), 1)
    chunks = [
        _forward(spec, layers, np.asarray(rows[start : start + n_chunk], np.float64))
        for start in range(0, len(rows), n_chunk)
    ]
    return np.concatenate(chunks) if chunks else np.zeros((0, spec.n_outputs))


def probabilities(weights: Weights, rows: npt.NDArray[Any]) -> FloatArray:
    """Return the probability of each action, of a network that chooses one of several and sees no image.

    Args:
        weights: As ``initial_weights`` lays them out.
        rows: ``(n, observation_dim)``, any float dtype.

    Returns:
        ``(n, n_actions)`` float32; to the bit as ``outputs`` has it.
    """
    kernels = [array for _, array in weights][::2]
    spec = NetworkSpec(
        len(kernels[0]), kernels[-1].shape[1], tuple(kernel.shape[1] for kernel in kernels[:-1])
    )
    said = outputs(spec, weights, rows)
    return exact.softmax(said) if len(said) else said.astype(np.float32)


def weights_sha256(weights: Weights) -> str:
    """Return the digest of a policy: SHA-256 over name, dtype, shape and little-endian bytes, in order."""
    digest = hashlib.sha256()
    for name, array in weights:
        header = f"{name}\0{array.dtype.name}\0{','.join(str(size) for size in array.shape)}\0"
        digest.update(header.encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


_Layer = tuple[Exact, Exact]


def _whole(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _layers(weights: Weights) -> list[_Layer]:
    arrays = [array.astype(np.float64) for _, array in weights]
    return list(zip(arrays[::2], arrays[1::2], strict=False))


def _forward(spec: NetworkSpec, layers: list[_Layer], rows: Exact) -> Exact:
    n_images = len(rows)
    if spec.image:
        rows = rows.reshape(-1, *spec.image)
    for (_, side, stride), (kernel, bias) in zip(spec.convolutions, layers, strict=False):
        seen = exact.patches(rows, side, stride)
        flat = exact.product(seen.reshape(-1, seen.shape[3]), kernel)
        rows = np.maximum(flat + bias, 0.0).reshape(*seen.shape[:3], -1)
    rows = rows.reshape(n_images, -1)
    dense = layers[len(spec.convolutions) :]
    for kernel, bias in dense[:-1]:
        rows = np.maximum(exact.product(rows, kernel) + bias, 0.0)
    return exact.product(rows, dense[-1][0]) + dense[-1][1]
