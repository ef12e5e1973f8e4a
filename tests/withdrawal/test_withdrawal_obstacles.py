"""Links are followed to what is the rater's and nothing else; what is in the way is named and passed over."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import Full, signing_key  # noqa: F401 - for every test here

from rlhf_audit.cli import app
from rlhf_audit.log import durable, reader
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan
from rlhf_audit.withdrawal.removal import Removal

FOREIGN = b"somebody else's, and to be left alone"


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Full:
    """A log with one of everything; the second rater also taught the policy ``live``."""
    small_log.cheap_training(monkeypatch)
    return small_log.full().copy(tmp_path / "home")


def told(done: erase.Erased) -> dict[str, Any]:
    return json.loads(done.receipt.read_bytes())


def stays(done: erase.Erased) -> str:
    return json.dumps(told(done)["stays"])


def places(full: Full) -> dict[str, Path]:
    """One of each kind of file or folder that holds the second rater."""
    layout, rater_id = Log(full.root).layout, full.raters[1]
    return {
        "key": layout.key_file(rater_id),
        "rows": layout.rater_folder(rater_id),
        "a file of rows": next(layout.rater_folder(rater_id).iterdir()),
        "policy": full.home / "policies" / "offline",
        "weights": full.home / "policies" / "offline" / "weights.npz",
        "report": full.root / "reports" / "one",
        "page": full.root / "reports" / "one" / "report.html",
        "steps": full.root / "steps" / "env=CartPole-v1" / f"{learnt(full)}.parquet",
    }


def learnt(full: Full) -> str:
    return str(next(e.body["session_id"] for e in Log(full.root).ledger.of("session") if e.body["learn"]))


def named(full: Full, path: Path) -> str:
    return Path(os.path.relpath(path, full.root)).as_posix()


EVERY_PLACE = ["key", "rows", "a file of rows", "policy", "weights", "report", "page", "steps"]


@pytest.mark.parametrize("which", EVERY_PLACE[:-1])
def test_what_a_link_leads_to_goes_when_it_is_theirs(which: str, full: Full, tmp_path: Path) -> None:
    path, target = places(full)[which], tmp_path / "store" / "elsewhere"
    target.parent.mkdir()
    path.rename(target)
    path.symlink_to(target)
    before = {one: one.read_bytes() for one in ([target] if target.is_file() else target.iterdir())}
    log = Log(full.root)
    planned = plan.make(log, full.raters[1])
    assert any(note["leads_to"] for note in planned.places)
    done = erase.apply(log, full.raters[1])
    assert done.clean and told(done)["residue_scan"]["found"] == 0 and told(done)["completed_at"]
    assert not any(one.exists() for one in before) and list(target.parent.iterdir()) == []
    assert verify(full.root).ok
    if which in ("policy", "weights"):
        assert not path.is_symlink() and (full.home / "policies/offline/weights.npz").is_file()
        assert next(p for p in done.done["policies"] if p["name"] == "offline")["outcome"] == "retrained"
    if which in ("report", "page"):
        assert not path.is_symlink() and path.exists(), "made again in its own place"


@pytest.mark.parametrize("which", EVERY_PLACE[:-1])
def test_what_a_link_leads_to_is_left_alone_when_it_is_not_theirs(
    which: str, full: Full, tmp_path: Path
) -> None:
    path, target = places(full)[which], tmp_path / "theirs"
    names = [one.name for one in path.iterdir()] if path.is_dir() else []
    path.rename(tmp_path / "moved away")
    if names:
        target.mkdir()
        for name in names:
            (target / name).write_bytes(FOREIGN)
    else:
        target.write_bytes(FOREIGN)
    path.symlink_to(target)
    log = Log(full.root)
    planned = plan.make(log, full.raters[1]).to_json()
    done = erase.apply(log, full.raters[1])
    left = [target / name for name in names] if names else [target]
    assert all(one.read_bytes() == FOREIGN for one in left)
    assert not path.is_symlink(), "our link goes"
    assert not done.clean and named(full, path) in stays(done) and named(full, target) in stays(done)
    assert planned["left"] == done.to_json()["left"]
    receipt = told(done)
    assert receipt["completed_at"] is None, "the page says that it is not complete"
    assert receipt["deleted"]["key"] == (which != "key")
    if which in ("rows", "a file of rows"):
        assert receipt["deleted"]["rows"] < done.done["rows"]
    assert erase.heal(Log(full.root)) == []


def test_steps_behind_a_link_are_blanked_where_they_are(full: Full, tmp_path: Path) -> None:
    path, target = places(full)["steps"], tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    log, before = Log(full.root), target.read_bytes()
    removal = Removal(log, full.raters[1])
    removal.redact(learnt(full))
    assert path.is_symlink() and target.read_bytes() != before and not removal.blocked
    steps = [step for episode in reader.session(log, learnt(full)).episodes for step in episode.steps]
    assert steps and all(step.action_probability is None for step in steps)
    assert not removal.notes[named(full, path)]["stays"]


@pytest.mark.parametrize("how", [os.symlink, os.link])
def test_steps_that_are_not_the_ledgers_are_neither_blanked_nor_overwritten(
    how: Callable[[Path, Path], None], full: Full, tmp_path: Path
) -> None:
    path, target = places(full)["steps"], tmp_path / "theirs"
    target.write_bytes(FOREIGN)
    path.unlink()
    how(target, path)
    removal = Removal(Log(full.root), full.raters[1])
    removal.redact(learnt(full))
    assert target.read_bytes() == FOREIGN and not removal.blocked
    assert removal.notes[named(full, path)]["stays"]


def test_a_link_in_place_of_what_all_share_is_followed(full: Full, tmp_path: Path) -> None:
    for folder in (full.home / "policies", full.root / "keys", full.root / "feedback", full.root / "reports"):
        folder.rename(tmp_path / folder.name)
        folder.symlink_to(tmp_path / folder.name)
    foreign = tmp_path / "policies" / "offline" / "notes.txt"
    log, rater_id = Log(full.root), full.raters[1]
    done = erase.apply(log, rater_id)
    assert done.clean and not foreign.exists()
    assert not list((tmp_path / "keys").glob(f"*{rater_id}*"))
    assert not list((tmp_path / "feedback").glob(f"*{rater_id}*"))
    after = {policy["name"]: policy for policy in done.done["policies"]}
    manifest = json.loads((tmp_path / "policies" / "offline" / "manifest.json").read_bytes())
    assert after["offline"]["after"] == manifest["weights_sha256"] != after["offline"]["before"]
    assert rater_id not in [share["rater_id"] for share in manifest["raters"]]
    assert not (tmp_path / "policies" / "live").exists()
    assert rater_id.encode() not in (tmp_path / "reports" / "one" / "report.json").read_bytes()
    assert erase.heal(Log(full.root)) == []


@pytest.mark.parametrize("which", ["key", "a file of rows", "weights", "page", "steps"])
def test_other_names_of_a_file_of_theirs_hold_nothing_afterwards(
    which: str, full: Full, tmp_path: Path
) -> None:
    path, other = places(full)[which], tmp_path / "other name"
    os.link(path, other)
    before = other.read_bytes()
    done = erase.apply(Log(full.root), full.raters[1])
    assert done.clean and other.stat().st_size == len(before)
    assert before[:200] not in other.read_bytes() and b"PAR1" not in other.read_bytes()
    assert "other names" in stays(done) and named(full, path) in stays(done)
    assert verify(full.root).ok


@pytest.mark.parametrize("which", ["key", "a file of rows", "weights", "page", "steps"])
def test_a_foreign_file_under_one_of_our_names_is_never_overwritten(
    which: str, full: Full, tmp_path: Path
) -> None:
    path, other = places(full)[which], tmp_path / "other name"
    other.write_bytes(FOREIGN)
    path.unlink()
    os.link(other, path)
    done = erase.apply(Log(full.root), full.raters[1])
    assert other.read_bytes() == FOREIGN
    assert not done.clean and named(full, path) in stays(done)
    assert erase.heal(Log(full.root)) == []


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_bytes(FOREIGN)


def a_dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def a_link_to_a_folder(path: Path) -> None:
    a_folder(path.with_name("a folder of somebody"))
    path.symlink_to(path.with_name("a folder of somebody"))


@pytest.mark.parametrize("which", ["key", "weights", "page", "steps"])
@pytest.mark.parametrize("put", [a_folder, os.mkfifo, a_dangling_link, a_link_to_a_folder])
def test_an_obstacle_is_named_and_everything_else_is_destroyed(
    which: str, put: Callable[[Path], None], full: Full, tmp_path: Path
) -> None:
    log, rater_id = Log(full.root), full.raters[1]
    path = places(full)[which]
    path.rename(tmp_path / "moved away")
    put(path)
    assert named(full, path) in [o["path"] for o in plan.make(log, rater_id).to_json()["obstacles"]]
    with pytest.raises(erase.UnfinishedError) as caught:
        erase.apply(log, rater_id)
    assert list(caught.value.blocked) == [named(full, path)] and named(full, path) in caught.value.seen
    assert os.path.lexists(path) and str(tmp_path) not in str(caught.value)
    assert which == "key" or not log.layout.key_file(rater_id).exists()
    assert not log.layout.rater_folder(rater_id).exists()
    assert not (full.home / "policies" / "live").exists()
    # Not done, not forgotten, and said once.
    assert not [e for e in log.ledger.of("erasure-done", "receipt") if e.body["rater_id"] == rater_id]
    said, size = erase.heal(Log(full.root)), len(Log(full.root).ledger.entries)
    assert len(said) == 1 and "is not finished" in said[0] and named(full, path) in said[0]
    erase.heal(Log(full.root))
    assert len(Log(full.root).ledger.entries) == size
    problems = {one.file: one.problem for one in verify(full.root).problems}
    assert "in the way of an erasure" in problems[named(full, path)]
    assert any("never ended" in problem for problem in problems.values())
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    done = erase.apply(Log(full.root), rater_id)
    assert told(done)["residue_scan"]["found"] == 0
    # What was moved away was not destroyed by us, and the receipt does not say so.
    assert told(done)["deleted"]["key"] == (which != "key")
    assert erase.heal(Log(full.root)) == []
    if which != "steps":
        assert [p for p in verify(full.root).problems if "somebody" not in p.file] == []


def test_a_pipe_among_the_rows_delays_nobody(full: Full) -> None:
    log, layout = Log(full.root), Log(full.root).layout
    os.mkfifo(layout.rater_folder(full.raters[1]) / "pipe")
    (layout.rater_folder(full.raters[1]) / "sub").mkdir()
    (layout.rater_folder(full.raters[1]) / "sub" / "more").write_bytes(b"x")
    with pytest.raises(erase.UnfinishedError) as caught:
        erase.apply(log, full.raters[1])
    assert caught.value.blocked == {"feedback/.erasing/pipe": "is a pipe"}
    # Another rater's erasure is not kept from ending by what was left of the first.
    with pytest.raises(erase.UnfinishedError):
        erase.apply(log, full.raters[2])
    assert not layout.rater_folder(full.raters[2]).exists() and not layout.key_file(full.raters[2]).exists()
    (layout.feedback / ".erasing" / "pipe").unlink()
    assert erase.heal(Log(full.root)) == ["completed an erasure that had been cut short"] * 2
    assert verify(full.root).ok and not any(layout.feedback.glob(".erasing*"))


@pytest.mark.parametrize("which", EVERY_PLACE)
def test_what_the_system_refuses_to_destroy_is_an_obstacle(
    which: str, full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An immutable file: neither opened for writing nor renamed nor removed."""
    log, rater_id, path = Log(full.root), full.raters[1], places(full)[which]
    inode = (path if path.is_file() else next(path.iterdir())).stat().st_ino

    def guarded(name: str, owner: Any) -> None:
        plain = getattr(owner, name)

        def refuse(target: Any, *args: Any, **kwargs: Any) -> Any:
            writes = name != "open" or (args and isinstance(args[0], int) and args[0] & os.O_RDWR)
            with_path = isinstance(target, str | os.PathLike) and os.path.lexists(target)
            if writes and with_path and os.lstat(target).st_ino == inode:
                raise PermissionError(1, "Operation not permitted", os.fspath(target))
            return plain(target, *args, **kwargs)

        monkeypatch.setattr(owner, name, refuse)

    with monkeypatch.context():
        for name in ("open", "unlink", "rename", "chmod"):
            guarded(name, os)
        with pytest.raises(erase.UnfinishedError) as caught:
            erase.apply(log, rater_id)
        assert all("Operation not permitted" in why for why in caught.value.blocked.values())
        assert which == "key" or not log.layout.key_file(rater_id).exists()
        assert not log.layout.rater_folder(rater_id).exists()
        assert len(erase.heal(Log(full.root))) == 1
    monkeypatch.undo()
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(small_log.write_key(full.home.parent)))
    small_log.cheap_training(monkeypatch)
    assert erase.heal(Log(full.root)) == ["completed an erasure that had been cut short"]
    assert verify(full.root).ok


def test_a_linked_journal_goes_too(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    words = f'{{"rater_id":"{raters[1]}"}} what they gave'.encode()
    for number, how in enumerate(("folder", "file")):
        folder, away = log.layout.journal / f"s-000{number + 7}", tmp_path / how
        away.mkdir()
        (away / "events.jsonl").write_bytes(words)
        if how == "folder":
            folder.symlink_to(away)
        else:
            folder.mkdir()
            (folder / "events.jsonl").symlink_to(away / "events.jsonl")
    erase.apply(log, raters[1])
    assert not any(log.layout.journal.iterdir())
    assert not any((tmp_path / "folder").iterdir()) and not any((tmp_path / "file").iterdir())


def test_a_key_that_is_put_back_after_an_obstacle_is_destroyed(full: Full, tmp_path: Path) -> None:
    key, away = places(full)["key"], tmp_path / "away"
    key.rename(away)
    os.mkfifo(key)
    with pytest.raises(erase.UnfinishedError):
        erase.apply(Log(full.root), full.raters[1])
    key.unlink()
    away.rename(key)
    done = erase.apply(Log(full.root), full.raters[1])
    assert done.clean and told(done)["deleted"]["key"] and not key.exists()


def test_an_erased_rater_who_comes_back_as_a_link_or_an_obstacle(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    raw = log.layout.key_file(raters[1]).read_bytes()
    erase.apply(log, raters[1])
    key, away = log.layout.key_file(raters[1]), tmp_path / "away"
    away.write_bytes(raw)
    key.symlink_to(away)
    assert len(erase.heal(Log(log.layout.root))) == 1
    assert not away.exists() and not key.is_symlink()
    key.mkdir()
    assert "is a folder" in verify(log.layout.root).problems[0].problem or verify(log.layout.root).problems
    size = len(Log(log.layout.root).ledger.entries)
    for _ in range(2):
        assert "can't be erased again" in erase.heal(Log(log.layout.root))[0]
    assert len(Log(log.layout.root).ledger.entries) == size, "nothing is claimed that did not happen"


def test_the_search_follows_links(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    away = tmp_path / "away"
    (away / "deep").mkdir(parents=True)
    (away / "deep" / "note.txt").write_text(f"all about {raters[1]}")
    (away / "round").symlink_to(away)
    (away / "up").symlink_to(tmp_path)
    os.mkfifo(away / "pipe")
    (log.layout.episodes / "link").symlink_to(away)
    done = erase.apply(log, raters[1])
    assert told(done)["residue_scan"]["places"] == ["episodes/link/deep/note.txt"]
    assert not done.clean and "episodes/link/deep/note.txt" in stays(done)


def test_a_file_that_the_search_can_not_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_audit import canonical

    log, raters = small_log.plain(tmp_path / "log", 2)
    (log.layout.episodes / "locked").write_bytes(b"?")
    plain = canonical.read_file

    def read_file(path: Path) -> bytes:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(canonical, "read_file", read_file)
    done = erase.apply(log, raters[1])
    assert told(done)["residue_scan"]["unread"] == ["episodes/locked"] and not done.clean


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = app.main(list(args))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_verb_names_what_is_in_the_way_and_finishes_afterwards(
    full: Full, capsys: pytest.CaptureFixture[str]
) -> None:
    root, rater_id = str(full.root), full.raters[1]
    key = Log(full.root).layout.key_file(rater_id)
    key.unlink()
    key.mkdir()
    code, out, _ = run(capsys, "erase", root, rater_id)
    assert code == 0 and f"in the way: keys/{rater_id}.key is a folder" in out
    code, out, _ = run(capsys, "erase", root, rater_id, "--apply")
    assert code == 1 and "begun, and not finished" in out
    assert f"in the way: keys/{rater_id}.key is a folder" in out and "receipt" not in out
    for more in ([], ["--apply"]):
        code, out, _ = run(capsys, "erase", root, rater_id, "--json", *more)
        result = json.loads(out)["result"]
        assert code == 1 and result["applied"] and result["receipt"] is None
        assert result["obstacles"] == [{"path": f"keys/{rater_id}.key", "problem": "is a folder"}]
    code, _, err = run(capsys, "show", root, "sessions")
    assert code == 0 and f"keys/{rater_id}.key is a folder" in err, "said at every opening"
    key.rmdir()
    code, out, _ = run(capsys, "erase", root, rater_id, "--apply")
    # It is done, but where the key was moved to nobody knows.
    assert code == 1 and "receipt" in out and "in the way" not in out
    assert f"left      keys/{rater_id}.key is not in its place" in out
    assert run(capsys, "erase", root, rater_id, "--apply")[0] == 2


def test_the_verb_says_what_it_could_not_reach(full: Full, capsys: pytest.CaptureFixture[str]) -> None:
    folder, away = Log(full.root).layout.rater_folder(full.raters[1]), full.home / "away"
    shutil.copytree(folder, away)
    for path in away.iterdir():
        path.write_bytes(FOREIGN)
    shutil.rmtree(folder)
    folder.symlink_to(away)
    code, out, _ = run(capsys, "erase", str(full.root), full.raters[1], "--apply")
    assert code == 1 and "erased; look at what is left" in out and "../away/" in out
    assert all(path.read_bytes() == FOREIGN for path in away.iterdir())


def test_a_tree_is_destroyed_around_what_refuses(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    os.mkfifo(tmp_path / "tree" / "deep" / "pipe")
    for name in ("a", "deep/b", "z"):
        (tmp_path / "tree" / name).write_bytes(b"x")
    with pytest.raises(durable.NoFileError, match="is a pipe"):
        durable.destroy_tree(tmp_path / "tree")
    assert [path.name for path in (tmp_path / "tree").rglob("*")] == ["deep", "pipe"]
