"""Anchors and witnesses: what was published before can't be taken back, by whoever has the key."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))
sys.path.insert(0, str(Path(__file__).parent))

import small_log
import tampering
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import verification
from rlhf_audit.cli.app import main
from rlhf_audit.errors import CheckFailedError, LedgerError, StorageError, UsageError
from rlhf_audit.log import anchors, checkpoint, ledger, merkle, notes
from rlhf_audit.log.store import Log
from rlhf_audit.verification import Beliefs, verify

WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
VKEY = notes.VerifierKey("example.org/witness", WITNESS.public_key().public_bytes_raw(), notes.COSIGNATURE)


@pytest.fixture(autouse=True)
def _nobody_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_PAUSE_S", 0.0)
    monkeypatch.setattr(ledger, "_LOOKS", 1)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return small_log.plain(tmp_path / "log")[0]


def grow(log: Log, n: int = 1) -> None:
    for number in range(n):
        log.append("export", {"path": f"../{number}", "rater_ids": []})


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "Operator")
    git(folder, "config", "user.email", "operator@example.org")
    return folder


def test_a_file_holds_the_newest_and_a_folder_all(log: Log, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place, count in ((tmp_path / "file", 1), (tmp_path / "folder", 3)):
        for _ in range(3):
            anchors.write(log, place)
            anchors.write(log, place)
            grow(log)
        found = verify(log.layout.root, Beliefs(place))
        assert found.ok and len(found.since) == count
        leaves = [merkle.leaf_hash(line) for line in log.ledger.lines]
        for one in found.since:
            assert one.proof is not None
            proof = [bytes.fromhex(node) for node in one.proof]
            assert merkle.extends(one.size, len(leaves), bytes.fromhex(one.root), merkle.root(leaves), proof)


def test_a_git_repository_gets_a_commit_each_and_may_be_cloned_bare(
    log: Log, repository: Path, tmp_path: Path
) -> None:
    (repository / "other").write_text("staged, and not ours to commit")
    git(repository, "add", "other")
    for _ in range(2):
        anchors.write(log, repository)
        anchors.write(log, repository)
        grow(log)
    assert len(git(repository, "log", "--format=%s").splitlines()) == 2
    assert "other" not in git(repository, "ls-tree", "--name-only", "HEAD")
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "bare")
    for place in (repository, tmp_path / "bare"):
        assert len(verify(log.layout.root, Beliefs(place)).since) == 2
    with pytest.raises(StorageError, match="bare"):
        anchors.write(log, tmp_path / "bare")
    # What counts is what was committed.
    for path in repository.glob("*.checkpoint"):
        path.unlink()
    assert len(verify(log.layout.root, Beliefs(repository)).since) == 2


def test_without_git_or_a_name_it_is_said_so(
    log: Log, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "config", "--unset", "user.email")
    git(repository, "config", "user.useConfigOnly", "true")
    with pytest.raises(StorageError, match="who commits"):
        anchors.write(log, repository)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StorageError, match="no git"):
        anchors.write(log, repository)
    assert not list(repository.glob("*.checkpoint"))


def test_a_fork_and_a_rollback_are_told_apart_and_bracketed(log: Log, tmp_path: Path) -> None:
    shutil.copytree(log.layout.root, tmp_path / "kept")
    folder = tmp_path / "anchors"
    folder.mkdir()
    anchors.write(log, folder)
    n_before = len(log.ledger.entries)
    grow(log, 3)
    anchors.write(log, folder)
    entries = [json.loads(line) for line in log.ledger.lines]
    entries[n_before + 1]["path"] = "../rewritten"
    tampering._resign(log.layout, log.ledger.origin, entries)
    assert verify(log.layout.root).ok
    (problem,) = verify(log.layout.root, Beliefs(folder)).problems
    assert f"in its entries {n_before + 1} to {n_before + 3}" in problem.problem
    with pytest.raises(CheckFailedError, match="rewritten"):
        anchors.write(Log(log.layout.root), folder)
    shutil.rmtree(log.layout.root)
    shutil.copytree(tmp_path / "kept", log.layout.root)
    grow(Log(log.layout.root))
    (problem,) = verify(log.layout.root, Beliefs(folder)).problems
    assert "rolled back" in problem.problem


def test_what_is_no_checkpoint_of_this_log_is_refused(log: Log, tmp_path: Path) -> None:
    other = small_log.empty(tmp_path / "other", seed=9)
    anchors.write(other, tmp_path / "others")
    (tmp_path / "text").write_text("no note")
    (tmp_path / "empty").mkdir()
    for place, error in (
        ("others", UsageError),
        ("text", LedgerError),
        ("empty", UsageError),
        ("none", UsageError),
    ):
        with pytest.raises(error):
            verify(log.layout.root, Beliefs(tmp_path / place))
    with pytest.raises(UsageError):
        anchors.write(log, tmp_path / "others")
    with pytest.raises(UsageError, match="in the log itself"):
        anchors.write(log, log.layout.root / "anchor")
    thief = Ed25519PrivateKey.generate()
    now = notes.parse(log.ledger.note)
    (tmp_path / "forged").write_bytes(notes.sign(now.text, log.ledger.origin, thief).to_bytes())
    (problem,) = verify(log.layout.root, Beliefs(tmp_path / "forged")).problems
    assert "not signed by a key of this log" in problem.problem


def cosigned(note: notes.Note, key: Ed25519PrivateKey = WITNESS) -> bytes:
    value = (1_700_000_000).to_bytes(8, "big") + key.sign(notes.cosigned(note.text, 1_700_000_000))
    return notes.Note(
        note.text, (*note.signatures, notes.Signature(VKEY.name, VKEY.key_hash, value))
    ).to_bytes()


def test_witnesses(log: Log, tmp_path: Path) -> None:
    place, believing = tmp_path / "anchor", Beliefs(tmp_path / "anchor", [VKEY])
    anchors.write(log, place)
    (problem,) = verify(log.layout.root, believing).problems
    assert problem.file == "ledger/checkpoint" and "example.org/witness" in problem.problem
    plain = notes.parse(place.read_bytes())
    place.write_bytes(cosigned(plain))
    assert verify(log.layout.root, believing).ok
    anchors.write(log, place)
    assert place.read_bytes() == cosigned(plain)
    place.write_bytes(cosigned(plain, small_log.KEY))
    (problem,) = verify(log.layout.root, believing).problems
    assert "anchor" in problem.file and "does not hold" in problem.problem
    # Nobody asked for this witness.
    assert verify(log.layout.root, Beliefs(place)).ok
    log.layout.checkpoint.write_bytes(cosigned(plain))
    assert verify(log.layout.root, Beliefs(witnesses=[VKEY])).ok
    assert tampering.independent().check(log.layout.root) == []


def test_the_command_line(log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, place = str(log.layout.root), str(tmp_path / "anchor")

    def ran(*args: str, code: int = 0) -> dict[str, object]:
        assert main([*args, "--json"]) == code
        text = capsys.readouterr().out
        return json.loads(text)["result"] if text else {}

    size = ran("anchor", root, "--to", place)["size"]
    rotated = ran("rotate-key", root)
    assert rotated["entry"] == size and rotated["lost"] is False and rotated["key_file"]
    found = ran("verify", root, "--since", place)
    assert found["ok"] and found["since"][0]["size"] == size and found["since"][0]["problem"] is None
    ran("verify", root, "--since", place, "--witness", str(VKEY), code=1)
    ran("verify", root, "--witness", "nonsense", code=2)
    ran("verify", root, "--since", str(tmp_path / "nothing"), code=2)
    ran("rotate-key", root, "--lost", code=2)
    for path in checkpoint.signing_key_path().parent.glob("*.key"):
        path.unlink()
    key = ran("rotate-key", root, "--lost")["public_key"]
    ran("verify", root, code=1)
    assert ran("verify", root, "--trust-key", str(key))["ok"]


def test_the_independent_verifier_is_short_and_a_program_of_its_own(log: Log, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "docs" / "verify.py"
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 100 and "rlhf_audit." not in text and "import rlhf" not in text
    anchors.write(log, tmp_path / "anchor")
    run = [sys.executable, "-I", str(script), str(log.layout.root)]
    assert subprocess.run([*run, str(tmp_path / "anchor")], cwd=tmp_path, check=False).returncode == 0
    path = random.Random(1).choice(sorted(log.layout.feedback.rglob("*.parquet")))
    path.write_bytes(path.read_bytes()[:-1])
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and log.layout.relative(path) in done.stderr
