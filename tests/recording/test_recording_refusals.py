"""Wrong input leaves every byte of the log as it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from session_world import CART_POLE, Presses, enrolled, new_log, rate, script, tree

from rlhf_audit.errors import DamagedError, RlhfAuditError, UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.types import Kind


class _World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = new_log(root / "log")
        self.person = enrolled(self.log)
        self.robot = enrolled(self.log, "oracle")
        self.base = script(self.log, self.robot, max_feedback=3).session_id
        self.policy = root / "policies" / "live"
        script(self.log, self.robot, learn="article", max_feedback=2, to=self.policy)
        self.other = root / "notes"
        self.other.mkdir()
        (self.other / "diary.txt").write_text("mine")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_World]:
    yield _World(tmp_path_factory.mktemp("refusals"))


_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown environment": ({"env_id": "CartPol-v1"}, "CartPole-v1"),
    "environment with a path in it": ({"env_id": "../../CartPole-v1"}, "no environment|Malformed"),
    "continuous actions": ({"env_id": "Pendulum-v1"}, "no oracle"),
    "discrete observations": ({"env_id": "FrozenLake-v1"}, "no oracle"),
    "no environment": ({"env_id": None}, "the environment is not clear"),
    "never asked": ({"ask_every": 0}, "can't be 0"),
    "asked backwards": ({"ask_every": -3}, "can't be -3"),
    "no episode": ({"episodes": 0}, "can't be 0"),
    "no answer": ({"max_feedback": 0}, "can't be 0"),
    "negative seed": ({"seed": -1}, "out of range"),
    "huge seed": ({"seed": 2**63}, "out of range"),
    "without end": ({"max_feedback": None}, "never stop"),
    "unknown script": ({"name": "oracel"}, "no scripted rater"),
    "a script for another action": ({"name": "favours-2"}, "favours an action"),
    "unknown learner": ({"learn": "likelyhood"}, "nothing learns live"),
    "nothing to save": ({"to": "new"}, "nothing to save"),
    "saved over a diary": ({"learn": "article", "to": "other"}, "holds something else"),
    "saved over a file": ({"learn": "article", "to": "file"}, "holds something else"),
    "no such policy": ({"policy": "new"}, "there is no policy"),
    "a folder that is no policy": ({"policy": "other"}, "there is no policy"),
    "a policy for something else": ({"policy": "policy", "env_id": "Acrobot-v1"}, "is not for Acrobot-v1"),
    "no such session": ({"rates": "s-0009", "env_id": None}, "there is no session"),
    "a session id with a path": ({"rates": "../s-0001", "env_id": None}, "not a session id"),
    "another environment's session": ({"rates": "s-0001", "env_id": "Acrobot-v1"}, "not clear"),
    "learning from another's steps": (
        {"rates": "s-0001", "env_id": None, "learn": "article"},
        "can't act or learn",
    ),
    "another kind": ({"kind": Kind.COMPARISON}, "can't be recorded yet"),
    "no oracle for it": ({"env_id": "Reusing-v0"}, "no oracle"),
}


@pytest.mark.parametrize("case", _CASES)
def test_a_wrong_request_writes_nothing(world: _World, case: str) -> None:
    request, words = _CASES[case]
    folders = {
        "new": world.root / "new" / "one",
        "other": world.other,
        "file": world.other / "diary.txt",
        "policy": world.policy,
    }
    request = {name: folders[value] if name in ("to", "policy") else value for name, value in request.items()}
    before = tree(world.root)
    with pytest.raises(RlhfAuditError, match=words) as refused:
        script(world.log, world.robot, **({"max_feedback": 5} | request))
    assert refused.value.exit_code == 2
    assert isinstance(refused.value, UsageError)
    assert tree(world.root) == before
    # The lock is given back, and the log may be written to.
    with world.log.writing():
        pass


def test_a_source_that_is_none_is_refused(world: _World) -> None:
    from rlhf_audit.recording.record import Request, record

    before = tree(world.root)
    for source in ("", "keyboard", "script", "Terminal"):
        with pytest.raises(UsageError, match="no source"):
            record(world.log, Request(world.person, source, env_id=CART_POLE))
    assert tree(world.root) == before


def test_a_damaged_policy_does_not_act(world: _World, tmp_path: Path) -> None:
    path = world.policy / "weights.npz"
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bytes(bad))
    before = tree(world.root)
    try:
        with pytest.raises(RlhfAuditError) as refused:
            script(world.log, world.robot, policy=world.policy, max_feedback=1)
        assert refused.value.exit_code in (1, 4)
        assert tree(world.root) == before
    finally:
        path.write_bytes(good)


def test_without_the_signing_key_no_session_begins(world: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(world.root / "nowhere"))
    keyless = Log(world.log.layout.root)
    source = Presses("1")
    before = tree(world.root)
    with pytest.raises(DamagedError, match="signing key"):
        rate(keyless, world.person, source)
    assert tree(world.root) == before
    assert not source.asked
