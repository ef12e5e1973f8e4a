"""Naming a path as its user would: a home folder's name in a message is nobody's business."""

import os
from collections.abc import Iterator, Sequence

from rlhf_audit.cli._options import LOG_VARIABLE
from rlhf_audit.log.checkpoint import SIGNING_KEY_VARIABLE


def as_typed(path: str, arguments: Sequence[str]) -> str:
    """Return ``path`` by what was typed, else relative to here, else its last name only.

    Args:
        path: As the operating system knows it.
        arguments: The command line.

    >>> as_typed("study/keys", ["show", "study"])
    'study/keys'
    >>> as_typed("/somewhere/else/keys", ["show", "study"])
    '…/keys'
    """
    if not os.path.isabs(path):  # noqa: PTH117 - a text stays a text
        return path
    below = ""
    for typed in _typed(arguments):
        for base in (os.path.abspath(typed), os.path.realpath(typed)):  # noqa: PTH100
            if path == base or path.startswith(base.rstrip("/") + "/"):
                return typed + path[len(base.rstrip("/")) :]
            if base.startswith(path.rstrip("/") + "/"):
                below = typed
    relative = os.path.relpath(path)
    if below:
        return path if os.path.isabs(below) else relative  # noqa: PTH117
    return f"…/{os.path.basename(path)}" if relative.startswith("..") else relative  # noqa: PTH119


def _typed(arguments: Sequence[str]) -> Iterator[str]:
    """Yield what may have named a path, the longest first."""
    words = [word.partition("=")[2] if word.startswith("--") else word for word in arguments]
    words += [os.environ.get(name, "") for name in (LOG_VARIABLE, SIGNING_KEY_VARIABLE)]
    yield from sorted((word for word in words if word and "\0" not in word), key=len, reverse=True)
