"""Consent's life by the command line: codes, terms, forms, guardians, JSON-LD and a rater's own copy."""

import csv
import io
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pexpect
import pytest
from conftest import Cli, Study

from rlhf_audit.consent import codes
from rlhf_audit.log import keys
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify

WRONG = "2222-2222-2222-2222-2222"
PURPOSES = ("--purpose", "training", "--purpose", "audit")


def enrolled(cli: Cli, study: Study, *options: object) -> tuple[str, str]:
    result = cli("enroll", study.log, "--json", *options).result
    return result["rater_id"], result["withdrawal_code"]


def test_a_rater_withdraws_by_a_code_given_as_a_line_of_input(cli: Cli, study: Study) -> None:
    rater_id, code = enrolled(cli, study)
    cli("consent", study.log, rater_id, *PURPOSES, stdin="yes\nyes\n")
    first = cli("withdraw", study.log, "--code", "--json", stdin=f"{code.lower()}\nmore\n")
    again = cli("withdraw", study.log, "--code", "--json", stdin=code)
    by_name = cli("withdraw", study.log, rater_id, "--json")
    assert first.code == again.code == by_name.code == 0
    assert first.result == again.result == by_name.result
    assert first.result["purposes"] == ["audit", "publication", "training"]


def test_a_code_may_take_one_purpose_back(cli: Cli, study: Study) -> None:
    rater_id, code = enrolled(cli, study)
    cli("consent", study.log, rater_id, *PURPOSES, stdin="yes\nyes\n")
    done = cli("withdraw", study.log, "--code", "--purpose", "training", stdin=code)
    assert done.code == 0 and "otherwise stands" in done.out
    shown = cli("show", study.log, "consent", "--rater", rater_id, "--json").result["rows"]
    assert [(row["state"], row["purposes"]) for row in shown] == [("given", ["audit"])]


def test_a_code_on_the_command_line_is_refused_and_not_repeated(cli: Cli, study: Study) -> None:
    rater_id, code = enrolled(cli, study)
    for arguments in (("--code", code), (code, "--code"), (code,), (f"--code={code}",)):
        reply = cli("withdraw", study.log, *arguments)
        assert reply.code == 2 and code not in reply.err + reply.out
    assert not list(Log(study.log).ledger.of("withdrawal"))
    assert cli("withdraw", study.log).code == 2
    assert cli("withdraw", study.log, rater_id, "--code", stdin=code).code == 2


def test_a_code_is_typed_unseen(cli: Cli, study: Study) -> None:
    rater_id, code = enrolled(cli, study)
    program = "import sys; from rlhf_audit.cli.app import main; sys.exit(main())"
    child = pexpect.spawn(
        sys.executable, ["-c", program, "withdraw", str(study.log), "--code"], encoding="utf-8", timeout=60
    )
    child.expect("withdrawal code: ")
    child.sendline(WRONG)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 2 and WRONG not in (child.before or "")
    assert "opens nothing" in (child.before or "")
    assert rater_id not in (child.before or "") and code


def test_unknown_erased_and_wrong_look_alike(cli: Cli, study: Study) -> None:
    gone, erased = enrolled(cli, study)
    _, right = enrolled(cli, study)
    assert cli("erase", study.log, gone, "--apply").code == 0
    unknown = "AAAA-AAB" + right[8:]
    replies = {
        (reply.code, reply.out, reply.err)
        for reply in (cli("withdraw", study.log, "--code", stdin=code) for code in (erased, unknown, WRONG))
    }
    assert len(replies) == 1
    code, out, err = replies.pop()
    assert (code, out) == (2, "") and "opens nothing" in err
    # So do they with a name.
    never = f"{gone[:-1]}{'0' if gone[-1] != '0' else '1'}"
    texts = [
        (r.code, r.err.replace(who, "X")) for who in (gone, never) for r in [cli("withdraw", study.log, who)]
    ]
    assert texts[0][0] == 2 and re.sub("seen:.*;", "", texts[0][1]) == re.sub("seen:.*;", "", texts[1][1])


def test_the_operator_withdraws_behind_a_locked_door(cli: Cli, study: Study) -> None:
    rater_id, code = enrolled(cli, study)
    for _ in range(codes.TRIES):
        assert cli("withdraw", study.log, "--code", stdin=WRONG).code == 2
    locked = cli("withdraw", study.log, "--code", stdin=code)
    assert locked.code == 3 and "UTC" in locked.err and code not in locked.err
    assert cli("withdraw", study.log, rater_id).code == 0
    assert verify(study.log).ok


def test_a_new_code_is_shown_once_and_voids_the_old(cli: Cli, study: Study) -> None:
    rater_id, old = enrolled(cli, study, "--alias", "Zebedee Unusual")
    new = cli("enroll", study.log, "--new-code", rater_id, "--json").result
    assert new["rater_id"] == rater_id and new["withdrawal_code"] != old
    assert cli("withdraw", study.log, "--code", stdin=old).code == 2
    assert cli("withdraw", study.log, "--code", stdin=new["withdrawal_code"]).code == 0
    assert cli("enroll", study.log, "--new-code", rater_id, "--alias", "x").code == 2
    assert cli("enroll", study.log, "--new-code", "r-00000000").code == 2


@pytest.mark.parametrize("arguments", [("RATER",), ("--code",)])
def test_the_log_may_come_from_the_environment(
    cli: Cli, study: Study, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    rater_id, code = enrolled(cli, study)
    monkeypatch.setenv("RLHF_AUDIT_LOG", str(study.log))
    words = [rater_id if word == "RATER" else word for word in arguments]
    assert cli("withdraw", *words, stdin=code).code == 0


def test_new_terms_are_asked_about_before_anything_more_is_recorded(
    cli: Cli, study: Study, tmp_path: Path
) -> None:
    (tmp_path / "new.md").write_text("We keep it \x1b[31mlonger\n", "utf-8")
    added = cli("terms", study.log, tmp_path / "new.md", "--json").result
    assert added["version"] == 2 and study.person in added["to_ask"] and len(added["to_ask"]) == 4
    robot = study.raters["oracle"]
    record = ("record", study.log, "--rate", "s-0001", "--rater", robot, "--source", "scripted:oracle")
    refused = cli(*record, "--max-feedback", 1)
    assert refused.code == 3 and "older terms" in refused.err and "rlhf-audit consent" in refused.err
    assert cli("terms", study.log, tmp_path / "new.md", "--json").result["version"] == 2
    assert cli("consent", study.log, robot, *PURPOSES, "--yes").code == 0
    assert cli(*record, "--max-feedback", 1).code == 0
    shown = cli("show", study.log, "terms")
    assert "\\x1b[31mlonger" in shown.out and "\x1b" not in shown.out
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe")
    for name in ("empty.md", "binary.md", "missing.md", "."):
        assert cli("terms", study.log, tmp_path / name).code == 2
    assert verify(study.log).ok


def test_a_signed_form_is_taken_in_by_its_digest(cli: Cli, study: Study, tmp_path: Path) -> None:
    rater_id, _ = enrolled(cli, study)
    scan = tmp_path / "Ann Example, signed.pdf"
    scan.write_bytes(b"%PDF signed by Ann Example")
    today = datetime.now(UTC).date()
    options = ("consent", study.log, rater_id, *PURPOSES, "--import", scan)
    done = cli(*options, "--signed-on", today - timedelta(days=2), "--json")
    assert done.code == 0 and done.result["purposes"] == ["audit", "training"]
    row = cli("show", study.log, "consent", "--rater", rater_id, "--json").result["rows"][0]
    assert (row["method"], row["given_by"], row["state"]) == ("imported", "rater", "given")
    assert b"Example" not in b"".join(
        path.read_bytes() for path in Log(study.log).layout.files() if path.is_file()
    )
    for more, code in (
        (("--signed-on", today - timedelta(days=2)), 3),
        (("--signed-on", today + timedelta(days=1)), 2),
        (("--signed-on", "soon"), 2),
        ((), 2),
        (("--signed-on", today, "--yes"), 2),
        (("--signed-on", today, "--purpose", "profit"), 2),
    ):
        reply = cli(*options, *more)
        assert reply.code == code and "Example" not in reply.err
    assert cli("consent", study.log, rater_id, "--import", scan, "--signed-on", today).code == 2


def test_a_guardian_is_asked_only_where_the_log_says_so(cli: Cli, study: Study, tmp_path: Path) -> None:
    child, _ = enrolled(cli, study, "--group", "age=12")
    for by in ("rater", "guardian", "proxy"):
        reply = cli("consent", study.log, child, *PURPOSES, "--by", by, stdin="yes\nyes\n")
        assert reply.code == 3 and "init ANOTHER-FOLDER --allow" in reply.err and "12" not in reply.err
    other = tmp_path / "school"
    assert cli("init", other, "--allow", "guardian").code == 0
    child = cli("enroll", other, "--group", "age=minor", "--json").result["rater_id"]
    assert "can't agree alone" in cli("consent", other, child, *PURPOSES, stdin="yes\nyes\n").err
    reply = cli("consent", other, child, *PURPOSES, "--by", "guardian", stdin="yes\nno\n")
    assert reply.code == 0 and f"You answer as the guardian of {child}" in reply.err
    assert cli("consent", other, child, *PURPOSES, "--by", "proxy", stdin="yes\nyes\n").code == 3
    assert verify(other).ok


def test_an_invalid_consent_is_a_finding_until_its_rows_are_gone(cli: Cli, study: Study) -> None:
    robot = study.raters["flip-20"]
    done = cli("consent", study.log, robot, "--invalidate", "it was another person's")
    assert done.code == 0 and f"erase {study.log} {robot} --apply" in done.out
    found = cli("audit", study.log, "consent_validity", "--fail-on", "error", "--json")
    rows = {row["subject"]: row for row in found.result["audits"][0]["rows"]}
    assert found.code == 1 and rows[robot]["note"] == "60 grant invalidated"
    assert cli("erase", study.log, robot, "--apply").code == 0
    assert cli("audit", study.log, "consent_validity", "--fail-on", "error").code == 0
    for more in (PURPOSES, ("--yes",)):
        assert cli("consent", study.log, study.person, "--invalidate", "x", *more).code == 2
    assert cli("consent", study.log, study.person).code == 2


def test_a_withdrawal_in_part_settles_once_all_is_made_again(cli: Cli, study: Study, tmp_path: Path) -> None:
    robot = study.raters["oracle"]
    assert cli("report", study.log, "--to", tmp_path / "report").code == 0
    assert cli("withdraw", study.log, robot, "--purpose", "audit").code == 0

    def note() -> tuple[bool, str]:
        rows = cli("audit", study.log, "pending_withdrawals", "--json").result["audits"][0]["rows"]
        return next((row["flagged"], row["note"]) for row in rows if row["subject"] == robot)

    assert note() == (True, "pending (audit) in part; policies 0; reports 1; exports 0")
    assert cli("report", study.log, "--to", tmp_path / "report").code == 0
    assert note() == (False, "settled (audit): nothing made for it before holds them")


def test_an_export_counts_until_its_recipient_was_told(cli: Cli, study: Study, tmp_path: Path) -> None:
    robot = study.raters["oracle"]
    cli("consent", study.log, robot, "--purpose", "publication", "--yes")
    record = ("record", study.log, "--rate", "s-0001", "--rater", robot, "--source", "scripted:oracle")
    assert cli(*record, "--max-feedback", 5).code == 0
    to = tmp_path / "out"
    assert cli("export", study.log, "--format", "csv", "--to", to, "--recipient", "Lab B").code == 0
    assert cli("withdraw", study.log, robot, "--purpose", "publication").code == 0
    rows = cli("audit", study.log, "pending_withdrawals", "--json").result["audits"][0]["rows"]
    assert [row["note"] for row in rows] == [
        "pending (publication) in part; policies 0; reports 0; exports 1"
    ]
    told = cli("export", study.log, "--told", to, "--json")
    assert told.code == 0 and told.result["recipient"] == "Lab B"
    rows = cli("audit", study.log, "pending_withdrawals", "--json").result["audits"][0]["rows"]
    assert [row["flagged"] for row in rows] == [False]
    assert cli("export", study.log, "--told", tmp_path / "elsewhere").code == 2
    # An erasure names the recipient all the same.
    assert cli("erase", study.log, robot, "--json").result["exports"][0]["recipient"] == "Lab B"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]


def test_a_rater_gets_all_that_is_held_about_them_and_nothing_of_others(
    cli: Cli, study: Study, tmp_path: Path
) -> None:
    robot, other = study.raters["oracle"], study.raters["flip-20"]
    cli("report", study.log, "--to", tmp_path / "report")
    cli("withdraw", study.log, robot, "--purpose", "training")
    to = tmp_path / "Ann's copy"
    done = cli("export", study.log, "--rater", robot, "--to", to, "--json")
    assert done.code == 0 and done.result["rows"] == 60 and done.result["raters"] == [robot]
    files = {path.relative_to(to).as_posix(): path for path in to.rglob("*") if path.is_file()}
    text = {name: path.read_text("utf-8") for name, path in files.items()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files.values()) and to.stat().st_mode & 0o077 == 0
    page = _Page()
    page.feed(text["index.html"])
    assert set(page.links) == {*files} - {"index.html"} and not page.tags & {"script", "img", "iframe"}
    rows = json.loads(text["feedback.json"])
    assert len(rows) == 60 and {row["session_id"] for row in rows} == {"s-0001"}
    assert [row["value"] for row in rows] == [
        float(row["value"]) for row in csv.DictReader(io.StringIO(text["feedback.csv"]))
    ]
    steps = json.loads(text["steps.json"])
    assert {(s["episode_id"], s["step"]) for s in steps} == {(r["episode_id"], r["step"]) for r in rows}
    assert all(len(step["observation"]) == 4 and step["action_in_words"] for step in steps)
    made = json.loads(text["made-from-it.json"])
    assert [one["name"] for one in made["reports"]] == ["report"] and made["withdrawals"][0]["purposes"] == [
        "training"
    ]
    events = {entry["event"] for entry in json.loads(text["ledger.json"])}
    assert {"enrolled", "consent", "session", "withdrawal", "report"} <= events
    assert len(json.loads(text["consents.jsonld"])["@graph"]) == 1
    assert any(name.startswith("terms/") for name in files)
    everything = "".join(text.values())
    assert keys.read(Log(study.log).layout, robot).mac_key.hex() not in everything
    assert robot in everything and not any(who in everything for who in (other, study.person, "Lovelace"))


def test_an_own_copy_leaves_no_trace_but_that_it_was_made(cli: Cli, study: Study, tmp_path: Path) -> None:
    person = study.person
    cli("withdraw", study.log, person)
    to = tmp_path / "Ada Lovelace"
    assert cli("export", study.log, "--rater", person, "--to", to).code == 0, (
        "who has withdrawn may ask as well"
    )
    you = json.loads((to / "you.json").read_text())
    assert (you["alias"], you["groups"]) == ("Ada Lovelace", {"language": "en"})
    log = Log(study.log)
    assert dict(next(log.ledger.of("copy")).body) == {"rater_id": person}
    assert b"Lovelace" not in log.layout.entries.read_bytes() and verify(study.log).ok
    assert cli("erase", study.log, person, "--json").result["exports"] == []
    for taken in (to, study.log, study.log / "inside"):
        assert cli("export", study.log, "--rater", person, "--to", taken).code == 2
    assert cli("export", study.log, "--rater", person, "--to", tmp_path / "x", "--format", "csv").code == 2
    assert cli("export", study.log, "--rater", person).code == 2 and cli("export", study.log).code == 2
    assert cli("erase", study.log, person, "--apply").code == 0
    never = f"{person[:-1]}{'0' if person[-1] != '0' else '1'}"
    replies = [cli("export", study.log, "--rater", who, "--to", tmp_path / "y") for who in (person, never)]
    said = {
        (r.code, re.sub("seen:.*;", "", r.err).replace(w, "X"))
        for r, w in zip(replies, (person, never), strict=True)
    }
    assert len(said) == 1 and not (tmp_path / "y").exists()


def test_a_copy_that_can_not_be_written_leaves_nothing(
    cli: Cli, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_audit.log import durable

    whole = durable.write

    def full(path: Path, data: bytes, mode: int = 0o644) -> None:
        if path.name == "ledger.json":
            raise OSError(28, os.strerror(28))
        whole(path, data, mode)

    monkeypatch.setattr(durable, "write", full)
    assert cli("export", study.log, "--rater", study.person, "--to", tmp_path / "copy").code == 4
    assert [path for path in (tmp_path / "copy").rglob("*") if path.is_file()] == []
    assert not list(Log(study.log).ledger.of("copy"))


def test_consents_are_shown_as_json_ld(cli: Cli, study: Study) -> None:
    reply = cli("show", study.log, "consent", "--rater", study.person, "--jsonld")
    assert reply.code == 0 and json.loads(reply.out)["@graph"][0]["@type"] == "dpv:ConsentRecord"
    for wrong in (
        ("consent",),
        ("consent", "--rater", study.person, "--json"),
        ("raters", "--rater", study.person),
    ):
        assert cli("show", study.log, *wrong, "--jsonld").code == 2
