"""Wrong input: three lines on standard error, the right code, nothing on standard output, nothing written."""

import errno
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rlhf_audit.cli import app, audit
from rlhf_audit.clock import TickingClock
from rlhf_audit.consent import register, terms
from rlhf_audit.log import durable, store
from rlhf_audit.types import Purpose


def tree(folder: Path) -> dict[str, str]:
    """Everything in a folder but its locks, which are taken to look and hold nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def check_error(reply, code: int, *words: str) -> None:
    lines = reply.err.splitlines()
    assert reply.code == code, reply
    assert not reply.out
    assert len(lines) == 3, reply.err
    assert lines[0].startswith("error: ")
    assert lines[1].startswith(("  seen: ", "  needed: "))
    assert lines[2].startswith("  to fix: ")
    for word in words:
        assert word in reply.err
    assert "Traceback" not in reply.err


def record(
    study, rater_id: str, env_id: str = "CartPole-v1", source: str = "scripted:oracle"
) -> list[object]:
    return ["record", study.log, "--env", env_id, "--rater", rater_id, "--source", source]


CASES = {
    "unknown environment": (lambda s: record(s, s.raters["oracle"], "CartPol-v1"), 2, "CartPole-v1"),
    "unsupported action space": (lambda s: record(s, s.raters["oracle"], "Pendulum-v1"), 2, "Box"),
    "unsupported observation space": (
        lambda s: record(s, s.raters["oracle"], "FrozenLake-v1"),
        2,
        "Discrete",
    ),
    "unknown rater": (lambda s: record(s, s.person[:-1] + "~"), 2, "rater id"),
    "near rater": (lambda s: record(s, _near(s.person)), 2, "did you mean"),
    "rater id with a path": (lambda s: ["consent", s.log, "../x", "--purpose", "audit"], 2, "rater id"),
    "script for a person": (lambda s: record(s, s.person), 3, "a person"),
    "person for a script": (lambda s: record(s, s.raters["oracle"], source="terminal"), 3, "scripted"),
    "yes for a person": (lambda s: ["consent", s.log, s.person, "--purpose", "audit", "--yes"], 3, "person"),
    "unknown source": (lambda s: record(s, s.person, source="telepathy"), 2, "terminal"),
    "unknown session": (lambda s: ["replay", s.log, "s-0099"], 2, "s-0099"),
    "session with a path": (lambda s: ["replay", s.log, "../../x"], 2, "session id"),
    "unknown audit": (lambda s: ["audit", s.log, "severty"], 2, "severity"),
    "unknown parameter": (lambda s: ["audit", s.log, "--set", "severity.x=1"], 2, "severity"),
    "spark": (lambda s: ["audit", s.log, "--engine", "spark"], 2, "later version"),
    "unknown list": (lambda s: ["show", s.log, "sesions"], 2, "sessions"),
    "option that does not go": (lambda s: ["show", s.log, "ledger", "--session", "s-0001"], 2, "--session"),
    "algorithm without learn": (lambda s: [*record(s, s.raters["oracle"]), "--algorithm", "article"], 2),
    "bad ask": (lambda s: [*record(s, s.raters["oracle"]), "--ask", "10"], 2, "every:10"),
    "bad seed": (lambda s: [*record(s, s.raters["oracle"]), "--seed", 2**63], 2, "seed"),
    "kind to come": (lambda s: [*record(s, s.raters["oracle"]), "--kind", "comparison"], 2, "rating"),
    "policy inside the log": (lambda s: ["retrain", s.log, "--to", s.log / "steps" / "p"], 2, "outside"),
    "no policy": (lambda s: ["evaluate", s.log / "nothing"], 2, "retrain"),
    "unknown algorithm": (
        lambda s: ["retrain", s.log, "--to", s.log.parent / "p", "--algorithm", "likelyhood"],
        2,
        "likelihood",
    ),
    "not SQL": (lambda s: ["sql", s.log, "SELEC 1"], 2, "DuckDB"),
    "SQL that writes": (lambda s: ["sql", s.log, f"COPY (SELECT 1) TO '{s.log}/steps/x.csv'"], 2, "COPY"),
    "two queries": (lambda s: ["sql", s.log, "SELECT 1; DROP VIEW feedback"], 2, "DROP"),
    "SQL on a key": (lambda s: ["sql", s.log, f"FROM read_text('{s.log}/keys/*')"], 2, "Permission"),
    "group without a value": (lambda s: ["enroll", s.log, "--group", "Ada"], 2, "NAME=VALUE"),
    "unknown script": (lambda s: ["enroll", s.log, "--scripted", "orakle"], 2, "oracle"),
    "erase nobody": (lambda s: ["erase", s.log, "r-00000000", "--apply"], 2, "r-00000000"),
    "withdraw nobody": (lambda s: ["withdraw", s.log, "r-00000000"], 2, "r-00000000"),
    "unknown verb": (lambda s: ["adit", s.log], 2, "--help"),
    "unknown option": (lambda s: ["verify", s.log, "--jsn"], 2, "rlhf-audit verify --help"),
    "missing argument": (lambda s: ["consent", s.log, "--purpose", "audit"], 2, "RATER"),
    "unknown purpose": (lambda s: ["withdraw", s.log, s.person, "--purpose", "fun"], 2, "training"),
    "init on a log": (lambda s: ["init", s.log], 2, "not empty"),
}


def _near(rater_id: str) -> str:
    return rater_id[:-1] + ("0" if rater_id[-1] != "0" else "1")


@pytest.mark.parametrize("name", CASES)
def test_wrong_usage(cli, study, name):
    make, code, *words = CASES[name]
    before = tree(study.log.parent)
    check_error(cli(*make(study)), code, *words)
    assert tree(study.log.parent) == before


@pytest.mark.parametrize("verb", ["verify", "replay", "audit", "enroll"])
def test_no_such_log(cli, tmp_path, verb):
    check_error(cli(verb, tmp_path / "nothing", "--json"), 4, "no log")
    assert not list(tmp_path.iterdir())


def test_another_format(cli, study):
    header = json.loads((study.log / "log.json").read_bytes())
    (study.log / "log.json").write_text(json.dumps(header | {"format_version": 99}))
    before = tree(study.log)
    for verb in ("verify", "audit", "enroll"):
        check_error(cli(verb, study.log), 4, "99")
    assert tree(study.log) == before


def test_a_parquet_file_that_is_none(cli, study):
    (study.log / "steps" / "env=CartPole-v1" / "s-0001.parquet").write_bytes(b"not Parquet")
    before = tree(study.log)
    for args in (["replay"], ["audit"], ["show", "episodes"], ["retrain", "--to", study.log.parent / "p"]):
        check_error(cli(args[0], study.log, *args[1:]), 4)
    reply = cli("verify", study.log, "--json")
    assert reply.code == 1
    assert [one["file"] for one in reply.result["problems"]] == ["steps/env=CartPole-v1/s-0001.parquet"]
    assert tree(study.log) == before


def test_a_damaged_ledger_is_a_problem_with_a_name(cli, study):
    entries = study.log / "ledger" / "entries.jsonl"
    raw = bytearray(entries.read_bytes())
    raw[len(raw) // 2] ^= 1
    entries.write_bytes(raw)
    reply = cli("verify", study.log, "--json")
    assert reply.code == 1 and reply.document["log_head"] is None
    assert reply.result["problems"][0]["file"] == "ledger/entries.jsonl"
    check_error(cli("audit", study.log), 4, "ledger/entries.jsonl")


def test_no_consent_refused_and_withdrawn(cli, study):
    new = cli("enroll", study.log, "--scripted", "oracle", "--json").result["rater_id"]
    before = tree(study.log)
    check_error(cli(*record(study, new)), 3, "no consent was ever given", f"consent LOG {new}")
    assert tree(study.log) == before
    gone = study.raters["oracle"]
    assert cli("withdraw", study.log, gone).code == 0
    before = tree(study.log)
    check_error(cli(*record(study, gone)), 3, "withdrawn")
    assert tree(study.log) == before


def test_expired_consent(cli, tmp_path):
    start = datetime.now(UTC) - timedelta(days=register.GRANT_DAYS + 1)
    log = store.create(tmp_path / "old", clock=TickingClock(start))
    with log.writing():
        terms.add(log)
    rater_id, _ = register.enrol(log, scripted="oracle")
    register.give(log, rater_id, [Purpose.TRAINING], "scripted")
    before = tree(tmp_path)
    options = ("--env", "CartPole-v1", "--rater", rater_id, "--source", "scripted:oracle")
    check_error(cli("record", tmp_path / "old", *options), 3, "expired")
    assert tree(tmp_path) == before


def test_training_on_nothing_that_may_be_used(cli, study):
    for rater_id in study.raters.values():
        assert cli("withdraw", study.log, rater_id, "--purpose", "training").code == 0
    check_error(cli("retrain", study.log, "--to", study.log.parent / "p"), 3, "may not be used")
    assert not (study.log.parent / "p").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_refused_write(cli, study, monkeypatch, number):
    def refuse(path, *_args, **_named):
        raise OSError(number, "No", str(path))

    monkeypatch.setattr(durable, "write", refuse)
    before = tree(study.log)
    check_error(cli("enroll", study.log, "--alias", "Ada Lovelace"), 4, errno.errorcode[number])
    assert tree(study.log) == before


def test_an_alias_is_never_repeated(cli, study):
    split = cli("enroll", study.log, "--alias", "Ada", "Lovelace")
    check_error(split, 2)
    assert "Ada" not in split.err and "Lovelace" not in split.err


def test_control_characters_are_shown_not_obeyed(cli, study):
    for args in (["show", study.log, "\x1b[2J"], ["sql", study.log, "SELECT '\x1b[2J' AS a"]):
        reply = cli(*args)
        assert "\x1b" not in reply.out + reply.err and "x1b" in reply.out + reply.err


def test_our_own_bug_is_told_as_one(cli, study, monkeypatch):
    def fail(*_args, **_named):
        raise KeyError("Ada Lovelace")

    monkeypatch.setattr(audit, "open_log", fail)
    reply = cli("audit", study.log)
    check_error(reply, app.EXIT_BUG, "KeyError", "RLHF_AUDIT_DEBUG=1")
    assert "Ada" not in reply.err
    monkeypatch.setenv("RLHF_AUDIT_DEBUG", "1")
    assert "Traceback" in cli("audit", study.log).err


def test_stopped(cli, study, monkeypatch):
    def stop(*_args, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "open_log", stop)
    reply = cli("audit", study.log)
    assert (reply.code, reply.out) == (130, "")
    assert reply.err == "stopped; what was acknowledged is kept\n"
