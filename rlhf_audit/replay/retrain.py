"""Train a policy again from the log, offline, and say exactly what it was made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit import determinism
from rlhf_audit.errors import DigestMismatchError
from rlhf_audit.estimators.reliability import identified, verdict
from rlhf_audit.log import reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.policy import lineage, store
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.manifest import Manifest, RaterShare
from rlhf_audit.policy.network import NetworkSpec
from rlhf_audit.replay import dataset, trainer


@dataclass(frozen=True)
class Retrained:
    """What ``retrain`` made.

    Attributes:
        excluded: Ratings that stand but may not be used for training.
    """

    name: str
    weights_sha256: str
    rows: int
    raters: tuple[str, ...]
    algorithm: str
    mode: str
    excluded: int


def retrain(
    log: Log,
    folder: Path,
    algorithm: str = "likelihood",
    seed: int = 0,
    env_id: str | None = None,
    expect: str | None = None,
    as_of: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Retrained:
    """Train from every usable rating of one environment and put the policy in place.

    Args:
        log: Where the ratings are.
        folder: Where the policy goes.
        algorithm: Name in ``trainer.ALGORITHMS``.
        seed: Root seed of the training.
        env_id: Needed when the log holds ratings of several.
        expect: Digest that must come out; nothing is written when another does.
        as_of: When consent is judged; now by default.
        progress: Told the fits that are done and the most there may be.

    Raises:
        ConsentError: No rating may be used for training.
        DigestMismatchError: ``expect`` did not come out.
        UsageError: Nothing to train on, several environments and none named, or ``folder`` is taken.
    """
    store.check_free(folder)
    with log.writing():
        connection = views.connect(log, as_of or log.clock.now())
        try:
            chosen = dataset.environment(connection, env_id)
            record = _record(log, chosen)
            interface = Interface.of(record)
            data = dataset.load(log, connection, chosen, interface)
            excluded = _excluded(connection)
        finally:
            connection.close()
        spec = interface.spec
        trained = trainer.train(data.rated, spec, algorithm, seed, progress)
        if expect is not None and trained.weights_sha256 != expect.lower():
            raise DigestMismatchError(
                "the retrained weights are not the expected ones",
                seen=trained.weights_sha256,
                needed=expect,
                fix="compare log, algorithm, seed and versions with the policy's manifest.json",
            )
        manifest = _manifest(log, folder.name, record, spec, data, trained, seed)
        lineage.save(log, folder, trained.weights, manifest)
    return Retrained(
        folder.name,
        trained.weights_sha256,
        trained.rows,
        data.rated.rater_ids,
        algorithm,
        "offline",
        excluded,
    )


def _record(log: Log, env_id: str) -> Mapping[str, Any]:
    records: list[Mapping[str, Any]] = [
        entry.body["env"] for entry in log.ledger.of("session") if entry.body["env"]["env_id"] == env_id
    ]
    return records[-1]


def _excluded(connection: Any) -> int:
    rows = connection.execute(
        "SELECT (SELECT count(*) FROM feedback f WHERE kind = 'rating' AND NOT EXISTS"
        " (SELECT 1 FROM feedback later WHERE later.session_id = f.session_id AND later.supersedes = f.row))"
        " - (SELECT count(*) FROM usable_for_training WHERE kind = 'rating')"
    ).fetchall()
    return int(rows[0][0])


def _manifest(
    log: Log,
    name: str,
    record: Mapping[str, Any],
    spec: NetworkSpec,
    data: dataset.TrainingData,
    trained: trainer.TrainedPolicy,
    seed: int,
) -> Manifest:
    counts = np.bincount(data.rated.raters, minlength=len(data.rated.rater_ids))
    shares = [
        RaterShare(
            rater_id,
            int(counts[index]),
            trained.reliabilities[index].yes_when_right,
            trained.reliabilities[index].yes_when_wrong,
            str(verdict(trained.reliabilities[index])) if identified(trained.reliabilities) else None,
        )
        for index, rater_id in enumerate(data.rated.rater_ids)
    ]
    rated = [reader.session_facts(log, session)["rates"] for session in data.sessions]
    return Manifest(
        name=name,
        log_id=log.log_id,
        log_head=log.data_head().to_json(),
        env=record,
        network=spec.to_json(),
        weights=[weight for weight, _ in trained.weights],
        weights_sha256=trained.weights_sha256,
        algorithm=trained.algorithm,
        parameters=trained.parameters,
        seed=seed,
        mode="offline",
        recipe=determinism.recipe(),
        rows=trained.rows,
        raters=shares,
        sessions=list(data.sessions),
        files=lineage.session_files(log, data.sessions, [name for name in rated if name]),
    )
