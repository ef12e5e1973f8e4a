import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhf_audit.raters import panels
from rlhf_audit.raters.frames import Colours
from rlhf_audit.raters.screen import cells, clip
from rlhf_audit.raters.terminal import TerminalSource
from rlhf_audit.types import Answer, AnswerKind, Question

DRIVER = Path(__file__).parent / "terminal_driver.py"
HOSTILE = "push\x1b[2J\x07 \u202eleft\r\n\x9b31m now"


def question(position: int = 0, meaning: str = "push left", n: int = 4) -> Question:
    return Question("e1", 12, np.arange(n, dtype=np.float32) / 3, 0, meaning, position, 12.5)


def lines_source(text: str, **more) -> tuple[TerminalSource, io.StringIO]:
    output = io.StringIO()
    return TerminalSource(keys=io.StringIO(text), output=output, environ={"TERM": "xterm"}, **more), output


def test_lines_are_answers():
    source, output = lines_source("1\n0\n YES \nno\ns\nu\nw\nq\n")
    given = [source.ask(question(position)) for position in range(8)]
    source.close()
    assert [(a.kind, a.value) for a in given] == [
        (AnswerKind.ANSWER, 1.0),
        (AnswerKind.ANSWER, 0.0),
        (AnswerKind.ANSWER, 1.0),
        (AnswerKind.ANSWER, 0.0),
        (AnswerKind.SKIP, None),
        (AnswerKind.UNDO, None),
        (AnswerKind.WITHDRAW, None),
        (AnswerKind.QUIT, None),
    ]
    assert not source.simulated_time
    assert len(output.getvalue().splitlines()) == 8


@pytest.mark.parametrize(("known", "told"), [(None, "uestion 3"), (40, "uestion 3 of 40")])
def test_a_question_says_how_many_there_are_where_that_is_known(known, told):
    asked = replace(question(2), n_questions=known)
    assert f"q{told}: step 12" in panels.plain_line(asked, ())
    for size in ((80, 24), (30, 8)):
        head = panels.question_lines(asked, None, (), "", size, Colours.NONE)[0]
        assert head.strip().startswith(f"Q{told}  ")
        assert ("of" in head.partition("step")[0]) == (known is not None)


def test_a_line_says_what_is_asked():
    source, output = lines_source("1\n", meanings=("place", "speed", "tilt", "turn"))
    source.ask(question(2))
    said = output.getvalue()
    for words in (
        "question 3",
        "step 12",
        "return so far 12.5",
        "tilt 0.667",
        "push left",
        "1 yes, 0 no, s skip",
    ):
        assert words in said


def test_the_end_of_the_input_is_quit():
    source, _ = lines_source("")
    assert source.ask(question()).kind is AnswerKind.QUIT
    assert source.ask(question()).kind is AnswerKind.QUIT


def test_a_last_line_without_an_end_counts():
    source, _ = lines_source("yes")
    assert source.ask(question()).value == 1.0


def test_an_unknown_line_is_told_and_the_next_one_read():
    source, output = lines_source("perhaps\x1b[2J\n\n2\n0\n")
    assert source.ask(question()) == Answer(AnswerKind.ANSWER, 0.0, pytest.approx(0.0, abs=5))
    assert output.getvalue().count("is not an answer") == 3
    assert "\x1b" not in output.getvalue()


def test_undo_needs_something_to_take_back():
    source, output = lines_source("u\n1\nu\nu\ns\nu\n0\n")
    given = [source.ask(question(position)).kind for position in range(5)]
    assert given == [
        AnswerKind.ANSWER,
        AnswerKind.UNDO,
        AnswerKind.SKIP,
        AnswerKind.UNDO,
        AnswerKind.ANSWER,
    ]
    assert output.getvalue().count("nothing to take back") == 2


def test_the_latency_is_the_time_between_question_and_answer():
    ticks = iter([10.0, 12.25, 20.0, 20.5])
    source, _ = lines_source("1\nwhat\n0\n", monotonic=lambda: next(ticks))
    assert [source.ask(question()).latency_s, source.ask(question()).latency_s] == [2.25, 0.5]


def test_an_output_that_cannot_show_a_letter_is_no_reason_to_fail():
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    source = TerminalSource(keys=io.StringIO("1\n"), output=output)
    assert source.ask(question(meaning="schieß ▀")).value == 1.0
    assert b"schie? ?" in raw.getvalue()


def test_closed_standard_streams_are_quit(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert TerminalSource().ask(question()).kind is AnswerKind.QUIT


def test_bytes_that_are_not_text_are_an_unknown_line():
    source = TerminalSource(keys=io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00\n1\n"), encoding="utf-8"))
    assert source.ask(question()).value == 1.0


def test_a_pipe_gets_questions_on_stderr_and_results_on_stdout():
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input="1\nbogus\n0\ns\nu\nq\n",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    kinds = [answer["kind"] for answer in json.loads(done.stdout)]
    assert kinds == ["answer", "answer", "skip", "undo", "quit"]
    assert len(done.stderr.splitlines()) == 6
    assert "push right" in done.stderr and "pole angle" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("colours", Colours)
@pytest.mark.parametrize("size", [(80, 24), (40, 12), (200, 60), (20, 6), (8, 3), (1, 1)])
@pytest.mark.parametrize("with_frame", [True, False])
def test_a_screen_never_exceeds_the_terminal(colours, size, with_frame):
    frame = np.full((400, 600, 3), 200, np.uint8) if with_frame else None
    asked = question(99_999, meaning="左" * 50, n=40)
    lines = panels.question_lines(asked, frame, ("x",) * 40, "note " * 60, size, colours)
    assert len(lines) <= size[1]
    assert max(_width(line) for line in lines) <= size[0]
    for text in (panels.HELP, panels.PAUSED, panels.REALLY):
        notice = panels.notice_lines(text, size)
        assert len(notice) <= size[1]


@pytest.mark.parametrize("text", [panels.HELP, panels.PAUSED, panels.REALLY])
def test_the_notices_can_be_read_whole_on_a_small_terminal(text):
    shown = " ".join(panels.notice_lines(text, (40, 12))).split()
    assert shown == " ".join(text).split()
    assert max(len(line) for line in panels.notice_lines(text, (40, 12))) <= 40


def test_hostile_words_cannot_move_the_cursor():
    shown = "\n".join(panels.question_lines(question(meaning=HOSTILE), None, (), "", (80, 24), Colours.NONE))
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert "PUSH[2J LEFT31M NOW" in shown
    assert clip(HOSTILE, 80).isprintable()
    assert cells(clip("左右" * 9, 7)) == 6


def test_more_numbers_than_anybody_reads_are_cut():
    lines = panels.question_lines(question(n=5000), None, (), "", (80, 24), Colours.NONE)
    assert len(lines) <= 24
    assert len(panels.observation_texts(question(n=5000), ())) == 24


def _width(line: str) -> int:
    import re

    return cells(re.sub(r"\x1b\[[0-9;]*m", "", line))
