"""Which raters' rows went into which policy: written to the ledger, read back by erasure."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlhf_audit import determinism
from rlhf_audit.errors import StorageError
from rlhf_audit.log import artefacts, reader
from rlhf_audit.log.artefacts import Artefact, ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.manifest import Manifest, RaterShare
from rlhf_audit.policy.network import weights_sha256
from rlhf_audit.types import Kind, Weights


def taught_by(log: Log, rater_id: str) -> list[Artefact]:
    """Return the current policies that hold rows of this rater."""
    return [found for found in artefacts.current(log, ArtefactKind.POLICY) if found.holds(rater_id)]


def session_files(log: Log, session_ids: Iterable[str], watched: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return path and digest of every file of these sessions as they were sealed, in the ledger's order.

    Where their rows are by now is no matter: what the ledger said of them then, it says for ever.

    Args:
        log: Where they are.
        session_ids: Sessions whose answers were used.
        watched: Sessions whose steps were used; what was answered in them is nobody's business here.
    """
    answered, shown = set(session_ids), set(watched)
    return [
        {name: value for name, value in file.items() if name != "rows"}
        for entry in log.ledger.of("session")
        for file in entry.body["files"]
        if entry.body["session_id"] in answered or (entry.body["session_id"] in shown and "sha256" in file)
    ]


def save(log: Log, folder: Path, weights: Weights, manifest: Manifest) -> None:
    """Put a policy in place and enter it in the ledger."""
    facts = {
        "name": manifest.name,
        "weights_sha256": manifest.weights_sha256,
        "env_id": manifest.env["env_id"],
        "algorithm": manifest.algorithm,
        "mode": manifest.mode,
        "seed": manifest.seed,
        "rows": manifest.rows,
        "rater_ids": [share.rater_id for share in manifest.raters],
    }
    with log.writing():
        store.check_free(folder)
        log.place(folder, store.files(weights, manifest), ArtefactKind.POLICY.value, facts)


def save_live(log: Log, folder: Path, session_id: str, weights: Weights) -> None:
    """Save what a session taught while it was recorded.

    Raises:
        StorageError: The operating system refused; the session itself is kept.
    """
    recorded = reader.session(log, session_id)
    facts = recorded.facts
    superseded = {row.supersedes for row in recorded.feedback or ()}
    standing = [
        row
        for number, row in enumerate(recorded.feedback or ())
        if row.kind is not Kind.SKIP and number not in superseded
    ]
    manifest = Manifest(
        name=folder.name,
        log_id=log.log_id,
        log_head=log.data_head().to_json(),
        env=facts["env"],
        network=facts["policy"]["network"],
        weights=[name for name, _ in weights],
        weights_sha256=weights_sha256(weights),
        algorithm=facts["learn"]["algorithm"],
        parameters=facts["learn"]["parameters"],
        seed=facts["seed"],
        mode="live",
        recipe=determinism.recipe(),
        rows=len(standing),
        raters=[RaterShare(facts["rater_id"], len(standing))],
        sessions=[session_id],
        files=session_files(log, [session_id]),
    )
    try:
        save(log, folder, weights, manifest)
    except OSError as error:
        raise StorageError(
            f"{session_id} is recorded, but what it taught could not be put in place",
            seen=errno.errorcode.get(error.errno or 0, type(error).__name__),
            needed="a place for a policy that can be written",
            fix="rlhf-audit retrain LOG --to policies/ANOTHER-NAME",
        ) from error


def remove(log: Log, policy: Artefact) -> None:
    """Destroy a policy's folder and say so in the ledger; idempotent."""
    store.destroy(policy.folder)
    artefacts.removed(log, ArtefactKind.POLICY, policy.path)
