"""Which raters' rows went into which policy: written to the ledger, read back by erasure."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_audit import canonical, determinism
from rlhf_audit.log import durable, reader
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.manifest import Manifest, RaterShare
from rlhf_audit.policy.network import weights_sha256
from rlhf_audit.types import Kind, Weights


@dataclass(frozen=True)
class PolicyEntry:
    """A policy as the ledger knows it.

    Attributes:
        path: Relative to the log's folder.
        folder: Where that is on this machine.
        facts: The ledger entry's body.
    """

    path: str
    folder: Path
    facts: Mapping[str, Any]


def recorded_path(log: Log, folder: Path) -> str:
    """Return a folder as the ledger names it: relative to the log, so that both may be moved together."""
    return Path(os.path.relpath(folder.resolve(), log.layout.root.resolve())).as_posix()


def current(log: Log) -> list[PolicyEntry]:
    """Return the policies that the ledger holds to be there, in order of their first training."""
    newest: dict[str, Mapping[str, Any] | None] = {}
    for entry in log.ledger.of("training", "policy-removed"):
        newest[entry.body["path"]] = entry.body if entry.event == "training" else None
    root = log.layout.root
    return [
        PolicyEntry(path, Path(os.path.normpath(root / path)), facts)
        for path, facts in newest.items()
        if facts is not None
    ]


def taught_by(log: Log, rater_id: str) -> list[PolicyEntry]:
    """Return the current policies that hold rows of this rater."""
    return [entry for entry in current(log) if rater_id in entry.facts["rater_ids"]]


def session_files(log: Log, session_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return path and digest of every sealed file of these sessions."""
    wanted = set(session_ids)
    return [
        {name: value for name, value in file.items() if name != "rows"}
        for entry in log.ledger.of("session")
        if entry.body["session_id"] in wanted
        for file in entry.body["files"]
    ]


def save(log: Log, folder: Path, weights: Weights, manifest: Manifest) -> None:
    """Put a policy in place and enter it in the ledger."""
    files = store.save(folder, weights, manifest)
    body = {
        "name": manifest.name,
        "path": recorded_path(log, folder),
        "files": files,
        "weights_sha256": manifest.weights_sha256,
        "env_id": manifest.env["env_id"],
        "algorithm": manifest.algorithm,
        "mode": manifest.mode,
        "seed": manifest.seed,
        "rows": manifest.rows,
        "rater_ids": [share.rater_id for share in manifest.raters],
    }
    log.append("training", body)


def save_live(log: Log, folder: Path, session_id: str, weights: Weights) -> None:
    """Save what a session taught while it was recorded."""
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
    save(log, folder, weights, manifest)


def remove(log: Log, entry: PolicyEntry) -> None:
    """Destroy a policy's folder and say so in the ledger; idempotent."""
    durable.destroy_tree(entry.folder)
    known = {found.path for found in current(log)}
    if entry.path in known:
        log.append("policy-removed", {"name": entry.facts["name"], "path": entry.path})


def check(entry: PolicyEntry) -> list[str]:
    """Return the names of a policy's files that are not as the ledger says; extra ones too."""
    found = {path.name for path in entry.folder.iterdir()} if entry.folder.is_dir() else set()
    needed = entry.facts["files"]
    wrong = [
        name
        for name in sorted(found | set(needed))
        if name not in needed
        or name not in found
        or canonical.file_sha256(entry.folder / name) != needed[name]
    ]
    return wrong
