"""What a power cut leaves of a folder: a model that takes nothing for granted which was not synced.

``interpose.c`` kept each file as it was when it was last synced, and the order in which names came, went and
were changed. Of what was not synced any part may be there: of a file each block by itself, and its size; of
the names all up to some moment, as a file system with a journal has it, or any of them. A change of a name is
whole or not at all, and syncing a folder brings every change in it before.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512
Names = dict[int, dict[str, int]]


@dataclass(frozen=True)
class Before:
    """A folder, all of it on the disk.

    Attributes:
        top: Its number.
        names: Of each folder, by number: name and number of what is in it.
        contents: Of each file.
        modes: Of both.
    """

    top: int
    names: Names
    contents: dict[int, bytes]
    modes: dict[int, int]


@dataclass(frozen=True)
class _Change:
    """One change of names.

    Attributes:
        gone: Folder and name that no longer stand for ``number``.
        come: Folder and name that do.
    """

    number: int
    gone: tuple[int, str] | None
    come: tuple[int, str] | None

    @property
    def folders(self) -> set[int]:
        return {place[0] for place in (self.gone, self.come) if place is not None}


def seen(folder: Path) -> Before:
    """Return what is there now."""
    found = Before(folder.stat().st_ino, {}, {}, {})
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found.modes[status.st_ino] = status.st_mode & 0o777
        if path.is_dir():
            found.names[status.st_ino] = {one.name: one.lstat().st_ino for one in path.iterdir()}
        else:
            found.contents[status.st_ino] = path.read_bytes()
    return found


def lay(before: Before, home: Path, shadow: Path, luck: random.Random, to: Path) -> None:
    """Lay down what is left.

    Args:
        before: What was there, and synced, when ``shadow`` was begun.
        home: The folder as its process left it.
        shadow: What was kept beside.
        luck: Draws what of the rest is there.
        to: Where; must not be there.
    """
    now, how = seen(home), luck.choice(("nothing", "all", "up to a moment", "any"))
    changes = list(_changes(shadow))
    last = max((number for number, (_, synced) in enumerate(changes) if synced), default=-1)
    moment = luck.randrange(last + 1, len(changes) + 1)
    names: Names = {number: dict(inner) for number, inner in before.names.items()}
    for number, (change, synced) in enumerate(changes):
        drawn = {"nothing": False, "all": True, "up to a moment": number < moment, "any": luck.random() < 0.5}
        if synced or drawn[how]:
            _apply(change, names)
    folders = set(before.names) | set(now.names)

    def put(number: int, path: Path) -> None:
        if number in folders:
            path.mkdir()
            for name, inner in sorted(names.get(number, {}).items()):
                put(inner, path / name)
        else:
            path.write_bytes(_content(number, before, now, shadow, how, luck))
        path.chmod(now.modes.get(number, before.modes.get(number, 0o700 if number in folders else 0o600)))

    put(before.top, to)


def _changes(shadow: Path) -> Iterator[tuple[_Change, bool]]:
    """Yield each change of names, and whether a sync of a folder came after it."""
    lines = [os.fsdecode(line).split("\t") for line in (shadow / "names").read_bytes().split(b"\n") if line]
    found: list[tuple[_Change, bool]] = []
    synced: set[int] = set()
    for what, *rest in reversed(lines):
        if what == "sync":
            synced.add(int(rest[0]))
            continue
        number = int(rest[-1])
        places = [(int(rest[at]), rest[at + 1]) for at in range(0, len(rest) - 1, 2)]
        if what == "link":
            change = _Change(number, None, places[0])
        elif what == "unlink":
            change = _Change(number, places[0], None)
        else:
            change = _Change(number, places[0], places[1])
        found.append((change, bool(change.folders & synced)))
    yield from reversed(found)


def _apply(change: _Change, names: Names) -> None:
    if change.come is not None:
        folder, name = change.come
        names.setdefault(folder, {})[name] = change.number
    if change.gone is not None and change.gone != change.come:
        folder, name = change.gone
        if names.setdefault(folder, {}).get(name) == change.number:
            del names[folder][name]


def _content(number: int, before: Before, now: Before, shadow: Path, how: str, luck: random.Random) -> bytes:
    synced, last = shadow / f"synced-{number}", shadow / f"last-{number}"
    old = synced.read_bytes() if synced.exists() else before.contents.get(number, b"")
    new = now.contents.get(number)
    if new is None:
        new = last.read_bytes() if last.exists() else old
    if how == "all":
        return new
    part = "old" if how == "nothing" else luck.choice(("old", "new", "some"))
    if part != "some":
        return old if part == "old" else new
    size = luck.choice((len(old), len(new)))
    blocks = []
    for start in range(0, size, _BLOCK):
        block = luck.choice((old, new))[start : start + _BLOCK]
        blocks.append(block.ljust(min(_BLOCK, size - start), b"\0"))
    return b"".join(blocks)
