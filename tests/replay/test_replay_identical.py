"""A recorded session plays again to the last bit, here and in a new process; or it says what it can't."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from session_world import ENVIRONMENTS, Presses, enrolled, feedback_rows, new_log, rate, script

from rlhf_audit.consent import register
from rlhf_audit.log import durable, reader
from rlhf_audit.log.store import Log
from rlhf_audit.replay import retrain, rollout

# Skips and undos, of answers, of skips, of several at once, and an undo at the end.
KEYS = "10su1u01s10uuu110uus01" + "1s0u01uu10101u"


class _World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = new_log(root / "log")
        robot, person = enrolled(self.log, "flip-20"), enrolled(self.log)
        for number, env_id in enumerate(ENVIRONMENTS):
            script(self.log, robot, "flip-20", env_id=env_id, episodes=1, ask_every=7, seed=number)
        self.live = {}
        for algorithm in ("likelihood", "article"):
            to = root / "policies" / algorithm
            done = rate(self.log, person, Presses(KEYS), learn=algorithm, seed=21, to=to, ask_every=2)
            self.live[algorithm] = str(done.session_id)
        lander = script(
            self.log, robot, "flip-20", env_id="LunarLander-v3", learn="likelihood", max_feedback=12
        )
        self.live["lander"] = str(lander.session_id)
        acting = script(self.log, robot, "flip-20", policy=root / "policies" / "likelihood", episodes=2)
        self.acting = str(acting.session_id)
        onwards = script(
            self.log, robot, "flip-20", policy=root / "policies" / "article", learn="article", max_feedback=9
        )
        self.onwards = str(onwards.session_id)
        self.again = str(script(self.log, robot, "flip-20", rates="s-0001").session_id)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> _World:
    return _World(tmp_path_factory.mktemp("replay"))


def test_every_session_replays_identically(world: _World) -> None:
    for session_id in reader.session_ids(world.log):
        found = rollout.replay(world.log, session_id)
        facts = reader.session_facts(world.log, session_id)
        assert found.difference is None
        assert found.steps == facts["n_steps"]
        assert found.scope == ("environment" if session_id == world.again else "everything")


def test_a_live_session_used_its_undos_and_skips(world: _World) -> None:
    for algorithm in ("likelihood", "article"):
        session = reader.session(world.log, world.live[algorithm])
        rows = session.feedback or ()
        assert sum(row.supersedes is not None for row in rows) >= 15
        assert session.facts["weights_mac"]


def test_a_session_that_rates_again_says_whose_steps(world: _World) -> None:
    found = rollout.replay(world.log, world.again)
    rated = reader.session_facts(world.log, world.again)["rates"]
    note = f"rates the steps of {rated}, which are compared there"
    assert (found.steps, found.scope, found.note) == (0, "environment", note)


def test_a_fresh_process_finds_the_same(world: _World) -> None:
    code = """
import json, sys
from pathlib import Path
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.replay import rollout
log = Log(Path(sys.argv[1]))
print(json.dumps([[r.session_id, r.steps, r.scope, str(r.difference)] for r in (
    rollout.replay(log, s) for s in reader.session_ids(log))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(world.log.layout.root)], capture_output=True, text=True, check=True
    )
    here = [rollout.replay(world.log, name) for name in reader.session_ids(world.log)]
    assert json.loads(done.stdout) == [[r.session_id, r.steps, r.scope, str(r.difference)] for r in here]
    assert {r.difference for r in here} == {None}


def test_the_loop_reads_no_clock(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_audit import clock

    def forbidden(self: object) -> None:
        raise AssertionError("the machine's clock was read")

    monkeypatch.setattr(clock.SystemClock, "now", forbidden)
    assert rollout.replay(world.log, world.live["likelihood"]).difference is None


def _moved(folder: Path, to: Path) -> None:
    folder.rename(to)


def test_without_the_policy_the_environment_alone_is_compared(world: _World, tmp_path: Path) -> None:
    folder = world.root / "policies" / "likelihood"
    weights = folder / "weights.npz"
    good = weights.read_bytes()
    harmed = bytearray(good)
    harmed[len(harmed) // 2] ^= 1

    def found() -> rollout.RolloutDiff:
        return rollout.replay(world.log, world.acting)

    folder.rename(tmp_path / "elsewhere")
    missing = found()
    (tmp_path / "elsewhere").rename(folder)
    weights.write_bytes(bytes(harmed))
    damaged = found()
    weights.write_bytes(good)
    for one in (missing, damaged):
        assert (one.difference, one.scope) == (None, "environment")
        assert one.steps == reader.session_facts(world.log, world.acting)["n_steps"]
        assert "the policy likelihood is gone or was replaced" in one.note
        assert "the environment alone is compared" in one.note
    assert found().scope == "everything"


def test_a_policy_that_was_replaced_is_not_taken_for_the_one_that_acted(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    robot = enrolled(log, "oracle")
    folder = tmp_path / "policies" / "p"
    script(log, robot, max_feedback=4, learn="article", to=folder)
    script(log, robot, policy=folder, episodes=1)
    assert rollout.replay(log, "s-0002").scope == "everything"
    retrain.retrain(log, folder, "article")
    found = rollout.replay(log, "s-0002")
    assert (found.scope, found.difference) == ("environment", None)


def _erased(log: Log, rater_id: str) -> None:
    """Take a rater's rows and key away, as an erasure does before it redacts the steps."""
    register.withdraw(log, rater_id)
    log.append("erasure-intent", {"rater_id": rater_id, "files": [], "redacted": []})
    durable.destroy(log.layout.key_file(rater_id))
    durable.destroy_tree(log.layout.rater_folder(rater_id))


def test_without_the_answers_a_learners_session_compares_the_environment(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    person = enrolled(log)
    rate(log, person, Presses("1011"), learn="article")
    rate(log, person, Presses("1011"))
    assert [rollout.replay(log, name).scope for name in ("s-0001", "s-0002")] == ["everything"] * 2
    _erased(log, person)
    learnt, fixed = (rollout.replay(log, name) for name in ("s-0001", "s-0002"))
    assert (learnt.difference, learnt.scope) == (None, "environment")
    assert learnt.note == "its feedback was erased: the environment alone is compared"
    assert learnt.steps == reader.session_facts(log, "s-0001")["n_steps"]
    # Nothing that a fixed policy did hangs on the answers.
    assert (fixed.difference, fixed.scope, fixed.note) == (None, "everything", "its feedback was erased")


def test_replaying_writes_nothing(world: _World) -> None:
    def stamps() -> dict[Path, Any]:
        return {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}

    before = stamps()
    for session_id in reader.session_ids(world.log):
        rollout.replay(world.log, session_id)
    assert stamps() == before
    assert feedback_rows(world.log, reader.session_facts(world.log, "s-0001")["rater_id"])
