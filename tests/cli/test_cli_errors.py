"""Wrong input: three lines on standard error, the right code, nothing on standard output, nothing written."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from rlhf_audit.cli import _console, app, audit
from rlhf_audit.clock import TickingClock
from rlhf_audit.consent import register, terms
from rlhf_audit.log import checkpoint, durable, store
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
    "unsupported action space": (lambda s: record(s, s.raters["oracle"], "Pendulum-v1"), 2, "no oracle"),
    "unsupported observation space": (
        lambda s: record(s, s.raters["oracle"], "FrozenLake-v1"),
        2,
        "no oracle",
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
    "master without spark": (lambda s: ["audit", s.log, "--master", "local[1]"], 2, "--engine spark"),
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


@pytest.mark.parametrize("word", ["--alias", "--group", "--to", "RATER", "LOG", "QUERY"])
def test_what_is_no_text_is_refused(cli, study, word):
    half = "Ada\udcff"
    args = {
        "--alias": ["enroll", study.log, "--alias", half],
        "--group": ["enroll", study.log, "--group", f"name={half}"],
        "--to": ["retrain", study.log, "--to", study.log.parent / half],
        "RATER": ["withdraw", study.log, half],
        "LOG": ["show", half, "raters"],
        "QUERY": ["sql", study.log, f"SELECT '{half}'"],
    }[word]
    before = tree(study.log)
    reply = cli(*args)
    check_error(reply, 2, "UTF-8")
    assert "Ada" not in reply.err
    assert tree(study.log) == before


def _private(key, passphrase: bytes | None = None) -> bytes:
    encryption = pem.BestAvailableEncryption(passphrase) if passphrase else pem.NoEncryption()
    return key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, encryption)


SIGNING_KEYS = {
    "with a passphrase": (lambda: _private(ed25519.Ed25519PrivateKey.generate(), b"secret"), "openssl pkey"),
    "RSA": (lambda: _private(rsa.generate_private_key(65537, 2048)), "RSA"),
    "of another curve": (lambda: _private(ec.generate_private_key(ec.SECP256R1())), "Ed25519"),
    "Ed448": (lambda: _private(ed448.Ed448PrivateKey.generate()), "Ed448"),
    "empty": (lambda: b"", "empty"),
    "garbage": (lambda: b"\xff\x00", "PEM"),
}


@pytest.mark.parametrize("kind", SIGNING_KEYS)
def test_a_signing_key_that_is_none_of_ours(cli, study, tmp_path, monkeypatch, kind):
    make, word = SIGNING_KEYS[kind]
    (tmp_path / "odd.key").write_bytes(make())
    monkeypatch.setenv(checkpoint.SIGNING_KEY_VARIABLE, str(tmp_path / "odd.key"))
    for args in (["enroll", study.log], ["init", tmp_path / "new"]):
        check_error(cli(*args), 4, word, checkpoint.SIGNING_KEY_VARIABLE)


def test_a_signing_key_that_is_no_file(cli, study, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path, word in ((tmp_path, "a folder"), (tmp_path / "pipe", "a pipe")):
        monkeypatch.setenv(checkpoint.SIGNING_KEY_VARIABLE, str(path))
        check_error(cli("enroll", study.log), 4, word)


def test_what_a_module_prints_is_not_in_the_document(cli, study, tmp_path, monkeypatch):
    (tmp_path / "chatty_env.py").write_text("print('Beautiful is better than ugly')")
    monkeypatch.syspath_prepend(tmp_path)
    options = ("--rater", study.raters["oracle"], "--source", "scripted:oracle", "--max-feedback", 2)
    reply = cli("record", study.log, "--env", "chatty_env:CartPole-v1", *options, "--json")
    assert "Beautiful" not in reply.out
    assert "Beautiful" in reply.err


def test_a_terms_text_cannot_fool_a_terminal(cli, tmp_path):
    text = (
        "# Terms\n\nYou may \x1b[8mnever\x1b[0m leave.\x1b]0;x\x07 \u202eon si sihT\u202c\nO\u00f9\u00a0?\n"
    )
    (tmp_path / "terms.md").write_bytes(text.encode())
    log = tmp_path / "study"
    digest = cli("init", log, "--terms", tmp_path / "terms.md", "--json").result["terms_sha256"]
    assert digest == hashlib.sha256((tmp_path / "terms.md").read_bytes()).hexdigest()
    rater_id = cli("enroll", log, "--json").result["rater_id"]
    asked = cli("consent", log, rater_id, "--purpose", "audit", stdin="no\n")
    for told in (asked.err, cli("show", log, "terms").out):
        assert not [char for char in told if not (char.isprintable() or char == "\n")]
        assert "You may \\x1b[8mnever\\x1b[0m leave." in told and "Où ?" in told
        assert "6 characters of this text could fool a terminal" in told and digest in told


def test_ordinary_terms_are_shown_as_they_are(cli, study):
    assert "could fool" not in cli("show", study.log, "terms").out
    assert _console.shown("a\tb\r\nc") == "a       b\nc"


def test_a_suggestion_stays_on_its_line(cli, study):
    reply = cli("show", study.log, "se\nssions")
    check_error(reply, 2, "did you mean sessions?")
    check_error(cli("erase", study.log, "r-1\n\x1b[2J"), 2)


def test_a_result_that_cannot_be_printed(cli, study):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", "from rlhf_audit.cli.app import main; raise SystemExit(main())"]
        for args in (["withdraw", study.log, study.person], ["show", study.log, "raters"]):
            done = subprocess.run([*command, *args], stdout=full, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 4 and len(done.stderr.splitlines()) == 3, done.stderr
            assert "ENOSPC at standard output" in done.stderr and "result can't be printed" in done.stderr
    assert study.person in [
        row["rater_id"] for row in cli("show", study.log, "withdrawals", "--json").result["rows"]
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_long_query_can_be_stopped(study, number):
    query = "SELECT count(*) FROM range(100000000000) a, range(1000) b"
    begin = "from rlhf_audit.cli import app; print('ready', flush=True); raise SystemExit(app.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", begin, "sql", study.log, query],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "ready\n"
    # Long enough to be in the query; a signal before it ends the verb in the same way.
    time.sleep(2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped; what was acknowledged is kept\n")
