"""Places that can't be written are told of before the work, in three lines, by what was typed."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Study

from rlhf_audit.cli._paths import as_typed
from rlhf_audit.cli.app import main
from rlhf_audit.log import durable, keys
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify


def three_lines(text: str) -> bool:
    lines = text.rstrip("\n").split("\n")
    starts = ("error: ", "  seen: ", "  to fix: ")
    return len(lines) == 3 and all(map(str.startswith, lines, starts)) and "; needed: " in lines[1]


class Broken(io.StringIO):
    """A standard output that refuses."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, _text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_code_that_could_not_be_shown_is_told(
    study: Study, monkeypatch: pytest.MonkeyPatch, number: int, options: list[str]
) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Broken(number))
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["enroll", str(study.log), "--alias", "Zebedee Unusual", *options]) == 4
    rater_id = list(Log(study.log).ledger.of("enrolled"))[-1].body["rater_id"]
    assert three_lines(err.getvalue()) and f"{rater_id} is enrolled, but" in err.getvalue()
    assert f"rlhf-audit enroll {study.log} --new-code {rater_id}" in err.getvalue()
    assert "Zebedee" not in err.getvalue()
    # What the message tells to do works.
    monkeypatch.undo()
    assert main(["enroll", str(study.log), "--new-code", rater_id]) == 0
    assert verify(study.log).ok


def test_with_a_closed_output_nobody_is_enrolled(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Log(study.log).ledger.head.size
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["enroll", str(study.log)]) == 4
    told = capsys.readouterr().err
    assert three_lines(told) and "nothing was done" in told
    assert Log(study.log).ledger.head.size == size


@pytest.mark.parametrize("to", ["/proc/x", "/sys/x", "x" * 300, "loop/x", "loop", "."])
def test_a_place_for_what_is_learnt_is_looked_at_before_anybody_is_asked(
    study: Study, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    options = ("--rater", study.person, "--source", "terminal", "--env", "CartPole-v1", "--learn", "--to", to)
    reply = cli("record", "study", *options, stdin="1\n1\n1\n")
    assert reply.code in (2, 4) and three_lines(reply.err), reply.err
    assert str(tmp_path) not in reply.err
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []


def test_a_rater_without_a_key_is_not_asked(study: Study, cli: Cli) -> None:
    options = ("--rater", study.person, "--source", "terminal", "--rate", "s-0001")
    for damage in (Path.unlink, lambda path: path.write_bytes(b"{}")):
        damage(Log(study.log).layout.key_file(study.person))
        reply = cli("record", study.log, *options, stdin="1\n1\n1\n")
        assert reply.code == 4 and three_lines(reply.err), reply.err
        assert f"keys/{study.person}.key" in reply.err
        assert not any((study.log / "journal").iterdir())


def test_init_inside_a_log_is_wrong_usage(study: Study, cli: Cli) -> None:
    reply = cli("init", study.log / "reports" / "x")
    assert reply.code == 2 and three_lines(reply.err) and "lies inside a log" in reply.err
    assert verify(study.log).ok


def test_init_on_a_full_disk_leaves_nothing_and_works_later(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        if path.name == "log.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, *_, **__)

    write = durable.write
    with monkeypatch.context() as patched:
        patched.setattr(durable, "write", full)
        reply = cli("init", tmp_path / "deep" / "study")
    assert reply.code == 4 and three_lines(reply.err) and "the disk is full" in reply.err
    assert not (tmp_path / "deep").exists()
    assert cli("init", tmp_path / "deep" / "study").code == 0


def test_a_refused_place_is_named_as_it_was_typed(
    study: Study, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def read_only(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path.resolve()))

    monkeypatch.setattr(durable, "write", read_only)
    for arguments, named in (
        (("report", "study", "--to", "out"), "'study/placing.json'"),
        (("enroll", "study"), "'study/keys/"),
        (("init", "new"), "'new/ledger/"),
        (("init", tmp_path / "new"), f"'{tmp_path}/new/ledger/"),
    ):
        reply = cli(*arguments)
        assert reply.code == 4 and three_lines(reply.err), reply.err
        assert f"EROFS at {named}" in reply.err


def test_paths_are_named_by_what_was_typed_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "here")
    inside = f"{tmp_path}/real/deep/file"
    assert as_typed("real/x", []) == "real/x"
    assert as_typed(inside, ["retrain", "../real"]) == "../real/deep/file"
    assert as_typed(inside, ["retrain", "../link"]) == "../link/deep/file"
    assert as_typed(inside, ["retrain", "--to=../link/deep"]) == "../link/deep/file"
    assert as_typed(inside, [f"{tmp_path}/real"]) == inside
    assert as_typed(f"{tmp_path}/real", [inside]) == f"{tmp_path}/real"
    assert as_typed(f"{tmp_path}/real", ["../real/deep/file"]) == "../real"
    assert as_typed(f"{tmp_path}/here/x", ["verify"]) == "x"
    assert as_typed(inside, ["verify"]) == "…/file"
    monkeypatch.setenv("RLHF_AUDIT_LOG", "../link")
    assert as_typed(inside, ["verify"]) == "../link/deep/file"


def test_keys_are_never_left_by_an_enrolment_that_failed(
    study: Study, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((study.log / "keys").iterdir())

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", full)
        reply = cli("enroll", study.log, "--alias", "Zebedee Unusual")
    assert reply.code == 4 and reply.out == "" and three_lines(reply.err)
    assert sorted((study.log / "keys").iterdir()) == before
    assert keys.read(Log(study.log).layout, study.person)
