"""The little of git that anchors need, by the ``git`` program."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rlhf_audit.errors import LedgerError, StorageError


def is_repository(folder: Path) -> bool:
    """Say whether a folder is the top of a git repository, bare or not; one below such a top is not."""
    is_bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
    return is_bare or (folder / ".git").exists()


def check_writable(repository: Path) -> None:
    """Refuse a repository that no commit can be made in, before anything is written.

    Raises:
        StorageError: There is no git, no work tree, or git does not know who commits.
    """
    if not (repository / ".git").exists():
        raise _refused("a bare repository takes no anchor", "no work tree", "git clone it, and anchor there")
    if _run(repository, "var", "GIT_COMMITTER_IDENT").returncode:
        raise _refused(
            "git does not know who commits", "no user.name or user.email", "git config --global user.email …"
        )


def commit(repository: Path, name: str, message: str) -> None:
    """Commit one file; nothing else of what is staged. One that is committed already is left.

    Raises:
        StorageError: git refused.
    """
    added = _run(repository, "add", "--force", "--", name)
    if not added.returncode and not _run(repository, "diff", "--cached", "--quiet", "--", name).returncode:
        return
    done = added if added.returncode else _run(repository, "commit", "--quiet", "-m", message, "--", name)
    if done.returncode:
        raise _refused(
            "git did not commit the checkpoint",
            f"exit code {done.returncode}; the checkpoint is in the folder, uncommitted",
            f"git -C PATH commit -- {name}, or run anchor again",
        )


def committed(repository: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file at the top of the newest commit that ends in ``suffix``.

    Raises:
        LedgerError: It can't be read.
        StorageError: There is no git.
    """
    listed = _run(repository, "ls-tree", "-z", "--full-tree", "HEAD")
    is_new = _run(repository, "rev-parse", "--quiet", "--verify", "HEAD").returncode == 1
    if listed.returncode and not is_new:
        raise LedgerError(
            "that git repository can't be read",
            seen=f"git says exit code {listed.returncode}",
            needed="a repository that anchor committed to",
            fix="rlhf-audit anchor LOG --to PATH",
        )
    for line in listed.stdout.split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        _, kind, digest = facts.decode().split(" ")
        if kind == "blob" and name.endswith(suffix.encode()):
            blob = _run(repository, "cat-file", "blob", digest)
            if blob.returncode:
                raise LedgerError(f"{os.fsdecode(name)!r} can't be read from that git repository")
            yield os.fsdecode(name), blob.stdout


def _run(repository: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("git")
    if program is None:
        raise _refused("that is a git repository, and there is no git here", "no program git", "install git")
    # Those that a hook sets would lead to another repository.
    leading = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
    surroundings = {name: value for name, value in os.environ.items() if name not in leading}
    return subprocess.run(
        [program, "-C", os.fspath(repository), *args], capture_output=True, env=surroundings, check=False
    )


def _refused(what: str, seen: str, fix: str) -> StorageError:
    return StorageError(what, seen=seen, needed="a git repository that can be committed to", fix=fix)
