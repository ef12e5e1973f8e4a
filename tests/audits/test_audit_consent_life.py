"""The audits of consent on real logs: terms that change, a backup put back, use beyond the purpose."""

import shutil
from pathlib import Path

import pytest
from session_world import BOTH, SetClock, enrolled, new_log, script

from rlhf_audit.audits import runner
from rlhf_audit.consent import register, terms
from rlhf_audit.log import views
from rlhf_audit.log.store import Log
from rlhf_audit.reports.consent_facts import read_consents
from rlhf_audit.types import AuditRow, Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log", SetClock())


def audit(log: Log, name: str) -> dict[str, AuditRow]:
    with views.connect(log, log.clock.now()) as connection:
        return {row.subject: row for row in runner.run(connection, [name])[0].rows}


def test_new_terms_ask_for_a_new_consent(log: Log) -> None:
    old, both = enrolled(log, "oracle"), enrolled(log, "oracle")
    assert not any(row.flagged for row in audit(log, "terms_changed").values())
    terms.add(log, "Other terms.\n")
    register.give(log, both, BOTH, "scripted")
    found = audit(log, "terms_changed")
    assert found[old].flagged and not found[both].flagged and found[both].value == 1


def test_a_backup_that_is_put_back_is_found_and_names_nobody(log: Log, tmp_path: Path) -> None:
    gone, stays = enrolled(log, "oracle"), enrolled(log, "oracle")
    script(log, gone, max_feedback=5)
    script(log, stays, max_feedback=5)
    shutil.copytree(log.layout.root, tmp_path / "backup")
    assert not audit(log, "erased_returned")
    erase.apply(log, gone, lambda _: None)
    assert (audit(log, "erased_returned")["all"].n, audit(log, "erased_returned")["all"].value) == (1, 0)
    backup = tmp_path / "backup"
    shutil.copy(backup / "keys" / f"{gone}.key", log.layout.key_file(gone))
    shutil.copytree(backup / "feedback" / f"rater_id={gone}", log.layout.rater_folder(gone))
    row = audit(log, "erased_returned")["all"]
    assert row.flagged and row.value == 2 and gone not in row.note
    assert not verify(log.layout.root).ok


def test_a_report_may_not_be_made_with_whom_only_training_was_agreed(log: Log) -> None:
    trained, audited = enrolled(log, "oracle", (Purpose.TRAINING,)), enrolled(log, "oracle")
    with log.writing():
        log.append("report", {"path": "reports/x", "rater_ids": [trained, audited], "files": {}})
    found = audit(log, "use_without_consent")
    assert found[trained].flagged and found[trained].note == "1 outside the purpose"
    assert audited not in found, "a lawful report is not counted: the next says the same"


def test_what_is_settled_in_the_audit_is_settled_in_the_report(log: Log) -> None:
    rater_id = enrolled(log, "oracle")
    script(log, rater_id, max_feedback=5)
    register.withdraw(log, rater_id, [Purpose.TRAINING])
    assert audit(log, "pending_withdrawals")[rater_id].note.startswith("settled")
    with views.connect(log, log.clock.now()) as connection:
        assert not read_consents(connection).pending
    with log.writing():
        facts = {"path": "../p", "name": "p", "rater_ids": [rater_id], "rows": 5, "weights_sha256": "0" * 64}
        log.append("training", facts | {"algorithm": "likelihood", "files": {}})
    register.withdraw(log, rater_id, [Purpose.AUDIT])
    with views.connect(log, log.clock.now()) as connection:
        assert {one.rater_id for one in read_consents(connection).pending} == {rater_id}
