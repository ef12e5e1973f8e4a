"""The recipes of docs/erasure.md, run as they stand there: no key in a backup, and a restore is healed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.cli import app
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, residue

DOCS = (Path(__file__).parents[2] / "docs" / "erasure.md").read_text("utf-8")


def recipe(beginning: str) -> str:
    """Return a line of a code block of the documentation."""
    (line,) = re.findall(rf"^{re.escape(beginning)}.*$", DOCS, re.MULTILINE)
    return line


def run(line: str, where: Path) -> None:
    subprocess.run(["bash", "-euc", line], cwd=where, check=True, capture_output=True)


@pytest.fixture
def backed_up(tmp_path: Path) -> tuple[Log, str, residue.Needles]:
    """A log of which a backup was made, and then one was erased: the log, whom, and what to look for."""
    log, raters = small_log.plain(tmp_path / "study", 3)
    run(recipe("tar --create"), tmp_path)
    shutil.copytree(log.layout.root, tmp_path / "with-keys")
    needles = erase.delete(log, raters[1]).needles
    assert erase.apply(log, raters[1]).clean and verify(log.layout.root).ok
    return log, raters[1], needles


def test_the_recipe_leaves_the_keys_out(backed_up: tuple[Log, str, residue.Needles], tmp_path: Path) -> None:
    _, rater_id, needles = backed_up
    names = (
        subprocess.run(
            ["tar", "--list", "--zstd", "--file", "backup.tar.zst"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .split()
    )
    assert "study/ledger/entries.jsonl" in names and any(rater_id in name for name in names)
    assert not [name for name in names if re.search("/(keys|journal)/.", name)]
    raw = (tmp_path / "backup.tar.zst").read_bytes()
    assert needles.known and not residue.holds(raw, needles.secret)
    assert residue.holds((tmp_path / "with-keys/keys" / f"{rater_id}.key").read_bytes(), needles.secret)


def test_a_restore_over_the_log_is_named_and_erased_again(
    backed_up: tuple[Log, str, residue.Needles], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, rater_id, needles = backed_up
    root = log.layout.root
    ledger = {path: path.read_bytes() for path in (log.layout.entries, log.layout.checkpoint)}
    for keyless in (True, False):
        # Everything but the ledger, as somebody does who wants lost files back.
        if keyless:
            run(recipe("tar --extract"), tmp_path)
        else:
            shutil.copytree(tmp_path / "with-keys", root, dirs_exist_ok=True)
        for path, data in ledger.items():
            path.write_bytes(data)
        named = {problem.file for problem in verify(root).problems}
        assert f"feedback/rater_id={rater_id}/s-0002.parquet" in named
        assert (f"keys/{rater_id}.key" in named) != keyless
        assert app.main(["verify", str(root)]) == 1
        assert app.main(["show", str(root), "sessions"]) == 0
        assert "erased again" in capsys.readouterr().err
        assert verify(root).ok
        assert not residue.scan(Log(root), needles).found
        ledger = {path: path.read_bytes() for path in ledger}


def test_a_whole_backup_stands_alone_and_has_no_key(
    backed_up: tuple[Log, str, residue.Needles], tmp_path: Path
) -> None:
    """What is lost with the keys: the answers are there, and nobody can prove any more whose they are."""
    (tmp_path / "elsewhere").mkdir()
    run(f"tar --extract --zstd --file {tmp_path / 'backup.tar.zst'}", tmp_path / "elsewhere")
    old = Log(tmp_path / "elsewhere" / "study")
    assert not list(old.layout.root.glob("keys/*"))
    problems = {problem.file: problem.problem for problem in verify(old.layout.root).problems}
    assert any(name.startswith("keys/") and problem == "is missing" for name, problem in problems.items())


@pytest.mark.parametrize("beginning", ["rsync", "restic", "borg", "tar --create"])
def test_each_recipe_excludes_keys_and_journals(beginning: str) -> None:
    line = recipe(beginning)
    assert "keys" in line and "journal" in line and "exclude" in line
