"""Between an environment's spaces and a network: observations as rows of numbers, outputs as actions.

An observation becomes a flat row: Discrete and MultiDiscrete one-hot, MultiBinary and Box as they are, Dict
and Tuple member after member. A Box that is an image (two or three dimensions, two of them of eight or more)
keeps its shape, channels last, and is read by two small convolutions; uint8 is divided by 255.

An action is one choice for each discrete dimension and one number for each number of a Box. A number x stands
for ``centre + x · half`` of its range, or for x itself where the range has no ends (or ends beyond a
million). What a Gaussian draws beyond the space's bounds is clipped to them (and rounded, for whole numbers):
the clipped action is what the environment gets, what is written down, and what its density is taken at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.errors import UsageError
from rlhf_audit.policy import heads
from rlhf_audit.policy.exact import Exact
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.types import FloatArray, IntArray, Weights

_Described = Mapping[str, Any]
_Array = npt.NDArray[Any]

_IMAGE_SIDE = 8
_COARSE_SIDE = 36
_COARSE = ((16, 8, 4), (32, 4, 2))
_FINE = ((16, 3, 2), (32, 3, 2))
_MOST_INPUTS = 1_000_000
_MOST_DIMENSIONS = 1024
_FAR = 1e6


@dataclass(frozen=True)
class _Reader:
    """How a space's values become numbers.

    Attributes:
        width: How many numbers.
        read: A value's numbers, ``(width,)`` float64.
        one_hot: Which of them are choices, from where to where.
    """

    width: int
    read: Callable[[Any], Exact]
    one_hot: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class _Choices:
    """A Discrete, MultiDiscrete or MultiBinary action."""

    counts: tuple[int, ...]
    start: _Array
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def heads(self) -> tuple[int, ...]:
        return self.counts

    @property
    def volume(self) -> float:
        return 1.0

    def value(self, numbers: Iterator[float]) -> Any:
        chosen = np.array([int(next(numbers)) for _ in self.counts], np.int64) + self.start
        return chosen.astype(self.dtype).reshape(self.shape) if self.shape else int(chosen[0])

    def numbers(self, value: Any) -> Iterator[float]:
        yield from (np.asarray(value, np.int64).reshape(-1) - self.start).tolist()


@dataclass(frozen=True)
class _Ranges:
    """A Box action."""

    low: Exact
    high: Exact
    centre: Exact
    half: Exact
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def heads(self) -> tuple[int, ...]:
        return (0,) * len(self.low)

    @property
    def volume(self) -> float:
        return float(prod(self.half.tolist()))

    def value(self, numbers: Iterator[float]) -> Any:
        drawn = self.centre + self.half * np.array([next(numbers) for _ in self.heads])
        kept = np.minimum(np.maximum(drawn, self.low), self.high)
        return (np.rint(kept) if self.dtype.kind in "iu" else kept).astype(self.dtype).reshape(self.shape)

    def numbers(self, value: Any) -> Iterator[float]:
        yield from ((np.asarray(value, np.float64).reshape(-1) - self.centre) / self.half).tolist()


@dataclass(frozen=True)
class _Record:
    """A Dict or Tuple of actions."""

    keys: tuple[Any, ...]
    members: tuple["_Codec", ...]
    keyed: bool

    @property
    def heads(self) -> tuple[int, ...]:
        return tuple(choices for member in self.members for choices in member.heads)

    @property
    def volume(self) -> float:
        return prod(member.volume for member in self.members)

    def value(self, numbers: Iterator[float]) -> Any:
        values = [member.value(numbers) for member in self.members]
        return dict(zip(self.keys, values, strict=True)) if self.keyed else tuple(values)

    def numbers(self, value: Any) -> Iterator[float]:
        for key, member in zip(self.keys, self.members, strict=True):
            yield from member.numbers(value[key])


_Codec = _Choices | _Ranges | _Record


class Interface:
    """How a network sees an environment and acts in it.

    Args:
        observation: The observation space, as ``spaces.describing`` writes it.
        action: The action space.
        hidden: Units of the network's hidden layers.

    Attributes:
        spec: The network's shape.

    Raises:
        UsageError: A space of varying size, by name, or one too large.
    """

    def __init__(
        self, observation: _Described, action: _Described, hidden: Sequence[int] | None = None
    ) -> None:
        self._spaces = observation, action
        self._reader, image = _image(observation) or (_reader(observation), ())
        self._codec = _codec(action)
        if self._reader.width > _MOST_INPUTS:
            raise _refused("too large an observation", f"{self._reader.width} numbers", "a million at most")
        counts = self._codec.heads
        alone = isinstance(self._codec, _Choices) and not self._codec.shape
        coarse = bool(image) and min(image[:2]) >= _COARSE_SIDE
        spec = NetworkSpec(
            self._reader.width,
            counts[0] if alone else counts,
            image=image,
            convolutions=((_COARSE if coarse else _FINE) if image else ()),
            one_hot=self._reader.one_hot,
        )
        self.spec = spec if hidden is None else replace(spec, hidden=tuple(hidden))

    @classmethod
    def of(cls, env: _Described, hidden: Sequence[int] | None = None) -> "Interface":
        """Return the interface to the environment of a record in JSON."""
        return cls(env["observation_space"], env["action_space"], hidden)

    def reads(self, observation: _Described, action: _Described) -> bool:
        """Say whether these are the very spaces that it was made for."""
        return (observation, action) == self._spaces

    def encode(self, observation: Any) -> Exact:
        """Return an observation's row, ``(observation_dim,)``."""
        return self._reader.read(observation)

    def rows(self, observations: Sequence[Any]) -> FloatArray:
        """Return ``(n, observation_dim)`` rows, as training takes them."""
        if isinstance(observations, np.ndarray) and not (self.spec.image or self.spec.one_hot):
            return observations.reshape(len(observations), -1).astype(np.float32)
        found = np.empty((len(observations), self.spec.observation_dim), np.float32)
        for number, observation in enumerate(observations):
            found[number] = self._reader.read(observation)
        return found

    def choices(self, actions: Sequence[Any]) -> IntArray | FloatArray:
        """Return actions as numbers: ``(n,)`` for a single choice, otherwise ``(n, n_dimensions)``."""
        if isinstance(actions, np.ndarray) and isinstance(self._codec, _Choices):
            numbers = actions.reshape(len(actions), -1).astype(np.int64) - self._codec.start
            return numbers[:, 0] if isinstance(self.spec.n_actions, int) else numbers.astype(np.float32)
        if isinstance(self.spec.n_actions, int):
            return np.array([next(self._codec.numbers(action)) for action in actions], np.int64)
        return np.array([[*self._codec.numbers(action)] for action in actions], np.float32)

    def act(
        self, weights: Weights, said: heads.Opinions, row: int, draws: np.random.Generator
    ) -> tuple[Any, float]:
        """Draw an action, a value of the space, and return it with its probability or density."""
        action = self._codec.value(iter(heads.draw(self.spec, weights, said, row, draws)))
        taken = np.array([*self._codec.numbers(action)])
        chance = heads.chance(self.spec, weights, said, row, taken)
        return action, chance if self._codec.volume == 1 else float(np.float32(chance / self._codec.volume))

    def likeliest(self, said: heads.Opinions, row: int) -> Any:
        """Return the most probable action, a value of the space."""
        return self._codec.value(iter(heads.likeliest(said, row)))


def _image(space: _Described) -> tuple[_Reader, tuple[int, ...]] | None:
    """Return how an image is read, and its height, width and channels; None for what is none."""
    shape = tuple(space["shape"]) if space["type"] == "Box" else ()
    dtype = np.dtype(space["dtype"]) if shape else np.dtype(bool)
    if len(shape) not in (2, 3) or not (dtype == np.uint8 or dtype.kind == "f"):
        return None
    # A stack of frames has its channels, the fewest, in front.
    channels_first = len(shape) == 3 and shape[0] < min(shape[1:])
    last = (*shape[1:], shape[0]) if channels_first else (*shape, 1)[:3]
    if min(last[:2]) < _IMAGE_SIDE:
        return None
    scale = 255.0 if dtype == np.uint8 else 1.0

    def read(value: Any) -> Exact:
        pixels = np.asarray(value, np.float64)
        return (pixels.transpose(1, 2, 0) if channels_first else pixels).reshape(-1) / scale

    return _Reader(prod(last), read), last


def _reader(space: _Described) -> _Reader:
    kind = space["type"]
    if kind in ("Dict", "Tuple"):
        return _joined(_members(space))
    if kind in ("Discrete", "MultiDiscrete"):
        return _one_hot(_choices(space))
    if kind in ("Box", "MultiBinary"):
        return _Reader(prod(space["shape"]), lambda value: np.asarray(value, np.float64).reshape(-1))
    raise _refused("an observation that varies in size", kind, "Box, Discrete, MultiDiscrete, MultiBinary")


def _one_hot(choices: _Choices) -> _Reader:
    starts = np.add.accumulate([0, *choices.counts])
    width = int(starts[-1])

    def read(value: Any) -> Exact:
        row = np.zeros(width)
        row[starts[:-1] + np.asarray(value, np.int64).reshape(-1) - choices.start] = 1.0
        return row

    return _Reader(width, read, ((0, width),))


def _joined(members: Sequence[tuple[Any, _Described]]) -> _Reader:
    readers = [(key, _reader(space)) for key, space in members]
    ranges: list[tuple[int, int]] = []
    width = 0
    for _, reader in readers:
        for start, stop in reader.one_hot:
            first = ranges.pop()[0] if ranges and ranges[-1][1] == start + width else start + width
            ranges.append((first, stop + width))
        width += reader.width

    def read(value: Any) -> Exact:
        return np.concatenate([np.zeros(0), *(reader.read(value[key]) for key, reader in readers)])

    return _Reader(width, read, tuple(ranges))


def _codec(space: _Described) -> _Codec:
    kind = space["type"]
    if prod(space.get("shape", ())) > _MOST_DIMENSIONS:
        raise _refused(
            "too large an action", f"{prod(space['shape'])} dimensions", f"{_MOST_DIMENSIONS} at most"
        )
    if kind in ("Dict", "Tuple"):
        members = _members(space)
        return _Record(
            tuple(key for key, _ in members), tuple(_codec(inner) for _, inner in members), kind == "Dict"
        )
    if kind in ("Discrete", "MultiDiscrete", "MultiBinary"):
        return _choices(space)
    if kind == "Box" and np.dtype(space["dtype"]).kind in "fiu" and not isinstance(space["low"], dict):
        return _ranges(space)
    raise _refused("an action of this kind", kind, "Discrete, MultiDiscrete, MultiBinary, Box of numbers")


def _choices(space: _Described) -> _Choices:
    shape, dtype = tuple(space["shape"]), np.dtype(space["dtype"])
    if space["type"] == "MultiBinary":
        return _Choices((2,) * prod(shape), np.zeros(prod(shape), np.int64), dtype, shape)
    counts = np.array(space.get("nvec", space.get("n")), np.int64).reshape(-1)
    return _Choices(tuple(counts.tolist()), np.array(space["start"], np.int64).reshape(-1), dtype, shape)


def _ranges(space: _Described) -> _Ranges:
    n = prod(space["shape"])
    low, high = (
        np.array(np.broadcast_to(np.array(space[end], dtype=object).astype(np.float64), n))
        for end in ("low", "high")
    )
    bounded = (low > -_FAR) & (high < _FAR) & (low < high)
    lower, upper = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    centre = np.where(low == high, low, lower / 2 + upper / 2)
    half = upper / 2 - lower / 2
    return _Ranges(low, high, centre, half, np.dtype(space["dtype"]), tuple(space["shape"]))


def _members(space: _Described) -> list[tuple[Any, _Described]]:
    if space["type"] == "Dict":
        return [(name, inner) for name, inner in space["spaces"]]
    return list(enumerate(space["spaces"]))


def _refused(what: str, seen: str, needed: str) -> UsageError:
    return UsageError(
        f"no policy network can be made for {what}",
        seen=seen,
        needed=needed,
        fix="choose another environment, or wrap it in one that has such a space",
    )
