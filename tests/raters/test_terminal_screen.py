"""TerminalSource on a real pseudo-terminal, read back through a screen emulator."""

import json
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

DRIVER = Path(__file__).parent / "terminal_driver.py"


class Terminal:
    """The driver under a pty, and what a person would see of it."""

    def __init__(self, columns: int = 80, rows: int = 24, *arguments: str, **environ: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        settings = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "OMP_NUM_THREADS": "1", **environ}
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("LC_ALL", "NO_COLOR", "PYTHONIOENCODING")
        }
        self.child = pexpect.spawn(
            sys.executable,
            [str(DRIVER), *arguments],
            env={**inherited, "LC_CTYPE": "C.UTF-8", "PYTHONPATH": _root(), **settings},
            dimensions=(rows, columns),
            timeout=30,
            echo=True,
        )
        self.before = termios.tcgetattr(self.child.child_fd)

    def until(self, shown: Callable[[str], bool] | str) -> str:
        """Read until the screen shows it and is quiet; return the screen's text."""
        wanted = (lambda text: shown in text) if isinstance(shown, str) else shown
        limit = time.monotonic() + 30
        while not wanted(self.text):
            assert time.monotonic() < limit, f"never came; the screen is:\n{self.text}"
            self._read()
        # What was asked for may be the first half of a screen.
        while self._read():
            pass
        return self.text

    def press(self, key: str) -> None:
        self.child.send(key)

    def end(self) -> None:
        """Read to the end of the child."""
        limit = time.monotonic() + 30
        while self.child.isalive():
            assert time.monotonic() < limit, f"still running; the screen is:\n{self.text}"
            self._read()
        self._read()

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def answers(self) -> list[dict[str, Any]]:
        self.end()
        printed = self.raw.decode()
        return json.loads(printed[printed.rindex("[{") : printed.rindex("}]") + 2])

    def assert_restored(self) -> None:
        assert termios.tcgetattr(self.child.child_fd) == self.before
        assert self.raw.rindex(b"\x1b[?1049l") > self.raw.rindex(b"\x1b[?1049h")
        assert self.raw.rindex(b"\x1b[?25h") > self.raw.rindex(b"\x1b[?25l")

    def close(self) -> None:
        self.child.close(force=True)

    def _read(self) -> bool:
        try:
            data = self.child.read_nonblocking(65536, timeout=0.05)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return False
        self.raw += data
        self._stream.feed(data)
        return True


@pytest.fixture
def start() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def begin(*arguments: Any, **environ: str) -> Terminal:
        started.append(Terminal(*arguments, **environ))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.close()


def test_a_whole_session_at_80x24(start):
    terminal = start()
    text = terminal.until("Question 1 ")
    for words in (
        "step 0",
        "return so far 0",
        "pole angle 0.028",
        "The agent's move: PUSH RIGHT",
        "[1] yes   [0] no   [s] skip",
        "[u] undo   [p] pause   [?] help   [q] stop   [w] withdraw",
        "Press ? for help.",
    ):
        assert words in text
    assert text.count("▀") > 500
    assert {cell.bg for cell in terminal.screen.buffer[3].values()} >= {"ffffff"}
    assert b"38;2;" in terminal.raw

    terminal.press("1")
    text = terminal.until("Question 2 ")
    assert "You answered: yes." in text and "step 3" in text and "return so far 3" in text
    terminal.press("N")
    assert "You answered: no." in terminal.until("Question 3 ")
    terminal.press("u")
    assert "Taken back" in terminal.until("Question 4 ")
    terminal.press("s")
    assert "You skipped" in terminal.until("Question 5 ")
    terminal.press("y")
    terminal.until("Question 6 ")
    terminal.press("0")
    given = terminal.answers
    assert [(a["kind"], a["value"]) for a in given] == [
        ("answer", 1.0),
        ("answer", 0.0),
        ("undo", None),
        ("skip", None),
        ("answer", 1.0),
        ("answer", 0.0),
    ]
    terminal.assert_restored()


def test_pause_help_and_other_keys_give_no_answer(start):
    terminal = start()
    terminal.until("Question 1 ")
    terminal.press("u")
    terminal.until("There is nothing to take back.")
    terminal.press("x")
    terminal.until("The key x does nothing.")
    terminal.press("\x1b[A")
    terminal.until("The key you pressed does nothing.")
    terminal.press("p")
    text = terminal.until("Paused. The clock has stopped.")
    assert "PUSH" not in text and "▀" not in text
    terminal.press("1")
    terminal.until("Question 1 ")
    terminal.press("?")
    assert "s        skip: I cannot tell" in terminal.until("What the keys do")
    terminal.press("q")
    terminal.until("Question 1 ")
    terminal.press("q")
    assert [a["kind"] for a in terminal.answers] == ["quit"]
    terminal.assert_restored()


def test_a_paused_clock_stands_still(start):
    # The driver's clock ticks once each time it is looked at.
    terminal = start(80, 24, "--ticks")
    terminal.until("Question 1 ")
    terminal.press("1")
    terminal.until("Question 2 ")
    for key, shown in (("p", "Paused"), ("?", "What the keys do"), ("w", "withdraw your consent")):
        terminal.press(key)
        terminal.until(shown)
        terminal.press(" ")
        terminal.until("Question 2 ")
    terminal.press("1")
    terminal.until("Question 3 ")
    terminal.press("q")
    # Each time the question was shown counts one tick, none for the three notices between.
    assert [a["latency_s"] for a in terminal.answers] == [1.0, 4.0, 1.0]


def test_withdrawal_asks_for_one_more_key(start):
    terminal = start()
    terminal.until("Question 1 ")
    terminal.press("w")
    text = terminal.until("Do you want to withdraw your consent?")
    assert "Press w once more to withdraw." in text and "erased" in text
    terminal.press("1")
    assert "Question 1 " in terminal.until("You did not withdraw.")
    terminal.press("w")
    terminal.until("Press w once more")
    terminal.press("w")
    assert [a["kind"] for a in terminal.answers] == ["withdraw"]
    terminal.assert_restored()


def test_a_key_counts_for_the_question_that_was_on_the_screen_only(start):
    terminal = start()
    terminal.until("Question 1 ")
    terminal.press("1111111111111111")
    terminal.until("Question 2 ")
    terminal.press("q")
    assert [a["kind"] for a in terminal.answers] == ["answer", "quit"]


@pytest.mark.parametrize(("columns", "rows"), [(40, 12), (200, 60)])
def test_other_sizes(start, columns, rows):
    terminal = start(columns, rows)
    text = terminal.until("[w] withdraw")
    for words in ("Question 1 ", "PUSH RIGHT", "[1] yes", "[0] no", "[s] skip", "[u] undo", "[q] stop"):
        assert words in text
    picture = [line for line in text.splitlines() if "▀" in line]
    assert len(picture) >= rows - 12 and len(picture) >= 5
    terminal.press("q")
    terminal.end()
    terminal.assert_restored()


def test_resizing_redraws_the_same_question(start):
    terminal = start()
    terminal.until("Question 1 ")
    widest = max(map(len, terminal.text.splitlines()))
    terminal.screen.resize(14, 44)
    terminal.screen.reset()
    terminal.child.setwinsize(14, 44)
    text = terminal.until("[w] withdraw")
    assert "Question 1 " in text and "▀" in text
    assert max(map(len, text.splitlines())) <= 44 < widest
    terminal.press("q")
    assert len(terminal.answers) == 1


def test_256_colours_without_colorterm(start):
    terminal = start(COLORTERM="")
    assert "▀" in terminal.until("[w] withdraw")
    assert b"\x1b[38;5;" in terminal.raw and b"38;2;" not in terminal.raw
    terminal.press("q")
    terminal.end()


def test_a_dumb_terminal_gets_plain_text_and_still_single_keys(start):
    terminal = start(TERM="dumb", COLORTERM="")
    text = terminal.until("Press ? for help.")
    assert "Question 1 " in text and "PUSH RIGHT" in text and "=====" in text
    terminal.press("1")
    terminal.until("Question 2 ")
    terminal.press("q")
    assert [a["kind"] for a in terminal.answers] == ["answer", "quit"]
    assert b"\x1b" not in terminal.raw and terminal.raw.isascii()
    assert termios.tcgetattr(terminal.child.child_fd) == terminal.before


def test_without_pictures_there_are_numbers(start):
    terminal = start(80, 24, "MountainCar-v0", "--numbers")
    text = terminal.until("[w] withdraw")
    assert "▀" not in text
    assert "   position -0.475\n   speed 0" in text
    terminal.press("q")
    terminal.end()


def test_ctrl_c_restores_the_terminal(start):
    terminal = start()
    terminal.until("Question 1 ")
    terminal.press("\x03")
    terminal.end()
    assert b"KeyboardInterrupt" in terminal.raw
    terminal.assert_restored()


def test_keys_that_would_stop_a_program_do_nothing(start):
    terminal = start()
    terminal.until("Question 1 ")
    for key in ("\x1a", "\x1c", "\x13"):
        terminal.press(key)
        terminal.until("The key you pressed does nothing.")
        terminal.press("x")
        terminal.until("The key x does nothing.")
    terminal.press("\x04")
    assert [a["kind"] for a in terminal.answers] == ["quit"]


def test_sigterm_restores_the_terminal_and_ends_as_ever(start):
    terminal = start()
    terminal.until("Question 1 ")
    os.kill(terminal.child.pid, signal.SIGTERM)
    terminal.end()
    assert terminal.child.signalstatus == signal.SIGTERM
    terminal.assert_restored()


def test_an_error_between_questions_restores_the_terminal(start):
    terminal = start(80, 24, "--fail")
    terminal.until("Question 1 ")
    terminal.press("1")
    terminal.end()
    assert b"ZeroDivisionError" in terminal.raw
    terminal.assert_restored()


def _root() -> str:
    return str(DRIVER.parents[2])
