"""Nothing of an erased rater is on the disk's own blocks: an ext4 image, searched byte by byte.

Needs root and a loop device; where either is missing it fails, and says so. ``data=ordered`` is ext4's
default: file contents do not go through its journal. What drives and other file systems keep is beyond it.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.consent import register
from rlhf_audit.log import journal, keys
from rlhf_audit.log.compaction import compact
from rlhf_audit.log.store import Log
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, hold, residue

pytestmark = pytest.mark.sweep

ALIAS = "Zebedee Quite-Unusual"
GROUPS = {"language": "Rare Volapük"}
REASON = "case of Erika Extraordinary"


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mount the image there; everything is on it when this ends."""
    done = subprocess.run(
        ["mount", "-o", "loop,data=ordered", str(image), str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"this sweep needs root and a loop device, to mount an ext4 image: {done.stderr.strip()}")
    try:
        yield place
    finally:
        os.sync()
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> tuple[Path, Path]:
    """An empty ext4 image, and where it can be mounted."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    place.mkdir()
    return image, place


def pieces(data: bytes, others: bytes) -> list[bytes]:
    """Return stretches of a file that stand in no other file."""
    found = [data[start : start + 24] for start in range(0, len(data) - 24, max(24, len(data) // 40))]
    return [piece for piece in found if piece not in others and len(set(piece)) > 8]


def secrets_of(log: Log, rater_id: str, kept: list[bytes]) -> dict[str, list[bytes]]:
    """Return what must not be anywhere, by what it is: spelt in every way, or as it was in the file."""
    key = keys.read(log.layout, rater_id)
    others = b"".join(path.read_bytes() for path in log.layout.files() if rater_id not in path.as_posix())
    told = {
        "MAC key": key.mac_key,
        "code hash": key.code_hash,
        "code salt": key.code_salt,
        "alias": ALIAS.encode(),
        "groups": GROUPS["language"].encode(),
        "hold": REASON.encode(),
    }
    found = {name: list(residue.encodings(value)) for name, value in told.items()}
    found["key file"] = pieces(log.layout.key_file(rater_id).read_bytes(), others)
    for path in sorted(log.layout.rater_folder(rater_id).iterdir()):
        found[path.name] = pieces(path.read_bytes(), others)
    found["journal"] = [piece for data in kept for piece in pieces(data, others)]
    return found


def on_disk(image: Path, secrets: dict[str, list[bytes]]) -> set[str]:
    raw = image.read_bytes()
    return {name for name, spelt in secrets.items() if any(one in raw for one in spelt if len(one) > 3)}


@pytest.mark.parametrize("compacted", [False, True], ids=["as recorded", "compacted"])
def test_an_ext4_image_holds_nothing_of_them_afterwards(
    disk: tuple[Path, Path], compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, place = disk
    kept: list[bytes] = []
    real: Callable[..., None] = journal.discard

    def seen(layout: object, session_id: str) -> None:
        folder = layout.journal_folder(session_id)  # type: ignore[attr-defined]
        events = [path.read_bytes() for path in folder.rglob("events*") if path.is_file()]
        kept.extend(data for data in events if who[-1:] and who[-1].encode() in data)
        real(layout, session_id)

    who: list[str] = []
    monkeypatch.setattr(journal, "discard", seen)
    with mounted(image, place):
        log = small_log.empty(place / "log")
        other = small_log.join(log, alias="Somebody Else")
        first = small_log.acts(log, other)
        rater_id, _ = register.enrol(log, ALIAS, GROUPS, "oracle")
        register.give(log, rater_id, small_log.BOTH, "scripted")
        who.append(rater_id)
        for seed in range(3):
            small_log.rates(log, rater_id, first, seed=seed)
        hold.place(log, rater_id, REASON)
        hold.lift(log, rater_id)
        assert kept
        if compacted:
            compact(log)
        secrets = secrets_of(log, rater_id, kept)
        assert all(secrets.values()), {name: len(spelt) for name, spelt in secrets.items()}
    # The positive control: what is there is found. The journal's copy and the hold's reason never stay.
    there = {"MAC key", "code hash", "code salt", "alias", "groups", "key file"}
    files = {name for name in secrets if name.endswith(".parquet")}
    assert files and on_disk(image, secrets) == there | files
    with mounted(image, place):
        assert erase.apply(Log(place / "log"), rater_id).clean
        assert verify(place / "log").ok
    assert on_disk(image, secrets) == set()


def test_unlinking_alone_leaves_them_there(disk: tuple[Path, Path]) -> None:
    """The other control: without overwriting, this search finds what was unlinked."""
    image, place = disk
    with mounted(image, place):
        log, raters = small_log.plain(place / "log", 2)
        secrets = secrets_of(log, raters[1], [])
        secrets = {
            name: spelt for name, spelt in secrets.items() if name == "key file" or name.endswith(".parquet")
        }
        assert len(secrets) == 2 and all(secrets.values())
    with mounted(image, place):
        log.layout.key_file(raters[1]).unlink()
        for path in log.layout.rater_folder(raters[1]).iterdir():
            path.unlink()
    assert on_disk(image, secrets) == set(secrets)
