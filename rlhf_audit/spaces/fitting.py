"""Whether an observation is one of its space: what would lose digits or its form in the log is refused."""

from typing import Any

import numpy as np

from rlhf_audit.errors import UsageError
from rlhf_audit.spaces.base import Array, Part, Space


def fitted(space: Space, observation: Any) -> list[Array]:
    """Return the pieces of an observation, each in the dtype of its space.

    Args:
        space: A fixed one.
        observation: What the environment gave.

    Raises:
        UsageError: It has another form or shape, or values that a dtype does not hold exactly.
    """
    parts = space.parts or ()
    try:
        pieces = list(space.split(observation))
    except (TypeError, KeyError, IndexError, AttributeError):
        raise _misfit(parts[0], type(observation).__name__, "") from None
    return [_fitted(part, piece) for part, piece in zip(parts, pieces, strict=True)]


def _fitted(part: Part, piece: Any) -> Array:
    if isinstance(piece, np.ndarray) and (piece.dtype, piece.shape) == part:
        return piece
    try:
        found = np.asarray(piece)
        with np.errstate(all="ignore"):
            made = found.astype(part.dtype)
        exact = made.shape == part.shape and np.array_equal(made, found, equal_nan=made.dtype.kind == "f")
    except (TypeError, ValueError, OverflowError):
        raise _misfit(part, type(piece).__name__, "") from None
    if not exact:
        right = "" if made.shape == part.shape else "gymnasium.utils.env_checker.check_env says what is wrong"
        raise _misfit(part, f"{found.dtype} of shape {found.shape}", right)
    return made


def _misfit(part: Part, seen: str, fix: str) -> UsageError:
    return UsageError(
        "the environment gave an observation that is not of its space",
        seen=seen,
        needed=f"{part.dtype} of shape {part.shape}, every value exactly",
        fix=fix
        or f'gymnasium.wrappers.DtypeObservation(env, "{part.dtype}"), or the right observation_space',
    )
