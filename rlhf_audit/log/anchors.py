"""Checkpoints that are kept where the log's host has no say: what they prove, or contradict.

An anchor is a file (the newest checkpoint), or a folder (a file a checkpoint); a folder that is a git
repository has each of them in a commit. Nothing of it is entered in the ledger: an entry would change the
very head that is anchored, and who may only read a log can anchor it as well.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_audit import canonical
from rlhf_audit.errors import CheckFailedError, LedgerError, UsageError
from rlhf_audit.log import checkpoint, durable, git, merkle, notes
from rlhf_audit.log.checkpoint import Checkpoint
from rlhf_audit.log.ledger import Ledger
from rlhf_audit.log.store import Log

SUFFIX = ".checkpoint"


@dataclass(frozen=True)
class Anchor:
    """An earlier checkpoint.

    Attributes:
        name: The place, as it was typed, and the file in it.
        note: Unchecked.
        checkpoint: What the note tells of.
    """

    name: str
    note: notes.Note
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Extension:
    """How today's ledger stands to an anchor.

    Attributes:
        name: Of the anchor.
        size: Of the ledger then, in entries.
        root: Of the ledger then, 64 hex digits.
        proof: RFC 9162's consistency proof, 64 hex digits each; None where there can be none.
        problem: Why it does not extend that one; None if it does.
    """

    name: str
    size: int
    root: str
    proof: tuple[str, ...] | None
    problem: str | None


def read(place: Path, origin: str) -> list[Anchor]:
    """Return the checkpoints of one log that are kept in a place, the smallest first.

    Args:
        place: A file with a signed note; or a folder or a git repository, as ``write`` fills it.
        origin: The log's name in its checkpoints.

    Raises:
        UsageError: There is no such place, or nothing of this log in it.
        LedgerError: A note can't be read.
    """
    found = [_anchor(name, raw) for name, raw in _notes(place)]
    ours = [anchor for anchor in found if anchor.checkpoint.origin == origin]
    if not ours:
        others = sorted({anchor.checkpoint.origin for anchor in found})
        raise UsageError(
            f"no checkpoint of this log is in {os.fspath(place)!r}",
            seen=f"a checkpoint of {ascii(others[0])[:80]}" if others else f"no file *{SUFFIX}",
            needed=f"one of {origin}",
            fix="rlhf-audit anchor LOG --to PATH",
        )
    return sorted(ours, key=lambda anchor: (anchor.checkpoint.size, anchor.name))


def compare(ledger: Ledger, anchors: Iterable[Anchor]) -> list[Extension]:
    """Prove that today's ledger begins with each of these, or say what contradicts it."""
    leaves = [merkle.leaf_hash(line) for line in ledger.lines]
    today, found, kept = merkle.root(leaves), list[Extension](), 0
    for anchor in anchors:
        size, then = anchor.checkpoint.size, anchor.checkpoint.root
        proof = merkle.consistency_proof(leaves, size) if size <= len(leaves) else None
        if not _is_signed(ledger, anchor):
            problem = "is not signed by a key of this log: that checkpoint, or the whole log, was replaced"
        elif proof is None:
            problem = f"signs {size} entries, and the ledger has {len(leaves)}: the log was rolled back"
        elif not merkle.extends(size, len(leaves), then, today, proof):
            # A root alone can't say more: which of them differs, only another copy of the ledger can.
            between = f"{kept + 1} to {size}" if kept + 1 < size else f"{size}"
            problem = f"signs another history: the ledger was rewritten in its entries {between}"
        else:
            problem, kept = None, size
        hashes = None if proof is None else tuple(node.hex() for node in proof)
        found.append(Extension(anchor.name, size, then.hex(), hashes, problem))
    return found


def unwitnessed(
    log: Log, anchors: Iterable[Anchor], witnesses: Sequence[notes.VerifierKey]
) -> Iterator[tuple[str, str]]:
    """Yield where a witness's signature does not hold, and who has signed nothing; each with the file's name.

    Signatures of others than these are passed over, as the note's format wants it.
    """
    here = log.layout.relative(log.layout.checkpoint)
    everything = [(here, notes.parse(log.ledger.note)), *((one.name, one.note) for one in anchors)]
    for witness in witnesses:
        signed = 0
        for name, note in everything:
            try:
                signed += witness.has_signed(note)
            except ValueError:
                signed += 1
                yield name, f"bears a signature by the witness {witness.name} that does not hold"
        if not signed:
            yield here, f"is not signed by the witness {witness.name}, nor is any checkpoint of --since"


def unvouched(ledger: Ledger, since: Sequence[Extension], trusted: Sequence[bytes]) -> Iterator[str]:
    """Yield what is to be said of each key that came after a lost one, unless there is reason to believe it.

    Args:
        ledger: Whose.
        since: How it stands to earlier checkpoints: one made after the new key came vouches for it.
        trusted: Public keys that are known from elsewhere, 32 bytes each.
    """
    known = max((one.size for one in since if one.problem is None), default=0)
    for key in ledger.keys:
        if not key.is_vouched and key.since >= known and key.public_key not in trusted:
            yield (
                f"line {key.since + 1} begins a signing key that no earlier one vouches for, which was lost: "
                f"--trust-key {key.public_key.hex()} if you know from elsewhere that it is the log's"
            )


def write(log: Log, place: Path) -> tuple[Path, Checkpoint]:
    """Keep the log's checkpoint in a place; once, however often it is asked for.

    Args:
        log: Whose.
        place: A folder, which may be a git repository, or the path of a file.

    Returns:
        The file, and what it tells of.

    Raises:
        CheckFailedError: A checkpoint that is there contradicts the log; nothing is written.
        UsageError: The place is inside of the log, holds other things, or another log's.
    """
    _check_outside(log, place)
    raw = log.ledger.note
    now = checkpoint.unchecked(notes.parse(raw))
    before = read(place, log.ledger.origin) if _holds_ours(place, log.ledger.origin) else []
    wrong = [one for one in compare(log.ledger, before) if one.problem]
    if wrong:
        raise CheckFailedError(
            f"{wrong[0].name!r} {wrong[0].problem}",
            seen=f"{len(before)} earlier checkpoints, {len(wrong)} of which the log contradicts",
            needed="a ledger that begins with each of them",
            fix=f"rlhf-audit verify LOG --since {os.fspath(place)!r}, and find out what was rewritten",
        )
    repository = git.is_repository(place)
    if repository:
        git.check_writable(place)
    target = place / f"{log.log_id}-{now.size:010d}{SUFFIX}" if place.is_dir() else place
    # What is there of the same size may bear signatures of witnesses as well: it is left as it is.
    if not (target.is_file() and _anchor(target.name, canonical.read_file(target)).checkpoint == now):
        durable.write(target, raw)
    if repository:
        git.commit(place, target.name, f"Checkpoint of {now.origin}: {now.size} entries")
    return target, now


def _is_signed(ledger: Ledger, anchor: Anchor) -> bool:
    try:
        keys = [notes.VerifierKey(ledger.origin, key.public_key) for key in ledger.keys]
        return any([key.has_signed(anchor.note) for key in keys])
    except ValueError:
        return False


def _notes(place: Path) -> Iterator[tuple[str, bytes]]:
    typed = os.fspath(place)
    if git.is_repository(place):
        yield from ((f"{typed}/{name}", raw) for name, raw in git.committed(place, SUFFIX))
    elif place.is_dir():
        for path in sorted(place.glob(f"*{SUFFIX}")):
            yield os.fspath(path), canonical.read_file(path)
    elif place.is_file():
        yield typed, canonical.read_file(place)
    else:
        raise UsageError(
            "there are no checkpoints there",
            seen=f"nothing at {typed!r}",
            needed="a file with a checkpoint, or a folder or git repository that anchor wrote to",
            fix="rlhf-audit anchor LOG --to PATH",
        )


def _anchor(name: str, raw: bytes) -> Anchor:
    try:
        note = notes.parse(raw)
        return Anchor(name, note, checkpoint.unchecked(note))
    except ValueError as error:
        raise LedgerError(
            f"{name!r} is not a checkpoint",
            seen="another text",
            needed="a C2SP signed note over a log's size and root",
            fix="rlhf-audit anchor LOG --to PATH writes one",
        ) from error


def _holds_ours(place: Path, origin: str) -> bool:
    if not place.is_dir():
        return place.exists()
    found: Sequence[tuple[str, bytes]] = list(_notes(place))
    return any(_anchor(name, raw).checkpoint.origin == origin for name, raw in found)


def _check_outside(log: Log, place: Path) -> None:
    if not log.layout.recorded(place).startswith("../"):
        raise UsageError(
            "an anchor can't be in the log itself",
            seen=repr(os.fspath(place)),
            needed="a place that who may write the log can't rewrite",
            fix="rlhf-audit anchor LOG --to ANOTHER-PLACE",
        )
