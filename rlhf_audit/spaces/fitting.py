"""Whether an observation is one of its space: what would lose digits or its form in the log is refused."""

from typing import Any

import numpy as np

from rlhf_audit.errors import UsageError
from rlhf_audit.spaces.base import Array, Part, Space


def fitted(part: Part, piece: Any) -> Array:
    """Return a piece of an observation in the dtype of its space.

    Args:
        part: What it should be.
        piece: What the environment gave.

    Raises:
        UsageError: It has another shape, or values that the dtype does not hold exactly.
    """
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


def check(space: Space, observation: Any) -> None:
    """Refuse an observation that is not of its space; one of varying size is checked when it is stored.

    Raises:
        UsageError: It is not.
    """
    if space.parts is None:
        return
    try:
        pieces = list(space.split(observation))
    except (TypeError, KeyError, IndexError, AttributeError):
        raise _misfit(space.parts[0], type(observation).__name__, "") from None
    for part, piece in zip(space.parts, pieces, strict=True):
        fitted(part, piece)


def _misfit(part: Part, seen: str, fix: str) -> UsageError:
    return UsageError(
        "the environment gave an observation that is not of its space",
        seen=seen,
        needed=f"{part.dtype} of shape {part.shape}, every value exactly",
        fix=fix
        or f'gymnasium.wrappers.DtypeObservation(env, "{part.dtype}"), or the right observation_space',
    )
