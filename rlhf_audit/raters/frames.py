"""Pictures in a terminal: two pixels a character cell with "▀", or plain ASCII where that cannot be shown."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
_SHADES = " .:-=+*#%@"
_EMPHASIS = 4.0
_RESET = "\x1b[0m"
_CUBE = np.array([0, 95, 135, 175, 215, 255])
# xterm's first sixteen colours; other terminals differ a little, none by a hue.
_ANSI = np.array(
    [
        (0, 0, 0),
        (205, 0, 0),
        (0, 205, 0),
        (205, 205, 0),
        (0, 0, 238),
        (205, 0, 205),
        (0, 205, 205),
        (229, 229, 229),
        (127, 127, 127),
        (255, 0, 0),
        (0, 255, 0),
        (255, 255, 0),
        (92, 92, 255),
        (255, 0, 255),
        (0, 255, 255),
        (255, 255, 255),
    ]
)


class Colours(StrEnum):
    """What a terminal can show."""

    TRUE = "24-bit"
    INDEXED = "256"
    ANSI = "16"
    NONE = "ascii"


def colours_of(environ: Mapping[str, str], encoding: str) -> Colours:
    """Return what the terminal can show, on the safe side.

    Args:
        environ: ``TERM``, ``COLORTERM``, ``NO_COLOR`` and ``LC_ALL`` are looked at.
        encoding: Of the stream that is drawn to.

    >>> colours_of({"TERM": "xterm-256color"}, "utf-8").value
    '256'
    """
    term = environ.get("TERM", "")
    utf8 = encoding.lower().replace("-", "") == "utf8" and environ.get("LC_ALL", "") not in ("C", "POSIX")
    if term in ("", "dumb") or not utf8 or environ.get("NO_COLOR"):
        return Colours.NONE
    if environ.get("COLORTERM", "") in ("truecolor", "24bit"):
        return Colours.TRUE
    return Colours.INDEXED if "256" in term else Colours.ANSI


def draw(frame: Pixels, columns: int, rows: int, colours: Colours) -> list[str]:
    """Return a picture as lines of text, as large as fits with its proportions kept.

    A cell is taken to be twice as high as it is wide.

    Args:
        frame: ``(h, w, 3)``.
        columns: Cells across.
        rows: Cells down.
        colours: How to draw.

    Returns:
        At most ``rows`` lines of at most ``columns`` cells; none where nothing would be seen.
    """
    height, width = frame.shape[:2]
    scale = min(columns / width, 2 * rows / height) if height and width else 0.0
    across, down = int(width * scale), int(height * scale / 2)
    if across < 2 or down < 1:
        return []
    if colours is Colours.NONE:
        return _shaded(_resize(frame, down, across))
    return _half_blocks(_resize(frame, 2 * down, across), _CODES[colours])


def _resize(frame: Pixels, rows: int, columns: int) -> Pixels:
    """Average the pixels behind each cell; where cells are smaller than pixels, repeat them.

    Pixels unlike the background weigh more, or a thin pole would fade into it.
    """
    colours = frame.astype(np.float64)
    unlike = np.abs(colours - np.median(colours, axis=(0, 1))).max(axis=2, keepdims=True)
    weights = 1.0 + _EMPHASIS * unlike / 255.0
    mean = _sums(colours * weights, rows, columns) / _sums(weights, rows, columns)
    return np.rint(mean).astype(np.uint8)


def _sums(values: npt.NDArray[np.float64], rows: int, columns: int) -> npt.NDArray[np.float64]:
    for axis, n in ((0, rows), (1, columns)):
        starts = np.arange(n) * values.shape[axis] // n
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def _shaded(pixels: Pixels) -> list[str]:
    """Shade by the distance from the commonest colour, so that any even background is left empty."""
    flat = pixels.reshape(-1, 3)
    values, counts = np.unique(flat, axis=0, return_counts=True)
    distance = np.abs(pixels.astype(np.int64) - values[counts.argmax()].astype(np.int64)).max(axis=2)
    # The root lifts thin lines, which averaging has made faint.
    levels = np.ceil(np.sqrt(distance / 255.0) * (len(_SHADES) - 1)).astype(np.int64)
    return ["".join(_SHADES[level] for level in row) for row in levels]


def _half_blocks(pixels: Pixels, codes: Callable[[Pixels, bool], list[list[str]]]) -> list[str]:
    lines = []
    for upper, lower in zip(codes(pixels[0::2], True), codes(pixels[1::2], False), strict=True):
        cells, last = [], ""
        for pair in zip(upper, lower, strict=True):
            code = ";".join(pair)
            cells.append("▀" if code == last else f"\x1b[{code}m▀")
            last = code
        lines.append("".join(cells) + _RESET)
    return lines


def _true_codes(pixels: Pixels, foreground: bool) -> list[list[str]]:
    start = "38;2" if foreground else "48;2"
    return [[f"{start};{r};{g};{b}" for r, g, b in row] for row in pixels.tolist()]


def _indexed_codes(pixels: Pixels, foreground: bool) -> list[list[str]]:
    """Nearest of xterm's 6x6x6 cube and its 24 greys."""
    values = pixels.astype(np.int64)
    cube = np.abs(values[..., None] - _CUBE).argmin(axis=-1)
    cube_index = 16 + 36 * cube[..., 0] + 6 * cube[..., 1] + cube[..., 2]
    grey = np.clip((values.mean(axis=-1) - 3) // 10, 0, 23).astype(np.int64)
    cube_error = np.square(_CUBE[cube] - values).sum(axis=-1)
    grey_error = np.square((8 + 10 * grey)[..., None] - values).sum(axis=-1)
    index = np.where(grey_error < cube_error, 232 + grey, cube_index)
    start = "38;5" if foreground else "48;5"
    return [[f"{start};{code}" for code in row] for row in index.tolist()]


def _ansi_codes(pixels: Pixels, foreground: bool) -> list[list[str]]:
    difference: npt.NDArray[Any] = pixels.astype(np.int64)[..., None, :] - _ANSI
    index = np.square(difference).sum(axis=-1).argmin(axis=-1)
    base = 30 if foreground else 40
    return [[str(base + code if code < 8 else base + 52 + code) for code in row] for row in index.tolist()]


_CODES = {Colours.TRUE: _true_codes, Colours.INDEXED: _indexed_codes, Colours.ANSI: _ansi_codes}
