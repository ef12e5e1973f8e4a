"""Consent at the command line: the terms are shown, the answer is recorded, silence is a no."""

import pytest

from rlhf_audit.consent import register, terms
from rlhf_audit.errors import RefusedError
from rlhf_audit.log.store import Log
from rlhf_audit.types import Purpose


@pytest.fixture
def asked(cli, study):
    """A person who has not been asked yet."""
    return cli("enroll", study.log, "--json").result["rater_id"]


def test_yes(cli, study, asked):
    reply = cli("consent", study.log, asked, "--purpose", "training", "--json", stdin="y\n")
    assert reply.code == 0
    assert set(reply.result) >= {"grant_id", "purposes", "expires_at"}
    assert reply.result["purposes"] == ["training"] and reply.result["expires_at"].endswith("Z")
    for line in terms.DEFAULT_TERMS.splitlines():
        assert line in reply.err
    for told in (asked, "training", reply.result["expires_at"][:10]):
        assert told in reply.err
    (row,) = cli("show", study.log, "consent", "--rater", asked, "--json").result["rows"]
    assert (row["state"], row["method"], row["purposes"]) == ("given", "terminal", ["training"])


@pytest.mark.parametrize("stdin", ["", "n\n", "no\n", "\n", "maybe\n"])
def test_anything_else_is_a_no(cli, study, asked, stdin):
    reply = cli("consent", study.log, asked, "--purpose", "audit", "--json", stdin=stdin)
    assert (reply.code, reply.out) == (3, "")
    assert reply.err.splitlines()[-3].startswith(f"error: {asked} did not agree")
    (row,) = cli("show", study.log, "consent", "--rater", asked, "--json").result["rows"]
    assert row["state"] == "refused"
    options = ("--env", "CartPole-v1", "--rater", asked, "--source", "terminal")
    assert cli("record", study.log, *options, stdin="1\n").code == 3


def test_a_scripted_rater_is_not_asked(cli, study):
    rater_id = cli("enroll", study.log, "--scripted", "fast", "--json").result["rater_id"]
    assert cli("consent", study.log, rater_id, "--purpose", "audit", stdin="yes\n").code == 3
    reply = cli("consent", study.log, rater_id, "--purpose", "audit", "--yes")
    assert reply.code == 0 and "What you agree to" not in reply.err
    (row,) = cli("show", study.log, "consent", "--rater", rater_id, "--json").result["rows"]
    assert row["method"] == "scripted"


def test_altered_terms_are_not_shown(cli, study, asked):
    (text,) = (study.log / "terms").iterdir()
    text.write_text("Give us everything.\n")
    reply = cli("consent", study.log, asked, "--purpose", "audit", stdin="yes\n")
    assert reply.code == 4 and "everything" not in reply.err


def test_a_purpose_more_is_asked_together_with_those_that_stand(cli, study, asked):
    cli("consent", study.log, asked, "--purpose", "training", stdin="yes\n")
    reply = cli("consent", study.log, asked, "--purpose", "audit", "--json", stdin="yes\nyes\n")
    assert reply.result["purposes"] == ["audit", "training"]
    assert "asked to agree to: training, audit" in reply.err
    assert reply.err.count("You agreed to this before.") == 1
    cli("withdraw", study.log, asked, "--purpose", "training")
    reply = cli("consent", study.log, asked, "--purpose", "publication", "--json", stdin="yes\nyes\n")
    assert reply.result["purposes"] == ["audit", "publication"]


def grants(cli, study, rater_id):
    rows = cli("show", study.log, "consent", "--rater", rater_id, "--json").result["rows"]
    return [(row["state"], row["asked_purposes"]) for row in rows]


ALL = ("--purpose", "training", "--purpose", "audit", "--purpose", "publication")


def test_each_purpose_is_asked_on_its_own(cli, study, asked):
    reply = cli("consent", study.log, asked, *ALL, "--json", stdin="yes\nwhat?\nno\nyes\n")
    assert reply.code == 0
    assert reply.result["purposes"] == ["publication", "training"] and reply.result["refused"] == ["audit"]
    questions = [line for line in reply.err.splitlines() if " of 3): " in line]
    assert [line.split()[0] for line in questions] == ["Training", "Audit", "Publication"]
    assert grants(cli, study, asked) == [("refused", ["audit"]), ("given", ["publication", "training"])]
    options = ("--env", "CartPole-v1", "--rater", asked, "--source", "terminal", "--seed", 3)
    assert cli("record", study.log, *options, stdin="1\n0\nq\n").code == 0
    for purpose, n in (("training", 2), ("audit", 0)):
        query = f"SELECT count(*) AS n FROM usable_for_{purpose} WHERE rater_id = '{asked}'"
        assert cli("sql", study.log, query, "--json").result["rows"] == [{"n": n}]


def test_what_is_not_answered_is_a_no(cli, study, asked):
    assert cli("consent", study.log, asked, *ALL, stdin="no\nyes\n").code == 0
    assert grants(cli, study, asked) == [("refused", ["publication", "training"]), ("given", ["audit"])]


def test_a_no_to_all_is_recorded_as_one_refusal(cli, study, asked):
    reply = cli("consent", study.log, asked, *ALL, stdin="no\nno\nno\n")
    assert reply.code == 3 and reply.out == "" and "nothing else will be" in reply.err
    assert grants(cli, study, asked) == [("refused", ["audit", "publication", "training"])]


def test_a_no_to_what_was_agreed_to_before_is_no_withdrawal_and_says_so(cli, study, asked):
    cli("consent", study.log, asked, "--purpose", "training", stdin="yes\n")
    reply = cli("consent", study.log, asked, "--purpose", "audit", stdin="no\nyes\n")
    assert reply.code == 0 and f"withdraw {study.log} {asked} --purpose training" in reply.out
    assert ("given", ["training"]) in grants(cli, study, asked)
    reply = cli("consent", study.log, asked, "--purpose", "publication", stdin="no\n")
    assert reply.code == 3 and "nothing else will be" not in reply.err and "stands until" in reply.err


def test_unknown_and_erased_are_one_kind_answer(cli, study, asked):
    never = "r-00c0ffee"
    assert cli("erase", study.log, asked, "--apply").code == 0
    told = []
    for rater_id in (asked, never):
        replies = [
            cli(verb, study.log, rater_id, *options)
            for verb, *options in (("withdraw",), ("erase",), ("erase", "--apply"), ("consent", *ALL))
        ] + [cli("show", study.log, "feedback", "--rater", rater_id)]
        told.append([(one.code, one.out, one.err.replace(rater_id, "RATER")) for one in replies])
    assert told[0] == told[1]
    assert "nobody called RATER takes part here" in told[0][0][2]
    assert "receipt" in told[0][0][2] and "holds nothing" not in told[0][0][2]
    assert len(told[0][0][2].splitlines()) == 3


def test_terms_that_changed_since_they_were_shown_are_not_agreed_to(study, asked):
    log = Log(study.log)
    shown = terms.current(log)[0]
    terms.add(log, "Other terms.\n")
    with pytest.raises(RefusedError, match="changed"):
        register.give(log, asked, [Purpose.AUDIT], "terminal", shown)
    assert not [entry for entry in log.ledger.of("consent") if entry.body["rater_id"] == asked]
