"""Files and the entry that names them: both or neither, whatever comes in between."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_log
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import artefacts, durable
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.replay import retrain
from rlhf_audit.reports import publish
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

DRIVER = Path(__file__).with_name("fault_driver.py")
FILES = {"a.json": b"one", "b.html": b"two"}


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return small_log.plain(tmp_path / "log")[0]


def place(log: Log, folder: Path, files: dict[str, bytes] = FILES) -> None:
    log.place(folder, files, "report", {"rater_ids": []})


def killed(log: Log, entered: bool, act: Callable[[], Any]) -> Log:
    """Let ``act`` be killed before or after its entry; return the log as the next program finds it."""

    def end(self: Log, *_: Any) -> None:
        # Killed, it tidies nothing up; what it finds before it begins is of no interest.
        if self.layout.placing.exists():
            raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Log, "_resolve", end)
        if not entered:
            patched.setattr(Log, "append", end)
        with pytest.raises(Killed):
            act()
    return Log(log.layout.root)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("where", ["out/deep", "log/reports/one"])
@pytest.mark.parametrize("over", [False, True])
def test_killed_before_the_entry_nothing_of_it_stays(
    log: Log, tmp_path: Path, where: str, over: bool
) -> None:
    folder = tmp_path / where
    if over:
        place(log, folder, {name: b"old" for name in FILES})
    again = killed(log, False, lambda: place(log, folder))
    assert "a.json.new" in names(folder) and again.layout.placing.exists()
    assert verify(log.layout.root).ok, "the log knows of what waits"
    erase.heal(again)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == (
        {name: b"old" for name in FILES} if over else {}
    )
    assert (tmp_path / "out").exists() == (over and where.startswith("out"))
    assert not again.layout.placing.exists() and verify(log.layout.root).ok


@pytest.mark.parametrize("where", ["out/deep", "log/reports/one"])
@pytest.mark.parametrize("over", [False, True])
def test_killed_after_the_entry_it_is_put_in_place(log: Log, tmp_path: Path, where: str, over: bool) -> None:
    folder = tmp_path / where
    if over:
        place(log, folder, {name: b"old" for name in FILES})
    again = killed(log, True, lambda: place(log, folder))
    assert erase.heal(again) == []
    assert {name: (folder / name).read_bytes() for name in names(folder)} == FILES
    assert not again.layout.placing.exists() and verify(log.layout.root).ok


def test_whoever_writes_next_ends_it_without_being_asked(log: Log, tmp_path: Path) -> None:
    again = killed(log, True, lambda: place(log, tmp_path / "one"))
    with again.writing():
        assert names(tmp_path / "one") == sorted(FILES)
    again = killed(again, False, lambda: place(again, tmp_path / "two"))
    with again.writing():
        assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("entered", [False, True])
def test_an_erasure_in_between_misses_no_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entered: bool
) -> None:
    small_log.cheap_training(monkeypatch)
    log, raters = small_log.plain(tmp_path / "log")
    folder = tmp_path / "policies" / "second"
    again = killed(log, entered, lambda: retrain.retrain(log, folder))
    erased = erase.apply(again, raters[1])
    assert [policy["name"] for policy in erased.done["policies"]] == ["second"] * entered
    left = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and "log" not in path.relative_to(tmp_path).parts
    ]
    assert bool(left) == entered
    assert not [path for path in left if raters[1].encode() in path.read_bytes()]
    assert verify(log.layout.root).ok


def test_the_same_files_are_entered_once(log: Log, tmp_path: Path) -> None:
    for _ in range(2):
        place(log, tmp_path / "out")
    assert sum(1 for _ in log.ledger.of("report")) == 1
    (tmp_path / "out" / "a.json").unlink()
    place(log, tmp_path / "out")
    assert names(tmp_path / "out") == sorted(FILES) and verify(log.layout.root).ok
    place(log, tmp_path / "out", FILES | {"a.json": b"other"})
    artefacts.removed(log, ArtefactKind.REPORT, "../out")
    place(log, tmp_path / "out", FILES | {"a.json": b"other"})
    assert sum(1 for _ in log.ledger.of("report")) == 3


def test_what_is_replaced_is_overwritten_on_the_disk(log: Log, tmp_path: Path) -> None:
    place(log, tmp_path / "out", {"a.json": b"an old answer"})
    with (tmp_path / "out" / "a.json").open("rb") as held:
        place(log, tmp_path / "out", {"a.json": b"new"})
        assert len(old := held.read()) == 13 and old != b"an old answer"


def test_somebodys_own_files_are_left_alone(log: Log, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "a.json.new").write_text("mine")
    (folder / "linked").write_text("mine")
    (folder / "b.html").symlink_to("linked")
    with pytest.raises(UsageError, match=r"something else"):
        place(log, folder)
    (folder / "a.json.new").rename(folder / "c.new")
    place(log, folder)
    assert [(folder / name).read_text() for name in ("notes.txt", "c.new", "linked")] == ["mine"] * 3
    assert (folder / "b.html").read_bytes() == b"two" and not (folder / "b.html").is_symlink()
    (folder / "b.html").unlink()
    (folder / "b.html").mkdir()
    size = log.ledger.head.size
    with pytest.raises(UsageError):
        place(log, folder, {"b.html": b"three"})
    assert log.ledger.head.size == size and not log.layout.placing.exists()


def _forged(log: Log, raw: bytes, how: str) -> bytes:
    body = json.loads(raw)
    if how == "unsigned":
        return json.dumps({name: value for name, value in body.items() if name != "signature"}).encode()
    if how in ("another path", "another log"):
        body |= {"path": "../precious"} if how == "another path" else {"log_id": "0" * 16}
        key = Ed25519PrivateKey.generate() if how == "another path" else small_log.KEY
        del body["signature"]
        return json.dumps(body | {"signature": key.sign(canonical.json_bytes(body)).hex()}).encode()
    return {"empty": b"", "cut": raw[:-20], "list": b"[]", "deep": b"[" * 99999}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "list", "deep", "unsigned", "another path", "another log"])
def test_an_intent_that_the_log_did_not_write_does_nothing(log: Log, tmp_path: Path, how: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.json.new").write_text("mine")
    again = killed(log, False, lambda: place(log, tmp_path / "out"))
    again.layout.placing.write_bytes(_forged(log, again.layout.placing.read_bytes(), how))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(LogError, match=r"placing\.json"), again.writing():
        pass
    assert len(erase.heal(again)) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "placing.json" in [problem.file for problem in verify(log.layout.root).problems]


def test_a_folder_that_was_moved_away_holds_nobody_up(log: Log, tmp_path: Path) -> None:
    for entered in (False, True):
        folder = tmp_path / f"out-{entered}"
        again = killed(
            Log(log.layout.root), entered, lambda folder=folder: place(Log(log.layout.root), folder)
        )
        folder.rename(tmp_path / f"moved-{entered}")
        erase.heal(again)
        assert not again.layout.placing.exists() and not folder.exists()


def test_a_place_that_refuses_leaves_the_intent_for_later(log: Log, tmp_path: Path) -> None:
    again = killed(log, True, lambda: place(log, tmp_path / "out"))
    with pytest.MonkeyPatch.context() as patched:

        def refused(*_: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        patched.setattr(durable, "destroy", refused)
        assert len(erase.heal(again)) == 1
    assert again.layout.placing.exists()
    assert erase.heal(again) == [] and names(tmp_path / "out") == sorted(FILES)


@pytest.mark.parametrize("publisher", ["retrain", "report"])
def test_an_unwritable_place_is_refused_before_the_work(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publisher: str
) -> None:
    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("rlhf_audit.replay.retrain.trainer.train", worked)
    monkeypatch.setattr("rlhf_audit.reports.publish.runner.run", worked)
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for folder in (Path("/proc/x"), Path("/sys/x/y"), tmp_path / ("x" * 300), loop / "x"):
        with pytest.raises(OSError) as refused:
            retrain.retrain(log, folder) if publisher == "retrain" else publish.publish(log, folder)
        assert refused.value.errno, folder
    assert not log.layout.placing.exists() and verify(log.layout.root).ok


def driven(work: Path, name: str, how: str, every: int) -> dict[str, int]:
    command = [sys.executable, str(DRIVER), name, how, str(work), str(every)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2500:]
    tally: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return tally


@pytest.mark.parametrize(
    ("name", "how", "every"),
    [
        ("retrain-over", "crash", 23),
        ("retrain", "refuse", 19),
        ("report-outside", "full", 19),
        ("enroll", "crash", 7),
        ("enroll", "refuse", 3),
        ("enroll", "full", 5),
        ("init", "crash", 13),
        ("init", "refuse", 11),
        ("init", "full", 17),
    ],
)
def test_crashed_or_refused_it_is_the_old_state_or_the_new(
    name: str, how: str, every: int, tmp_path: Path
) -> None:
    assert driven(tmp_path, name, how, every)["struck"] >= 2


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["crash", "refuse", "full"])
@pytest.mark.parametrize(
    "name", ["retrain", "retrain-over", "record-to", "report-inside", "report-outside", "enroll", "init"]
)
def test_killed_or_refused_at_every_change_of_the_disk(name: str, how: str, tmp_path: Path) -> None:
    tally = driven(tmp_path, name, how, 1)
    print(f"{name}: {tally['struck']} of {tally['changes']} changes struck ({how}): the old state or the new")
