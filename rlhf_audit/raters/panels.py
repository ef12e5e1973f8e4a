"""What a person reads on the terminal: pure functions from a question and a size to lines of text."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_audit.raters.frames import Colours, Pixels, draw
from rlhf_audit.raters.screen import cells, clip
from rlhf_audit.spaces.words import number as _number
from rlhf_audit.spaces.words import pieces
from rlhf_audit.types import Question

HELP = (
    "What the keys do",
    "",
    "1 or y   yes, this move is correct",
    "0 or n   no, another would be better",
    "s        skip: I cannot tell",
    "u        undo my last answer",
    "p        pause; the clock stops",
    "q        stop; my answers are kept",
    "w        withdraw my consent",
    "",
    "Press any key to go on.",
)
_GOALS = {
    "CartPole": "keep the pole upright on its cart, and the cart on its track",
    "MountainCar": "swing the little car up to the flag on the right",
    "Acrobot": "swing the end of the lower arm above the line",
    "LunarLander": "land softly, upright, between the two flags",
    "Pendulum": "swing the pendulum up and keep it upright",
    "MountainCarContinuous": "drive the little car up to the flag on the right with little effort",
    "FrozenLake": "walk over the ice to the gift without falling into a hole",
    "Taxi": "fetch the passenger and set them down where they want to go",
    "Blackjack": "come closer to 21 than the dealer, and not above",
}
PAUSED = ("Paused. The clock has stopped.", "", "Press any key to go on.")
REALLY = (
    "Do you want to withdraw your consent?",
    "",
    "Nothing you gave will be used any more, and it will be erased. You need give no reason.",
    "",
    "Press w once more to withdraw.",
    "Press any other key to go on rating.",
)
_WIDE = 72
_HIGH = 18
_MOST_NUMBERS = 24


def goal(env_id: str) -> str:
    """Return what the agent is to do, in a rater's words; nothing where it is not known.

    >>> goal("MountainCar-v0")
    'swing the little car up to the flag on the right'
    """
    return _GOALS.get(env_id.partition("-")[0], "")


def question_lines(
    question: Question,
    frame: Pixels | None,
    meanings: Sequence[str],
    note: str,
    size: tuple[int, int],
    colours: Colours,
) -> list[str]:
    """Return one question as a screen: where we are, the picture, the move, the keys, a remark.

    Args:
        question: What to show.
        frame: ``(h, w, 3)``, or None: then the numbers of the observation take its place.
        meanings: What each of these numbers is.
        note: The last line.
        size: Columns and rows; no more than that is used.
        colours: What the terminal can show.
    """
    columns, rows = size
    where = (
        f"Question {_number_of(question)}",
        f"step {question.step}",
        f"return so far {_number(question.return_so_far)}",
    )
    foot = _foot(question, note, size, colours)
    numbers = observation_texts(question, meanings)
    n_free = rows - 1 - len(foot)
    if frame is None:
        body = (
            [f"   {number}" for number in numbers] if len(numbers) <= n_free else _wrapped(numbers, columns)
        )
        body = ["", *body, ""] if len(body) + 2 <= n_free else body
    else:
        # A still picture does not show speed, so the numbers stay wherever they leave a good picture.
        below = _wrapped(numbers, columns) if rows >= _HIGH else []
        body = [f" {line}" for line in draw(frame, columns - 2, n_free - len(below), colours)] + below
    head = [clip(line, columns) for line in _wrapped(where, columns)[:1]]
    if frame is None:
        body = [clip(line, columns) for line in body]
    return _fit([*head, *body[: max(n_free, 0)], *foot], rows)


def notice_lines(paragraphs: Sequence[str], size: tuple[int, int]) -> list[str]:
    """Return a text as a screen, without its empty lines where it would not fit."""
    columns, rows = size
    lines = [f" {line}" for text in paragraphs for line in textwrap.wrap(text, max(columns - 2, 1)) or [""]]
    if len(lines) > rows:
        lines = [line for line in lines if line.strip()]
    return _fit(lines, rows)


def plain_line(question: Question, meanings: Sequence[str]) -> str:
    """Return one question as a line, for where there is no screen."""
    numbers = ", ".join(observation_texts(question, meanings))
    return (
        f"question {_number_of(question)}: step {question.step}, "
        f"return so far {_number(question.return_so_far)}, {numbers}; "
        f"the agent's move is: {clip(question.action_meaning, 60)}. Is this move correct?"
    )


def observation_texts(question: Question, meanings: Sequence[str]) -> list[str]:
    """Return the observation's numbers with their names, the first two dozen parts of it."""
    values = pieces(question.observation)[:_MOST_NUMBERS]
    if len(meanings) != _size(question.observation):
        return [clip(value, _WIDE) for value in values]
    return [f"{clip(name, 24)} {value}" for name, value in zip(meanings, values, strict=False)]


def _size(observation: Any) -> int:
    """Return how many numbers there are; a longer vector is shown in part."""
    return int(observation.size) if isinstance(observation, np.ndarray) else len(pieces(observation))


def _number_of(question: Question) -> str:
    """Return which question this is, and of how many where that is known."""
    number = str(question.position + 1)
    return number if question.n_questions is None else f"{number} of {question.n_questions}"


def _foot(question: Question, note: str, size: tuple[int, int], colours: Colours) -> list[str]:
    columns, rows = size
    roomy = columns >= _WIDE and rows >= _HIGH
    bold, plain = ("\x1b[1m", "\x1b[0m") if colours is not Colours.NONE else ("", "")
    intro = " The agent's move: "
    action = clip(question.action_meaning.upper(), columns - len(intro))
    # Not "the right move?": a move may be to the right.
    asked = "Is this move correct?" if roomy else "Correct?"
    return [
        *([""] if roomy else []),
        f"{clip(intro, columns)}{bold}{action}{plain}",
        *_wrapped((asked, "[1] yes", "[0] no", "[s] skip"), columns),
        *_wrapped(("[u] undo", "[p] pause", "[?] help", "[q] stop", "[w] withdraw"), columns),
        *([""] if roomy else []),
        clip(f" {note}", columns),
    ]


def _wrapped(items: Sequence[str], columns: int) -> list[str]:
    """Set items side by side, as many a line as fit."""
    gap = "   " if columns >= _WIDE else "  "
    lines = [""]
    for item in items:
        if lines[-1] and cells(lines[-1]) + len(gap) + cells(item) > columns:
            lines.append("")
        lines[-1] += (gap if lines[-1] else " ") + item
    return [clip(line, columns) for line in lines if line]


def _fit(lines: list[str], rows: int) -> list[str]:
    """Keep the end: the keys matter more than the head."""
    return lines[-max(rows, 1) :]
