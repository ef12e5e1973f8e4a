import re

import numpy as np
import pytest

from rlhf_audit.raters.frames import Colours, colours_of, draw

WHITE, RED, BLACK = (255, 255, 255), (255, 0, 0), (0, 0, 0)


def picture(height: int = 40, width: int = 60, colour: tuple[int, int, int] = WHITE) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


@pytest.mark.parametrize(
    ("environ", "encoding", "expected"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "utf-8", Colours.TRUE),
        ({"TERM": "tmux-256color", "COLORTERM": "24bit"}, "UTF8", Colours.TRUE),
        ({"TERM": "xterm-256color"}, "utf-8", Colours.INDEXED),
        ({"TERM": "linux"}, "utf-8", Colours.ANSI),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "utf-8", Colours.NONE),
        ({}, "utf-8", Colours.NONE),
        ({"TERM": "xterm-256color"}, "iso-8859-1", Colours.NONE),
        ({"TERM": "xterm-256color", "LC_ALL": "C"}, "utf-8", Colours.NONE),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "utf-8", Colours.NONE),
    ],
)
def test_what_a_terminal_can_show(environ, encoding, expected):
    assert colours_of(environ, encoding) is expected


@pytest.mark.parametrize("colours", Colours)
@pytest.mark.parametrize(("columns", "rows"), [(78, 16), (38, 6), (198, 50), (3, 1), (500, 300)])
def test_a_picture_fits_and_keeps_its_proportions(colours, columns, rows):
    lines = [plain(line) for line in draw(picture(400, 600), columns, rows, colours)]
    assert 0 < len(lines) <= rows
    widths = {len(line) for line in lines}
    assert len(widths) == 1 and widths <= set(range(columns + 1))
    if rows > 1:
        assert abs(widths.pop() / (2 * len(lines)) - 1.5) < 0.25


@pytest.mark.parametrize(
    ("columns", "rows", "shape"), [(0, 5, (9, 9)), (5, 0, (9, 9)), (-3, -3, (9, 9)), (9, 9, (0, 9))]
)
def test_no_room_is_no_picture(columns, rows, shape):
    assert draw(picture(*shape), columns, rows, Colours.TRUE) == []


@pytest.mark.parametrize(
    ("colours", "codes"),
    [
        (Colours.TRUE, "38;2;255;0;0;48;2;255;255;255"),
        (Colours.INDEXED, "38;5;196;48;5;231"),
        (Colours.ANSI, "91;107"),
    ],
)
def test_upper_pixels_are_the_foreground_and_lower_ones_the_background(colours, codes):
    frame = picture(4, 4)
    frame[0] = RED
    assert draw(frame, 4, 2, colours)[0] == f"\x1b[{codes}m▀▀▀▀\x1b[0m"


@pytest.mark.parametrize("background", [WHITE, BLACK, (90, 140, 200)])
def test_ascii_leaves_the_background_empty_and_shows_a_thin_line(background):
    frame = picture(400, 600, background)
    frame[100:300, 298:302] = RED
    lines = draw(frame, 60, 20, Colours.NONE)
    marked = [line for line in lines if line.strip()]
    assert len(marked) in (10, 11)
    assert {len(line) - len(line.lstrip()) for line in marked} <= {29, 30}
    assert all(character.isascii() for line in lines for character in line)


def test_a_thin_pole_stays_visible():
    frame = picture(400, 600)
    frame[:, 300:304] = BLACK
    line = draw(frame, 60, 20, Colours.TRUE)[0]
    shades = [int(shade) for shade in re.findall(r"38;2;(\d+)", line)]
    assert min(shades) < 128 < max(shades) == 255
