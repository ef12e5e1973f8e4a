"""A log made by the command line alone, and a way to run it: in this process, as ``rlhf-audit`` would."""

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlhf_audit.cli.app import main
from rlhf_audit.log import checkpoint

ENV_ID = "CartPole-v1"


@dataclass(frozen=True)
class Reply:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def result(self) -> dict[str, Any]:
        return self.document["result"]


Cli = Callable[..., Reply]


@pytest.fixture(scope="session", autouse=True)
def _signing_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        key = tmp_path_factory.mktemp("operator") / "signing.key"
        patch.setenv(checkpoint.SIGNING_KEY_VARIABLE, str(key))
        patch.delenv("RLHF_AUDIT_LOG", raising=False)
        patch.delenv("RLHF_AUDIT_DEBUG", raising=False)
        yield


def run(*args: object, stdin: str = "") -> Reply:
    """Run one command line with text for its three streams."""
    with pytest.MonkeyPatch.context() as patch:
        out, err = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = main([str(arg) for arg in args])
    return Reply(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli() -> Cli:
    return run


@dataclass(frozen=True)
class Study:
    """A log with a person who has agreed, and three scripted raters who rated the same 60 steps."""

    log: Path
    person: str
    raters: dict[str, str]


def _enrolled(log: Path, *options: str) -> str:
    return run("enroll", log, "--json", *options).result["rater_id"]


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    log = tmp_path_factory.mktemp("made") / "study"
    assert run("init", log).code == 0
    person = _enrolled(log, "--alias", "Ada Lovelace", "--group", "language=en")
    purposes = ("--purpose", "training", "--purpose", "audit")
    assert run("consent", log, person, *purposes, stdin="yes\nyes\n").code == 0
    raters: dict[str, str] = {}
    for seed, name in enumerate(("oracle", "flip-20", "always-yes")):
        rater_id = raters[name] = _enrolled(log, "--scripted", name)
        assert run("consent", log, rater_id, *purposes, "--yes").code == 0
        which = ("--rate", "s-0001") if seed else ("--env", ENV_ID)
        options = ("--rater", rater_id, "--source", f"scripted:{name}", "--seed", seed, "--max-feedback", 60)
        assert run("record", log, *which, *options).code == 0
    return Study(log, person, raters)


@pytest.fixture
def study(_made: Study, tmp_path: Path) -> Study:
    """A copy of one's own."""
    log = tmp_path / "study"
    shutil.copytree(_made.log, log)
    return Study(log, _made.person, _made.raters)
