"""Withdrawal works at once, whoever is writing, and for one purpose or all."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, LockedError
from rlhf_audit.log import reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

RECORDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from rlhf_audit.errors import ConsentError
from rlhf_audit.log.store import Log
from rlhf_audit.raters import scripted
from rlhf_audit.recording import record as recording
from rlhf_audit.types import Answer, AnswerKind
class Slow:
    def ask(self, question):
        print("asked", flush=True)
        sys.stdin.readline()
        return Answer(AnswerKind.ANSWER, 1.0, 0.5)
    def close(self): pass
recording._source = lambda *_: Slow()
try:
    request = recording.Request(sys.argv[2], "scripted:oracle", rates="s-0001")
    recording.record(Log(Path(sys.argv[1])), request)
except ConsentError as error:
    print("stopped", error, flush=True)
"""


def test_withdrawal_works_while_a_recorder_writes(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    arguments = [str(log.layout.root), raters[0], str(Path(small_log.__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None and process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "asked\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "asked\n"
    other = Log(log.layout.root)
    with pytest.raises(LockedError):
        erase.apply(other, raters[1])
    assert erase.heal(other) == []
    assert verify(log.layout.root).ok
    began = time.monotonic()
    register.withdraw(other, raters[0])
    assert time.monotonic() - began < 30
    process.stdin.write("\n")
    process.stdin.close()
    told = process.stdout.read()
    assert process.wait() == 0 and told.startswith("stopped") and "consent withdrawn" in told
    again = Log(log.layout.root)
    rows = reader.session(again, "s-0003").feedback
    assert rows is not None and len(rows) == 3, "what was given before stays, until it is erased"
    with views.connect(again, again.clock.now()) as connection:
        used = connection.execute("SELECT DISTINCT rater_id FROM usable").fetchall()
    assert used == [(raters[1],)]
    assert verify(log.layout.root).ok
    erase.apply(again, raters[0])
    assert verify(log.layout.root).ok


def test_one_purpose_may_be_withdrawn_alone(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)

    def used(purpose: str) -> set[str]:
        with views.connect(log, log.clock.now()) as connection:
            query = f"SELECT DISTINCT rater_id FROM usable_for_{purpose}"
            return {row[0] for row in connection.execute(query).fetchall()}

    assert used("training") == used("audit") == set(raters)
    withdrawn, first = register.withdraw(log, raters[0], [Purpose.TRAINING])
    assert withdrawn == [Purpose.TRAINING]
    assert used("training") == {raters[1]} and used("audit") == set(raters)
    size = len(log.ledger.entries)
    assert register.withdraw(log, raters[0], [Purpose.TRAINING]) == ([Purpose.TRAINING], first)
    assert len(log.ledger.entries) == size, "said again it is no new entry"
    register.withdraw(log, raters[0])
    assert used("training") == used("audit") == {raters[1]}
    with pytest.raises(ConsentError):
        register.grant_for(log, raters[0], log.clock.now())
