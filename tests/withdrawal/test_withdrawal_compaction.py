"""Erasing out of merged files: theirs go whole, nobody else's are touched, the policy is the control's."""

import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import compact_world as world
import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.log import compaction, keys, reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan, residue

_BLANK = ("action_probability", "behaviour_policy_sha256")


def blank(log: Log, path: str) -> bool:
    table = pq.ParquetFile(log.layout.root / path).read()
    return all(
        table.column(name).null_count == table.num_rows for name in _BLANK if name in table.column_names
    )


def test_a_teacher_is_erased_out_of_merged_files(tmp_path: Path) -> None:
    log, raters = world.many(tmp_path / "log")
    compaction.compact(log)
    teacher, where = raters[1], log.whereabouts
    theirs = {file.path for file in where.of_rater(teacher)}
    taught = {file.path for file in where.taught_by(teacher)}
    assert len(theirs) == 1 and len(taught) == 2 and "c-" in "".join(theirs)
    before = world.sealed(log)
    needles = residue.needles_of(keys.read(log.layout, teacher))
    planned = plan.make(log, teacher)
    assert set(planned.files) == theirs | {log.layout.relative(log.layout.key_file(teacher))}
    assert planned.rows == sum(where.files[path].rows for path in theirs)
    done = erase.apply(log, teacher)
    assert done.clean and done.to_json()["files"] == list(planned.files)
    after = world.sealed(log)
    assert set(before) - set(after) == theirs
    assert {path for path in after if after[path] != before[path]} == taught
    assert all(blank(log, path) for path in taught)
    assert not any(blank(log, path) for path in after if "s-" in path and "feedback" not in path)
    assert not residue.scan(log, needles).found and verify(log.layout.root).ok
    # What is left of theirs stays as it is; the others' goes on being merged.
    small_log.acts(log, raters[0], n=2, seed=50)
    small_log.acts(log, raters[0], n=2, seed=51)
    again = compaction.compact(log)
    assert again.files and not {file["path"] for file in again.files} & taught
    assert {path: world.sealed(log)[path] for path in taught} == {path: after[path] for path in taught}
    assert verify(log.layout.root).ok
    assert reader.session(log, "s-0009").feedback is None and reader.session(log, "s-0009").episodes


def test_an_erasure_that_was_cut_short_between_two_sessions_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, raters = world.many(tmp_path / "log")
    compaction.compact(log)
    taught = {file.path for file in log.whereabouts.taught_by(raters[1])}
    plain = Log.append

    def cut(self: Log, event: str, body: Any) -> Any:
        entry = plain(self, event, body)
        if event == "redaction":
            raise KeyboardInterrupt
        return entry

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Log, "append", cut)
        with pytest.raises(KeyboardInterrupt):
            erase.apply(log, raters[1])
    log = Log(log.layout.root)
    assert erase.heal(log) == ["completed an erasure that had been cut short"]
    redacted = [entry.body for entry in log.ledger.of("redaction")]
    assert [body["session_id"] for body in redacted] == ["s-0009", "s-0011"]
    assert (
        redacted[0]["files"] == redacted[1]["files"] and {f["path"] for f in redacted[0]["files"]} == taught
    )
    assert all(blank(log, path) for path in taught) and verify(log.layout.root).ok


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_the_policy_is_the_controls_whenever_it_was_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    from rlhf_audit.replay import retrain

    small_log.cheap_training(monkeypatch)
    log, raters = world.few(tmp_path / "home" / "log")
    shutil.copytree(tmp_path / "home", tmp_path / "control")
    control = Log(tmp_path / "control" / "log")
    erase.apply(control, raters[1])
    needed = retrain.retrain(control, tmp_path / "control" / "policies" / "one").weights_sha256
    if when in ("before", "both"):
        compaction.compact(log)
    retrain.retrain(log, tmp_path / "home" / "policies" / "one")
    small_log.acts(log, raters[1], n=2, seed=61)
    if when in ("after", "both"):
        compaction.compact(log)
    (policy,) = erase.apply(log, raters[1]).to_json()["policies"]
    assert policy["after"] == needed != policy["before"]
    compaction.compact(log)
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("seed", range(2))
def test_in_any_order_of_acts_the_log_says_what_it_says_without_compaction(tmp_path: Path, seed: int) -> None:
    """Record, rate, teach, erase, in a random order, and compact after each act or never: the same rows."""
    _alike(tmp_path, seed, 9)


def _alike(tmp_path: Path, seed: int, n_acts: int) -> None:
    logs = [small_log.empty(tmp_path / name, seed=40 + seed) for name in ("never", "often")]
    draw = random.Random(seed)
    both = [[small_log.join(log) for _ in range(3)] for log in logs]
    raters = list(both[0])
    assert both[1] == raters, "the same pseudonyms"
    played: list[str] = []
    for number in range(n_acts):
        act = draw.choice(["acts", "acts", "rates", "learns", "learns", "erase"])
        rater_id = draw.choice(raters) if raters else ""
        first = draw.choice(played) if played else ""
        compacts = draw.random() < 0.6
        for log in logs:
            _act(log, act, rater_id, first, number)
        if act in ("acts", "learns") and rater_id:
            played.append(reader.session_ids(logs[0])[-1])
        if act == "erase" and len(raters) > 1:
            raters.remove(rater_id)
        if compacts:
            compaction.compact(logs[1])
    compaction.compact(logs[1])
    assert _rows(logs[0]) == _rows(logs[1])
    assert verify(logs[1].layout.root).ok and set(world.sealed(logs[1])) == _there(logs[1])


def _act(log: Log, act: str, rater_id: str, first: str, number: int) -> None:
    raters = len({entry.body["rater_id"] for entry in log.ledger.of("enrolled")}) - len(
        list(log.ledger.of("erasure-done"))
    )
    if act == "acts":
        small_log.acts(log, rater_id, n=2, seed=number)
    elif act == "learns":
        world.learns(log, rater_id, number, n=1)
    elif act == "rates" and first:
        small_log.rates(log, rater_id, first, seed=number)
    elif act == "erase" and raters > 1:
        assert erase.apply(log, rater_id).clean


def _there(log: Log) -> set[str]:
    gone = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    where = log.whereabouts
    return {
        path
        for path, file in where.files.items()
        if not (file.holds_answers and where.rater_of(file) in gone)
    }


def _rows(log: Log) -> dict[str, list[str]]:
    found = {}
    with views.connect(log, log.clock.now()) as connection:
        for view, left_out in (
            ("steps", ""),
            ("episodes", ""),
            ("feedback", "EXCLUDE (shown_at, answered_at)"),
        ):
            table = connection.sql(f"SELECT * {left_out} FROM {view}").to_arrow_table()
            found[view] = sorted(map(repr, table.to_pylist()))
    return found
