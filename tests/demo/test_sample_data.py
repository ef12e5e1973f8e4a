"""The sample log and its policy are made again, byte for byte, and their planted biases are found."""

import contextlib
import json
import re
from pathlib import Path

import pytest

from rlhf_audit import demo
from rlhf_audit.audits import runner
from rlhf_audit.consent import codes
from rlhf_audit.log import views
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify

TOP = Path(__file__).parents[2]
SAMPLE = TOP / "sample_data" / "panel"


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes; locks are made by whoever writes and hold nothing."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    # The sample's codes are hashed at the real cost.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "SCRYPT", {"n": 2**14, "r": 8, "p": 5})
        _make(folder)
    return folder


def _make(folder: Path) -> None:
    # The same places relative to each other: the ledger names the policy by its way from the log.
    demo.make_sample(folder / "sample_data" / "panel", folder / "policies" / "sample")


def test_sample_log_and_policy_are_made_again_byte_for_byte(made):
    for part in ("sample_data/panel", "policies/sample"):
        again, kept = contents(made / part), contents(TOP / part)
        assert sorted(again) == sorted(kept)
        assert [name for name in kept if again[name] != kept[name]] == []


def test_sample_log_verifies():
    verified = verify(SAMPLE)
    assert verified.problems == () and verified.entries > 20


def test_readme_names_what_the_audits_find():
    readme = (TOP / "sample_data" / "README.md").read_text()
    rows = re.findall(r"^\| (r-[0-9a-f]{8}) \| ([\w-]+) \|[^|]*\| ([^|]*)\|$", readme, re.MULTILINE)
    log = Log(SAMPLE)
    scripted = {e.body["rater_id"]: e.body["scripted"] for e in log.ledger.of("enrolled")}
    assert {rater: name for rater, name, _ in rows} == scripted
    told = {
        (rater, audit) for rater, _, found in rows for audit in re.findall(r"[a-z]+_[a-z]+|severity", found)
    }
    with contextlib.closing(views.connect(log, log.clock.now())) as connection:
        results = runner.run(connection)
    found = {
        (row.subject.partition(":")[0], audit.id)
        for audit in results
        for row in audit.findings
        if row.subject.startswith("r-") and "/" not in row.subject  # pairs are not a rater's own
    }
    assert found == told
    assert "alpha" in {row.subject for audit in results if audit.id == "agreement" for row in audit.findings}


def test_policy_card_and_manifest_name_the_log():
    manifest = json.loads((TOP / "policies" / "sample" / "manifest.json").read_text())
    assert manifest["log_id"] == Log(SAMPLE).log_id
    assert manifest["weights_sha256"] in (TOP / "policies" / "sample" / "CARD.md").read_text()
