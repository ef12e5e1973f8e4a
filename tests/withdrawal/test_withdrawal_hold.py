"""A legal hold suspends an erasure in everybody's sight, lets nothing be used, and dies with the rater."""

import base64
import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.audits import runner
from rlhf_audit.cli import app
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, RefusedError, UsageError
from rlhf_audit.log import views
from rlhf_audit.log.store import Log
from rlhf_audit.replay import retrain
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, hold, plan, residue

REASON = "Case 4711, Erika Musterfrau ./. us: until judgement"


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_held_erasure_is_refused_and_lifted_it_goes_on(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 3)
    register.withdraw(log, raters[1])
    hold.place(log, raters[1], REASON)
    hold.place(log, raters[1], REASON)
    assert sum(1 for _ in log.ledger.of(hold.HELD)) == 1
    held = plan.make(log, raters[1]).to_json()["hold"]
    assert held["reason"] == REASON
    before = files(log.layout.root)
    for act in (erase.apply, erase.delete):
        with pytest.raises(
            RefusedError, match=f"fix: rlhf-audit erase LOG {raters[1]} --lift-hold"
        ) as caught:
            act(Log(log.layout.root), raters[1])
        assert "Musterfrau" not in str(caught.value) and caught.value.exit_code == 3
    assert erase.heal(Log(log.layout.root)) == []
    assert files(log.layout.root) == before
    assert verify(log.layout.root).ok
    # The hold is this rater's alone.
    assert erase.apply(log, raters[2]).clean
    hold.lift(log, raters[1])
    hold.lift(log, raters[1])
    assert sum(1 for _ in log.ledger.of(hold.LIFTED)) == 1
    assert "hold" not in plan.make(log, raters[1]).to_json()
    assert erase.apply(log, raters[1]).clean
    assert verify(log.layout.root).ok


def test_a_hold_lets_nothing_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_log.cheap_training(monkeypatch)
    log, raters = small_log.plain(tmp_path / "log", 3)
    hold.place(log, raters[1], REASON)
    register.withdraw(log, raters[1])
    hold.place(log, raters[1], "another reason")
    assert raters[1] not in retrain.retrain(log, tmp_path / "policies" / "one").raters
    with views.connect(log, log.clock.now()) as connection:
        used = connection.execute("SELECT DISTINCT rater_id FROM usable").fetchall()
        assert (raters[1],) not in used and len(used) == 2
    with pytest.raises(ConsentError):
        register.grant_for(log, raters[1], log.clock.now())
    for purpose in Purpose:
        with pytest.raises(ConsentError):
            register.grant_for(log, raters[1], log.clock.now(), purpose)


def test_it_is_seen_in_audit_report_and_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    home = str(log.layout.root)
    register.withdraw(log, raters[1])
    assert app.main(["erase", home, raters[1], "--legal-hold", REASON, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    assert told["hold"]["reason"] == REASON and not told["applied"] and told["receipt"] is None
    assert app.main(["erase", home, raters[1]]) == 0
    assert REASON in capsys.readouterr().out
    assert app.main(["erase", home, raters[1], "--apply"]) == 3
    error = capsys.readouterr().err
    assert [line.split(":")[0].strip() for line in error.splitlines()[-3:]] == ["error", "seen", "to fix"]
    log = Log(log.layout.root)
    with views.connect(log, log.clock.now()) as connection:
        (audit,) = runner.run(connection, ["pending_withdrawals"])
    row = next(row for row in audit.rows if row.subject == raters[1])
    assert row.flagged and row.note.startswith("held, under a legal hold (audit, publication, training)")
    assert app.main(["show", home, "withdrawals", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["result"]
    assert '"held": true' in json.dumps(shown)
    assert app.main(["report", home, "--to", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "held: legal hold" in page and "Musterfrau" not in page
    capsys.readouterr()
    assert app.main(["erase", home, raters[1], "--lift-hold", "--json"]) == 0
    assert "hold" not in json.loads(capsys.readouterr().out)["result"]
    assert app.main(["erase", home, raters[1], "--lift-hold", "--apply"]) == 2
    assert app.main(["erase", home, raters[1], "--legal-hold", " "]) == 2


HOSTILE = [
    "\u202egnihtyna\u202c",
    "\x1b[2Jgone\r\nerror: all is well",
    "<script>alert(1)</script>",
    "'; DROP --",
    "../../../etc/passwd",
    "x" * 1000,
    "\ud800 half",
    "e\u0301 é",
    "\U0001f9d1\u200d\U0001f680",
]


def test_its_reason_is_sealed_under_the_key_and_dies_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    assert not hold.reasons(log, raters[1])
    for reason in (*HOSTILE, REASON):
        hold.place(log, raters[1], reason)
        assert hold.of(log, raters[1]).reason == reason
        assert app.main(["erase", str(log.layout.root), raters[1]]) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown and "\u202e" not in shown and "\r" not in shown
    # Not even its length is told.
    sizes = {len(base64.b64decode(entry.body["reason"])) for entry in log.ledger.of(hold.HELD)}
    assert len(sizes) == 1
    for reason in (*HOSTILE, REASON):
        assert not residue.scan(
            log, residue.Needles(b"nobody of this name", (reason.encode("utf-8", "surrogatepass"),), True)
        ).found
    shutil.copytree(log.layout.root, tmp_path / "planted")
    (tmp_path / "planted" / "terms" / "x.md").write_text(REASON)
    hold.lift(log, raters[1])
    needles = erase.delete(log, raters[1]).needles
    assert REASON.encode() in needles.secret
    assert "terms/x.md" in residue.scan(Log(tmp_path / "planted"), needles).found
    assert hold.reasons(log, raters[1]) == []
    for wrong in (lambda who: hold.place(log, who, REASON), lambda who: hold.lift(log, who)):
        for who in (raters[1], "r-00000000"):
            with pytest.raises(UsageError, match="nobody called"):
                wrong(who)
    for text in ("", " \n", "x" * 1001):
        with pytest.raises(UsageError, match="a reason") as caught:
            hold.place(log, raters[0], text)
        assert text.strip() == "" or text not in str(caught.value)
