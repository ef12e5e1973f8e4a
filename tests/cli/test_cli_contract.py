"""The contract of DESIGN.md section 7: documents, keys, codes, and where the log comes from."""

import json
from pathlib import Path

import pytest

from rlhf_audit.audits import catalogue
from rlhf_audit.log.store import Log

HEX = set("0123456789abcdef")


def check_document(reply, verb, log: Path | None):
    document = reply.document
    assert list(document) == ["schema", "log_head", "result"]
    assert document["schema"] == f"rlhf_audit.{verb}/1"
    assert document["log_head"] == (Log(log).ledger.head.to_json() if log else None)
    assert reply.out.endswith("}\n") and not reply.out.startswith("\n")
    return document["result"]


def test_init_and_enroll(cli, tmp_path):
    log = tmp_path / "new"
    made = check_document(cli("init", log, "--json"), "init", log)
    assert made["format_version"] == 1 and len(made["terms_sha256"]) == 64
    reply = cli("enroll", log, "--alias", "Ada Lovelace", "--group", "language=en", "--json")
    enrolled = check_document(reply, "enroll", log)
    assert {"rater_id", "withdrawal_code"} <= set(enrolled)
    assert "Ada" not in reply.out + reply.err
    again = cli("show", log, "raters", "--json")
    assert again.result["rows"][0]["alias"] == "Ada Lovelace"
    assert enrolled["withdrawal_code"] not in again.out


def test_init_with_own_terms(cli, tmp_path):
    (tmp_path / "terms.md").write_text("# Our own terms\n")
    assert cli("init", tmp_path / "log", "--terms", tmp_path / "terms.md").code == 0
    assert "Our own terms" in cli("show", tmp_path / "log", "terms").out


def test_record_keys_and_a_fresh_seed(cli, study):
    options = ("--env", "CartPole-v1", "--rater", study.raters["oracle"], "--source", "scripted:oracle")
    first = cli("record", study.log, *options, "--ask", "every:5", "--json")
    result = check_document(first, "record", study.log)
    assert {"session_id", "episodes", "steps", "feedback", "weights_sha256"} <= set(result)
    assert result["episodes"] == 1  # a script without a limit
    assert result["feedback"] == -(-result["steps"] // 5)
    assert set(result["weights_sha256"]) <= HEX and len(result["weights_sha256"]) == 64
    assert first.err == ""
    second = cli("record", study.log, *options, "--json").result
    assert second["seed"] != result["seed"]


def test_the_same_seed_gives_the_same_steps(cli, study):
    options = ("--env", "CartPole-v1", "--rater", study.raters["oracle"], "--source", "scripted:oracle")
    for _ in range(2):
        assert cli("record", study.log, *options, "--seed", "9", "--episodes", "2").code == 0
    query = "SELECT session_id, list(action ORDER BY episode_id, step) a FROM steps GROUP BY ALL ORDER BY ALL"
    rows = cli("sql", study.log, query, "--json").result["rows"]
    assert rows[-1]["a"] == rows[-2]["a"] != rows[0]["a"]


def test_replay(cli, study):
    result = check_document(cli("replay", study.log, "--json"), "replay", study.log)
    assert result["identical"] is True and result["first_difference"] is None and result["steps"] >= 60
    assert [one["session_id"] for one in result["sessions"]] == ["s-0001", "s-0002", "s-0003"]
    assert cli("replay", study.log, "s-0001", "--json").result["steps"] == result["steps"]
    told = cli("replay", study.log).out.splitlines()
    assert told == [
        f"s-0001: identical, {result['steps']} steps",
        "s-0002: rates the steps of s-0001, which are compared there",
        "s-0003: rates the steps of s-0001, which are compared there",
    ]


def test_audit_codes_follow_severity(cli, study):
    reply = cli("audit", study.log, "constant_rater", "--json")
    result = check_document(reply, "audit", study.log)
    (audit,) = result["audits"]
    assert {"id", "severity", "rows"} <= set(audit)
    contract = {"subject", "n", "value", "lower", "upper", "p", "flagged", "note"}
    assert all(contract <= set(row) for row in audit["rows"])
    flagged = [finding["subject"] for finding in result["findings"]]
    assert flagged == [study.raters["always-yes"]]
    severity = audit["severity"]
    assert reply.code == (0 if severity == "info" else 1)
    for threshold, fails in (("info", True), (severity, True), ("never", False)):
        assert cli("audit", study.log, "constant_rater", "--fail-on", threshold).code == int(fails)
    if severity != "error":
        assert cli("audit", study.log, "constant_rater", "--fail-on", "error").code == 0


def test_audit_list_set_and_print_sql(cli, study):
    listed = cli("audit", study.log, "--list", "--json").result["audits"]
    assert [one["id"] for one in listed] == list(catalogue.READING_ORDER)
    more = cli("audit", study.log, "constant_rater", "--set", "constant_rater.n_min=1000000", "--json")
    assert more.code == 0 and more.result["findings"] == []
    text = cli("audit", study.log, "constant_rater", "--print-sql").out
    assert "CREATE VIEW usable_for_audit" in text and "constant_rater" in text
    assert "language" not in text.split("CREATE VIEW ledger")[0]  # no rater's groups


def test_show_lists_everything(cli, study):
    for what in [
        "sessions",
        "feedback",
        "raters",
        "consent",
        "episodes",
        "policies",
        "withdrawals",
        "reports",
        "ledger",
        "terms",
    ]:
        result = check_document(cli("show", study.log, what, "--json"), "show", study.log)
        assert result["what"] == what
        human = cli("show", study.log, what)
        # An alias is shown to the operator who asks for the raters, and nowhere else.
        assert human.code == 0 and ("Ada" in human.out) == (what == "raters")
        assert bool(result["rows"]) == (what not in ("policies", "withdrawals", "reports"))
    mine = cli("show", study.log, "feedback", "--rater", study.raters["flip-20"], "--json").result["rows"]
    assert {row["session_id"] for row in mine} == {"s-0002"} and len(mine) == 60


def test_sql(cli, study):
    query = (
        "SELECT rater_id, count(*) AS n, min(answered_at) AS first FROM feedback GROUP BY ALL ORDER BY n, 1"
    )
    result = check_document(cli("sql", study.log, query, "--json"), "sql", study.log)
    assert result["columns"] == ["rater_id", "n", "first"]
    assert sorted(row["rater_id"] for row in result["rows"]) == sorted(study.raters.values())
    assert result["rows"][0]["first"].endswith("Z")
    odd = "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS b, MAP {'k': 'v'} AS c, NULL AS d, 1.5::DECIMAL(4,1) AS e"
    assert cli("sql", study.log, odd, "--json").result["rows"] == [
        {"a": 1, "a_1": 2, "b": "nan", "c": {"k": "v"}, "d": None, "e": "1.5"}
    ]


def test_verify(cli, study):
    result = check_document(cli("verify", study.log, "--json"), "verify", study.log)
    assert result["ok"] is True and result["problems"] == [] and result["entries"] == 13


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["verify"], "ok:"),
        (["show", "sessions"], "s-0003"),
        (["replay", "s-0002"], "s-0002"),
        (["audit", "severity"], "severity"),
        (["sql", "SELECT 42 AS n"], "42"),
    ],
)
def test_the_log_may_come_from_the_environment(cli, study, monkeypatch, args, expected):
    monkeypatch.setenv("RLHF_AUDIT_LOG", str(study.log))
    from_environment = cli(*args)
    assert from_environment.code in (0, 1) and expected in from_environment.out
    monkeypatch.setenv("RLHF_AUDIT_LOG", "/nowhere")
    named = cli(args[0], study.log, *args[1:])
    assert (named.code, named.out) == (from_environment.code, from_environment.out)


def test_rater_verbs_take_the_log_from_the_environment(cli, study, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_LOG", str(study.log))
    reply = cli("withdraw", "--purpose", "audit", study.person, "--json")
    assert reply.code == 0 and reply.result["purposes"] == ["audit"]


def test_version_and_help(cli):
    assert cli("--version").out.startswith("rlhf-audit ")
    bare = cli()
    assert bare.code == 2 and not bare.out and "Commands:" in bare.err
    assert cli("record", "--help").code == 0


def test_documents_are_plain_json_everywhere(cli, study):
    for args in (["show", study.log, "ledger"], ["audit", study.log], ["show", study.log, "consent"]):
        text = cli(*args, "--json").out
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
