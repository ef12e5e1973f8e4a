"""The plan is the act: every field of ``erase --json`` without --apply is the one with it."""

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.cli import app
from rlhf_audit.consent import register
from rlhf_audit.log.compaction import compact
from rlhf_audit.log.store import Log
from rlhf_audit.replay import retrain
from rlhf_audit.reports import publish
from rlhf_audit.types import Purpose


def generated(home: Path, rng: random.Random) -> tuple[Log, str]:
    """A log to which a few things happened, and one of its raters, files of whom may lie in odd places."""
    log, raters = small_log.plain(home / "log", 3)

    def handed_out() -> None:
        for rater_id in raters[: rng.randint(1, 3)]:
            if register.standings(log, log.clock.now(), rater_id)[-1].purposes:
                register.give(log, rater_id, [Purpose.PUBLICATION], "scripted")
        to = home / f"copy-{rng.random()}"
        app.main(["export", str(home / "log"), "--format", "csv", "--to", str(to), "--recipient", "Somebody"])

    acts = [
        lambda: small_log.rates(log, rng.choice(raters), "s-0001", seed=rng.randint(0, 9)),
        lambda: small_log.join(log, alias="Another"),
        lambda: retrain.retrain(log, home / "policies" / rng.choice("ab"), seed=rng.randint(0, 9)),
        lambda: publish.publish(log, rng.choice([log.layout.reports, home]) / rng.choice(("one", "two"))),
        lambda: compact(log),
        lambda: register.withdraw(log, rng.choice(raters), [rng.choice(list(Purpose))]),
        handed_out,
    ]
    for _ in range(rng.randint(2, 7)):
        try:
            rng.choice(acts)()
        except Exception as error:  # noqa: BLE001 - who has withdrawn can't rate: that is a log, too
            assert type(error).__module__ == "rlhf_audit.errors"
        log.ledger.load()
    rater_id = rng.choice(raters)
    files = sorted(log.layout.rater_folder(rater_id).iterdir())
    if rng.random() < 0.4:
        os.link(files[-1], home / "another-name.parquet")
    if rng.random() < 0.4:
        shutil.move(files[0], home / "elsewhere.parquet")
        files[0].symlink_to(home / "elsewhere.parquet")
    return Log(home / "log"), rater_id


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    return result


@pytest.mark.parametrize("seed", range(4))
def test_every_field_of_the_plan_is_that_of_the_act(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_log.cheap_training(monkeypatch)
    rng = random.Random(seed)
    log, rater_id = generated(tmp_path / "home", rng)
    home = str(tmp_path / "home" / "log")
    capsys.readouterr()
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert app.main(["erase", home, rater_id, "--json"]) == 0
    planned = told(capsys)
    assert before == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert not planned.get("obstacles")
    code = app.main(["erase", home, rater_id, "--apply", "--json"])
    done = told(capsys)
    assert not done.get("obstacles"), done["obstacles"]
    # What can only be known afterwards: that it is done, its receipt, and the new policies' digests.
    after = {policy["name"]: policy.pop("after") for policy in done["policies"]}
    assert [policy.pop("after") for policy in planned["policies"]] == [None] * len(after)
    assert (planned.pop("applied"), done.pop("applied")) == (False, True)
    assert planned.pop("receipt") is None and Path(done.pop("receipt")).is_file()
    assert planned == done
    assert code == (1 if "left" in done else 0)
    # And what it says is what was done.
    for name in planned["files"]:
        assert not os.path.lexists(log.layout.root / name)
    gone = {
        path.relative_to(home).as_posix()
        for path in before
        if path.is_relative_to(home) and not path.exists()
    }
    listed = {*planned["files"]}
    assert {name for name in gone if name.startswith(("keys/", "feedback/"))} == listed & gone
    for export in planned["exports"]:
        assert export["recipient"] == "Somebody" and export["name"]
