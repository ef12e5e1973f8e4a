"""A person at a terminal: one screen a question, one key an answer; without a terminal, one line each."""

import io
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TextIO

from rlhf_audit.raters.frames import colours_of
from rlhf_audit.raters.panels import HELP, PAUSED, REALLY, notice_lines, plain_line, question_lines
from rlhf_audit.raters.screen import Screen, clip
from rlhf_audit.types import Answer, AnswerKind, Question


class _Key(StrEnum):
    YES = "1"
    NO = "0"
    SKIP = "s"
    UNDO = "u"
    PAUSE = "p"
    HELP = "?"
    QUIT = "q"
    WITHDRAW = "w"


_OTHER_NAMES = {"y": _Key.YES, "n": _Key.NO, "h": _Key.HELP, "\x04": _Key.QUIT, "": _Key.QUIT}
_LINES = {
    "1": _Key.YES,
    "y": _Key.YES,
    "yes": _Key.YES,
    "0": _Key.NO,
    "n": _Key.NO,
    "no": _Key.NO,
    "s": _Key.SKIP,
    "skip": _Key.SKIP,
    "u": _Key.UNDO,
    "undo": _Key.UNDO,
    "w": _Key.WITHDRAW,
    "withdraw": _Key.WITHDRAW,
    "q": _Key.QUIT,
    "quit": _Key.QUIT,
}
_ANSWERS = {
    _Key.YES: (AnswerKind.ANSWER, 1.0, "You answered: yes."),
    _Key.NO: (AnswerKind.ANSWER, 0.0, "You answered: no."),
    _Key.SKIP: (AnswerKind.SKIP, None, "You skipped a question."),
    _Key.UNDO: (AnswerKind.UNDO, None, "Taken back: the question is asked again."),
    _Key.WITHDRAW: (AnswerKind.WITHDRAW, None, ""),
    _Key.QUIT: (AnswerKind.QUIT, None, ""),
}
_LINE_KEYS = "1 yes, 0 no, s skip, u undo, w withdraw, q stop"


class TerminalSource:
    """A FeedbackSource for a person at this terminal.

    With a terminal it takes single keys; otherwise, and on Windows, it reads lines: ``1``, ``0``, ``yes``,
    ``no``, ``s``, ``u``, ``w``, ``q``; the end of the input is ``q``.

    Args:
        meanings: What each number of an observation is, in words; shown beside the picture.
        goal: What the agent is to do, in words; told at the first question and in the help.
        keys: Where answers come from; standard input unless given.
        output: Where questions go; standard error unless given, as standard output is for results.
        environ: Tells what the terminal can show.
        monotonic: Seconds, for the latency.
    """

    simulated_time = False

    def __init__(
        self,
        meanings: Sequence[str] = (),
        *,
        goal: str = "",
        keys: TextIO | None = None,
        output: TextIO | None = None,
        environ: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meanings = tuple(meanings)
        # A closed standard stream is None in Python: nobody answers, nobody reads.
        self._input: TextIO = keys or sys.stdin or io.StringIO()
        self._output: TextIO = output or sys.stderr or io.StringIO()
        self._monotonic = monotonic
        self._own_descriptor: int | None = None
        self._screen: Screen | None = None
        self._goal = (f"The goal: {goal}.",) if goal else ()
        self._note = " ".join((*self._goal, "Press ? for help."))
        self._n_standing = 0
        encoding = getattr(self._output, "encoding", None) or "ascii"
        self._colours = colours_of(environ, encoding)
        if sys.platform != "win32" and _is_terminal(self._input):
            self._screen = Screen(
                self._input.fileno(), self._picture(), encoding, environ.get("TERM", "") not in ("", "dumb")
            )
        elif isinstance(self._input, io.TextIOWrapper):
            self._input.reconfigure(errors="replace")

    def ask(self, question: Question) -> Answer:
        """Show one question and wait for the answer.

        Raises:
            KeyboardInterrupt: Ctrl-C; the terminal is restored first.
        """
        if self._screen is None:
            return self._ask_line(question)
        try:
            self._screen.open()
            return self._ask_keys(self._screen, question)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Restore the terminal; may be called twice."""
        if self._screen is not None:
            self._screen.close()
        if self._own_descriptor is not None:
            os.close(self._own_descriptor)
            self._own_descriptor, self._screen = None, None

    def _picture(self) -> int:
        """Return the descriptor to draw on: the output's, or the keyboard's terminal if it is redirected."""
        if _is_terminal(self._output):
            return self._output.fileno()
        self._own_descriptor = os.open(os.ttyname(self._input.fileno()), os.O_WRONLY | os.O_NOCTTY)
        return self._own_descriptor

    def _ask_keys(self, screen: Screen, question: Question) -> Answer:
        frame = question.frame() if question.frame is not None else None
        watch = _Watch(self._monotonic)
        screen.forget_keys()
        while True:
            size = screen.size()
            screen.show(question_lines(question, frame, self._meanings, self._note, size, self._colours))
            watch.go()
            key = _wait(screen)
            if key is None:
                continue
            latency_s = watch.stop()
            name = _OTHER_NAMES.get(key, key)
            if name in (_Key.HELP, _Key.PAUSE):
                _notice(screen, (*self._goal, "", *HELP) if name == _Key.HELP else PAUSED)
            elif name == _Key.UNDO and not self._n_standing:
                self._note = "There is nothing to take back."
            elif name == _Key.WITHDRAW and _notice(screen, REALLY) != _Key.WITHDRAW:
                self._note = "You did not withdraw."
            elif name in _ANSWERS:
                return self._answer(_Key(name), latency_s)
            else:
                self._note = (
                    f"The key {clip(key, 1).strip() or 'you pressed'} does nothing. Press ? for help."
                )

    def _answer(self, key: _Key, latency_s: float) -> Answer:
        kind, value, self._note = _ANSWERS[key]
        self._n_standing += {AnswerKind.ANSWER: 1, AnswerKind.SKIP: 1, AnswerKind.UNDO: -1}.get(kind, 0)
        return Answer(kind, value, latency_s)

    def _ask_line(self, question: Question) -> Answer:
        self._say(f"{plain_line(question, self._meanings)} {_LINE_KEYS}")
        watch = _Watch(self._monotonic)
        watch.go()
        while True:
            line = self._input.readline()
            key = _LINES.get(line.strip().lower()) if line else _Key.QUIT
            if key is _Key.UNDO and not self._n_standing:
                self._say("there is nothing to take back")
            elif key is not None:
                return self._answer(key, watch.stop())
            else:
                self._say(f"{clip(line, 20)!r} is not an answer: {_LINE_KEYS}")

    def _say(self, text: str) -> None:
        encoding = getattr(self._output, "encoding", None) or "ascii"
        self._output.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._output.flush()


class _Watch:
    """Counts the time that a question was on the screen."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds = 0.0
        self._since: float | None = None

    def go(self) -> None:
        if self._since is None:
            self._since = self._monotonic()

    def stop(self) -> float:
        if self._since is not None:
            self._seconds += self._monotonic() - self._since
        self._since = None
        return self._seconds


def _wait(screen: Screen) -> str | None:
    """Return the next key, or None when the terminal's size has changed."""
    size = screen.size()
    while True:
        key = screen.key()
        if key is not None:
            return key
        if screen.size() != size:
            return None


def _notice(screen: Screen, paragraphs: Sequence[str]) -> str:
    """Show a text instead of the question, and return the key that ends it."""
    screen.forget_keys()
    while True:
        screen.show(notice_lines(paragraphs, screen.size()))
        key = _wait(screen)
        if key is not None:
            return key


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and stream.fileno() >= 0
    except (OSError, ValueError):
        return False
