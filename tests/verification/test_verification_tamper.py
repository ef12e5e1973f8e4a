"""Nothing is changed in a log, or in a policy it names, without `verify` saying so and naming the file."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import Full, signing_key  # noqa: F401 - for every test here

from rlhf_audit import verification
from rlhf_audit.errors import LogError, RlhfAuditError
from rlhf_audit.log.store import Log
from rlhf_audit.verification import Verified, verify
from rlhf_audit.withdrawal import erase


@pytest.fixture(autouse=True)
def _nobody_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for another process that might be: the last test has one, and waits."""
    monkeypatch.setattr(verification, "_PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Full:
    return small_log.full().copy(tmp_path_factory.mktemp("tamper") / "home")


def named(home: Path, found: Verified, path: Path) -> bool:
    """Say whether a file below ``home`` is named by what was found in ``home/log``."""
    return Path(os.path.relpath(path, home / "log")).as_posix() in {one.file for one in found.problems}


def found_in(root: Path) -> Verified:
    """What the verb finds: it heals first, as far as it may, and says it when the format is another."""
    with contextlib.suppress(RlhfAuditError):
        erase.heal(Log(root), repeat=False)
    return verify(root)


def flips(full: Full, count: int, seed: int) -> list[str]:
    """Flip one byte at random places over all files, one at a time; return those that went unseen."""
    rng = random.Random(seed)
    files = small_log.every_file(full.home)
    sizes = [path.stat().st_size for path in files]
    unseen = []
    for number in range(count):
        # Every second one in a file drawn by its size, the others in any: keys and checkpoints are small.
        path = rng.choices(files, sizes if number % 2 else None)[0]
        raw = path.read_bytes()
        place, change = rng.randrange(len(raw)), rng.randrange(1, 256)
        path.write_bytes(raw[:place] + bytes([raw[place] ^ change]) + raw[place + 1 :])
        try:
            found = verify(full.root)
            seen = not found.ok and named(full.home, found, path)
        except LogError as error:
            seen = "log.json" in str(error) and path.name == "log.json"
        if not seen:
            unseen.append(f"{path.relative_to(full.home)} byte {place} ^ {change:#x}: {found.problems}")
        path.write_bytes(raw)
    return unseen


def test_the_log_has_one_of_everything_and_is_right(whole: Full) -> None:
    found = verify(whole.root)
    assert found.ok, found.problems
    folders = {path.relative_to(whole.home).parts[1] for path in small_log.every_file(whole.home)}
    assert folders >= {"log.json", "ledger", "terms", "episodes", "steps", "feedback", "keys", "reports"}
    assert folders >= {"receipts", "live", "offline"}
    events = {entry.event for entry in Log(whole.root).ledger.entries}
    assert events >= {"created", "terms", "enrolled", "consent", "session", "training", "report", "receipt"}
    assert events >= {"withdrawal", "erasure-intent", "erasure-done"}
    assert found.entries == len(Log(whole.root).ledger.entries)


def test_a_flipped_byte_is_seen(whole: Full) -> None:
    assert flips(whole, 60, seed=1) == []
    assert verify(whole.root).ok


@pytest.mark.sweep
def test_500_flipped_bytes_are_seen(whole: Full) -> None:
    unseen = flips(whole, 500, seed=2)
    n_files = len(small_log.every_file(whole.home))
    print(f"500 flipped bytes over {n_files} files: {len(unseen)} unseen")
    assert unseen == []


@pytest.mark.sweep
def test_every_byte_of_the_small_files_is_checked(whole: Full) -> None:
    unseen, count = [], 0
    for path in small_log.every_file(whole.home):
        if path.name in ("log.json", "checkpoint") or path.suffix == ".key":
            raw = path.read_bytes()
            for place in range(len(raw)):
                path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
                count += 1
                try:
                    found = verify(whole.root)
                    if found.ok or not named(whole.home, found, path):
                        unseen.append((path.name, place))
                except LogError as error:
                    if "log.json" not in str(error):
                        unseen.append((path.name, place))
            path.write_bytes(raw)
    print(f"{count} flipped bytes in header, checkpoint and keys: {len(unseen)} unseen")
    assert unseen == []


def emptied(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path, _: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def longer(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def linked(path: Path, elsewhere: Path) -> None:
    shutil.copy(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


def a_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def removed(path: Path, _: Path) -> None:
    path.unlink()


CHANGES: list[Callable[[Path, Path], None]] = [removed, emptied, truncated, longer, linked, a_folder]


@pytest.mark.parametrize("change", CHANGES)
def test_every_file_is_missed_when_it_is(change: Callable[[Path, Path], None], tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    for path in small_log.every_file(full.home):
        raw = path.read_bytes()
        change(path, tmp_path / "elsewhere")
        try:
            found = found_in(full.root)
            assert not found.ok and named(full.home, found, path), (change.__name__, path, found.problems)
        except LogError as error:
            assert change is removed and path.name == "log.json" and "no log here" in str(error)
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(raw)
    assert verify(full.root).ok


def kind(path: Path, home: Path) -> str:
    return path.suffix + path.relative_to(home).parts[1]


def test_two_of_a_kind_swapped_are_both_named(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    files = small_log.every_file(full.home)
    swaps = 0
    for i, one in enumerate(files):
        for other in files[i + 1 :]:
            if kind(one, full.home) != kind(other, full.home) or one.read_bytes() == other.read_bytes():
                continue
            a, b = one.read_bytes(), other.read_bytes()
            one.write_bytes(b)
            other.write_bytes(a)
            found = found_in(full.root)
            assert named(full.home, found, one) and named(full.home, found, other), (one, other, found)
            one.write_bytes(a)
            other.write_bytes(b)
            swaps += 1
    assert swaps >= 8
    assert verify(full.root).ok


def copies(path: Path, log: Log) -> list[Path]:
    """Other names that a copy could go by without being seen."""
    found = [path.with_name(name) for name in ("copy" + path.suffix, "." + path.name)]
    if path.suffix == ".parquet":
        found += [path.with_name("s-0099.parquet"), log.layout.rater_folder("r-00000000") / path.name]
    if path.suffix == ".key":
        found.append(path.with_name("r-00000000.key"))
    if path.suffix == ".md":
        found.append(path.with_name(f"{'0' * 64}.md"))
    if path.parent.name == "receipts":
        found.append(path.with_name(f"receipt-0099{path.suffix}"))
    if path.parent.name == "one":
        found.append(path.parent.with_name("two") / path.name)
    return found


def test_a_copy_under_another_name_is_named(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    log = Log(full.root)
    for path in small_log.every_file(full.root):
        for other in copies(path, log):
            made = not other.parent.exists()
            other.parent.mkdir(exist_ok=True)
            shutil.copy(path, other)
            found = found_in(full.root)
            assert other.exists() and named(full.home, found, other), (path, other, found.problems)
            other.unlink()
            if made:
                other.parent.rmdir()
    assert verify(full.root).ok


def test_unknown_files_links_and_pipes_are_named_wherever_they_are(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    folders = [full.root, *sorted(path for path in full.root.rglob("*") if path.is_dir())]
    for folder in folders:
        for name in ("unknown", ".hidden", "events.jsonl", "with\nnewline", "é"):
            (folder / name).write_bytes(b"" if name == "unknown" else b"x")
            found = found_in(full.root)
            assert named(full.home, found, folder / name), (folder, name)
            (folder / name).unlink()
        (folder / "link").symlink_to("/nowhere")
        os.mkfifo(folder / "pipe")
        found = found_in(full.root)
        assert named(full.home, found, folder / "link") and named(full.home, found, folder / "pipe")
        (folder / "link").unlink()
        (folder / "pipe").unlink()
    assert verify(full.root).ok


def test_a_folder_replaced_by_a_link_to_its_copy_is_named(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    for folder in sorted(path for path in full.root.rglob("*") if path.is_dir() and any(path.iterdir())):
        aside = tmp_path / "aside"
        folder.rename(aside)
        folder.symlink_to(aside)
        found = found_in(full.root)
        assert any(one.file.startswith(folder.relative_to(full.root).as_posix()) for one in found.problems)
        folder.unlink()
        aside.rename(folder)
    assert verify(full.root).ok


def test_locks_must_be_empty(whole: Full) -> None:
    for path in (Log(whole.root).layout.lock, Log(whole.root).layout.ledger_lock):
        path.write_bytes(b"x")
        found = verify(whole.root)
        assert named(whole.home, found, path)
        path.write_bytes(b"")
    assert verify(whole.root).ok


def test_an_erasure_that_never_ended_is_named(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    log.append("erasure-intent", {"rater_id": raters[0], "files": []})
    problems = [one.problem for one in verify(log.layout.root).problems]
    assert any("begins an erasure that never ended" in problem for problem in problems)
    assert any("run this again, which goes on with it" in problem for problem in problems)


def test_a_policy_that_was_moved_away_is_no_damage_of_the_log(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    (full.home / "policies").rename(tmp_path / "elsewhere")
    assert verify(full.root).ok


def test_relative_linked_and_moved_logs_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = small_log.full().copy(tmp_path / "home")
    (tmp_path / "link").symlink_to(full.home)
    monkeypatch.chdir(full.home)
    for root in (Path("log"), Path("./log/../log"), tmp_path / "link" / "log"):
        found = verify(root)
        assert found.ok, (root, found.problems)
    monkeypatch.chdir(full.root)
    assert verify(Path()).ok
    path = full.home / "policies" / "live" / "CARD.md"
    path.write_text("x")
    assert [one.file for one in verify(tmp_path / "link" / "log").problems] == ["../policies/live/CARD.md"]


def test_verify_audits_and_show_write_nothing(tmp_path: Path) -> None:
    """On a log that can't be written to, and even where there would be something to heal."""
    from rlhf_audit.audits import runner
    from rlhf_audit.cli._query import fetch
    from rlhf_audit.log import reader, views
    from rlhf_audit.withdrawal import plan

    full = small_log.full().copy(tmp_path / "home")
    os.environ["RLHF_AUDIT_SIGNING_KEY"] = str(tmp_path / "none")
    (full.root / ".lock").unlink(missing_ok=True)
    (full.root / "steps" / "half.tmp").write_bytes(b"half")
    paths = sorted(full.home.rglob("*"))
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in paths}
    log = Log(full.root)
    assert erase.heal(log) == []
    assert [one.file for one in verify(full.root).problems] == ["steps/half.tmp"]
    with views.connect(log, log.clock.now()) as connection:
        assert runner.run(connection)
    assert fetch(log, "SELECT count(*) FROM feedback").values[0][0] > 0
    assert all(reader.session(log, name).facts for name in reader.session_ids(log))
    plan.make(log, full.raters[0])
    after = sorted(full.home.rglob("*"))
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in after} == before
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_log_being_written_gives_no_false_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(small_log.write_key(tmp_path)))
    log, _ = small_log.plain(tmp_path / "log", 2)
    busy = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import small_log
from rlhf_audit.log.store import Log
log = Log(Path(sys.argv[1]))
for n in range(12):
    rater_id = small_log.join(log)
    small_log.rates(log, rater_id, "s-0001")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", busy, str(log.layout.root), str(Path(small_log.__file__).parent)],
        cwd=Path(__file__).parents[2],
    )
    looks = 0
    while process.poll() is None:
        found = verify(log.layout.root)
        assert found.ok, found.problems
        looks += 1
    assert process.returncode == 0 and looks > 3
    assert verify(log.layout.root).ok
