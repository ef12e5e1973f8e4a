"""What was made with a rater, made again without them: policies from the log, reports from what is left."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.log import artefacts
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.withdrawal.holdings import State
from rlhf_audit.withdrawal.removal import Removal

Say = Callable[[str], None]


def train(work: Removal, policy: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Train one policy of the plan again, or note that it is gone; return what became of it."""
    log, path = work.log, policy["path"]
    entry = artefacts.find(log, ArtefactKind.POLICY, path)
    if entry is not None and entry.holds(work.rater_id) and not work.is_blocked(path):
        say(f"training {policy['name']} again without the rater")
        with work.trying(path):
            if not (policy["found"] and _retrained(log, entry)):
                artefacts.removed(log, ArtefactKind.POLICY, path)
            _forget(log, ArtefactKind.POLICY, entry, work.rater_id)
    # Behind a link its place has another name by now.
    now = {path, log.layout.recorded(log.layout.recorded_folder(path))}
    current = [one for one in artefacts.current(log, ArtefactKind.POLICY) if one.path in now]
    entry = current[-1] if current else None
    outcome = "retrained" if entry else "removed" if policy["found"] else "not found"
    return {
        "name": policy["name"],
        "path": path,
        "before": policy["before"],
        "after": entry.facts["weights_sha256"] if entry else None,
        "outcome": outcome,
    }


def _retrained(log: Log, policy: Artefact) -> bool:
    """Train a policy again as it was trained; say whether anything was left to train it on."""
    facts = policy.facts
    if facts["mode"] == "live":
        return False
    from rlhf_audit.replay import retrain  # here, so that a plan and an audit never wait for TensorFlow

    try:
        retrain.retrain(log, policy.folder, facts["algorithm"], facts["seed"], facts["env_id"])
    except (UsageError, ConsentError):
        return False
    return True


def _forget(log: Log, kind: ArtefactKind, made: Artefact, rater_id: str) -> None:
    """End what still holds the rater in the ledger: behind a link it was made again under another name."""
    now = artefacts.find(log, kind, made.path)
    if now is not None and now.holds(rater_id):
        artefacts.removed(log, kind, made.path)


def report(work: Removal, path: str, say: Say) -> None:
    """Make one report of the plan again, where its folder is still ours."""
    log = work.log
    old = artefacts.find(log, ArtefactKind.REPORT, path)
    if old is None or not old.holds(work.rater_id) or work.is_blocked(path):
        return
    # A link, or other files in its place: that is somebody else's folder now.
    taken = any(os.path.lexists(old.folder / name) for name in old.facts["files"])
    here = old.folder.is_dir() and not old.folder.is_symlink()
    theirs = [note for name, note in work.notes.items() if name.startswith(f"{path}/")]
    was_linked = any(note["state"] == State.THEIRS for note in theirs) and not os.path.lexists(old.folder)
    if not taken and (here or was_linked):
        from rlhf_audit.reports import publish  # here, so that opening a log never waits for matplotlib

        say("making a report again without the rater")
        with contextlib.suppress(UsageError):
            publish.publish(log, old.folder)
    _forget(log, ArtefactKind.REPORT, old, work.rater_id)
