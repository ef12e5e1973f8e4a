"""A person without a terminal, in a process of its own: answers, undo, signals, withdrawal from next door."""

import os
import signal
import subprocess
import sys

import pytest


def command(study, *options: str) -> list[str]:
    program = "import sys; from rlhf_audit.cli.app import main; sys.exit(main())"
    return [
        *(sys.executable, "-c", program, "record", str(study.log), "--env", "CartPole-v1"),
        *("--rater", study.person, "--source", "terminal", "--seed", "3", *options),
    ]


def feedback(cli, study, session_id: str = "s-0004") -> list[dict]:
    return cli("show", study.log, "feedback", "--session", session_id, "--json").result["rows"]


def test_show_tells_exactly_what_a_person_did(cli, study):
    keys = ["1", "0", "s", "u", "s", "1", "u", "0", *["1", "0"] * 13, "q"]
    options = ("--env", "CartPole-v1", "--rater", study.person, "--source", "terminal", "--seed", 3)
    reply = cli("record", study.log, *options, "--json", stdin="\n".join(keys))
    assert reply.code == 0 and reply.result["feedback"] == 29
    rows = feedback(cli, study)
    assert [row["did"] for row in rows[:8]] == [
        *("yes", "no", "skipped", "took back row 2", "skipped", "yes", "took back row 5", "no")
    ]
    assert [row["stands"] for row in rows[:8]] == [True, True, False, False, True, False, False, True]
    assert len(rows) == 34
    assert {row["action_meaning"] for row in rows} == {"push left", "push right"}
    human = cli("show", study.log, "feedback", "--session", "s-0004").out
    assert human.splitlines()[-1] == "34 rows: 14 yes, 15 no, 1 skipped; 2 taken back"
    assert cli("replay", study.log, "s-0004").code == 0


class Recorder:
    """``record`` in its own process, one answer at a time."""

    def __init__(self, study) -> None:
        # Unbuffered text: each question is on standard error before its answer is read.
        self.process = subprocess.Popen(
            command(study),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.questions = 0
        self.asked()

    def asked(self) -> None:
        """Wait for the next question."""
        while line := self.process.stderr.readline():
            if "1 yes, 0 no" in line:
                self.questions += 1
                return
        raise AssertionError("no question came")

    def answer(self, text: str) -> None:
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self.asked()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def recorder(study):
    recorder = Recorder(study)
    yield recorder
    recorder.process.kill()
    recorder.process.communicate()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_keeps_what_was_acknowledged(cli, study, recorder, name):
    recorder.answer("1")
    recorder.answer("0")
    recorder.process.send_signal(getattr(signal, name))
    code, out, err = recorder.end()
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "stopped; what was acknowledged is kept"
    assert "Traceback" not in err
    assert [row["did"] for row in feedback(cli, study)] == ["yes", "no"]
    assert cli("verify", study.log).code == 0


def test_a_second_writer_is_refused_and_a_withdrawal_is_not(cli, study, recorder):
    recorder.answer("1")
    second = ("--env", "CartPole-v1", "--rater", study.raters["oracle"], "--source", "scripted:oracle")
    refused = cli("record", study.log, *second)
    assert refused.code == 3 and "another process is writing" in refused.err and not refused.out
    withdrawn = cli("withdraw", study.log, study.person, "--json")
    assert withdrawn.code == 0 and withdrawn.result["purposes"] == ["audit", "publication", "training"]
    again = cli("withdraw", study.log, study.person, "--json")
    assert again.result == withdrawn.result
    assert cli("verify", study.log).code == 0
    recorder.process.stdin.write("1\n1\n1\n")
    recorder.process.stdin.flush()
    code, out, err = recorder.end()
    assert (code, out) == (3, "") and "withdrawn" in err


def test_withdrawing_within_the_session(cli, study):
    options = ("--env", "CartPole-v1", "--rater", study.person, "--source", "terminal", "--seed", 3)
    reply = cli("record", study.log, *options, "--json", stdin="1\n1\nw\nw\n")
    assert reply.code == 0 and reply.result["withdrew"] is True
    usable = "SELECT count(*) AS n FROM usable_for_training WHERE session_id = 's-0004'"
    assert cli("sql", study.log, usable, "--json").result["rows"] == [{"n": 0}]


def test_nothing_given_is_nothing_recorded(cli, study):
    options = ("--rate", "s-0001", "--rater", study.person, "--source", "terminal")
    reply = cli("record", study.log, *options, "--json", stdin="")
    assert reply.code == 0 and reply.result["session_id"] is None
    assert len(cli("show", study.log, "sessions", "--json").result["rows"]) == 3
