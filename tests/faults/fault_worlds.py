"""Logs that faults are put into, and what of their making is cheap: see ``fault_acts``."""

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import beside  # noqa: F401 - says where the next ones are
import compact_world
import crash_rig
import kill_acts
import numpy as np
import pytest
import small_log

from rlhf_audit.log import durable, part, reader, trajectory, writer
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.policy import lineage, store
from rlhf_audit.policy.manifest import Manifest, RaterShare
from rlhf_audit.policy.network import weights_sha256
from rlhf_audit.recording.record import Request, record
from rlhf_audit.replay import retrain
from rlhf_audit.reports import publish


def told(home: Path) -> dict[str, Any]:
    path = home.parent / "facts.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def tell(home: Path, **facts: Any) -> None:
    (home.parent / "facts.json").write_text(json.dumps(facts))


def nothing(home: Path) -> None:
    home.mkdir()
    tell(home)


def two(home: Path) -> None:
    _, raters = small_log.plain(home / "log", 2)
    tell(home, rater=raters[0], others=raters[1:])


def two_with_report(home: Path) -> None:
    two(home)
    publish.publish(Log(home / "log"), home / "log" / "reports" / "one")
    retrain.retrain(Log(home / "log"), home / "policies" / "first", seed=9)
    small_log.join(Log(home / "log"), alias="Somebody New")


def taught(home: Path) -> None:
    """Two raters of whom the first taught a live policy; a policy and a report that hold both."""
    log, raters = small_log.plain(home / "log", 2)
    retrain.retrain(log, home / "policies" / "offline")
    request = Request(raters[0], "scripted:oracle", "CartPole-v1", max_feedback=3, seed=5)
    record(Log(home / "log"), replace(request, learn="likelihood", to=home / "policies" / "live"))
    publish.publish(Log(home / "log"), home / "log" / "reports" / "one")
    tell(home, rater=raters[0], others=raters[1:], key=log.layout.key_file(raters[0]).read_text())


def few(home: Path) -> None:
    _, raters = compact_world.few(home / "log")
    tell(home, rater=raters[0], others=[])


def nobody_recorded(home: Path) -> None:
    log = small_log.empty(home / "log")
    rater_id, other = small_log.join(log, alias="Person Number 0"), small_log.join(log, alias="Number 1")
    tell(home, rater=rater_id, others=[other])


def left_open(home: Path) -> None:
    """A session of several parts whose recorder was killed near its end."""
    nobody_recorded(home)
    seen = 0

    def note(fact: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 29:
            os.kill(os.getpid(), signal.SIGKILL)

    def act() -> None:
        small_parts()
        kill_acts.by_library(home, note, sessions=1, n_steps=24)

    assert crash_rig.waited(crash_rig.forked(act, home.parent / "error")) == -signal.SIGKILL


def small_parts() -> None:
    """So that they fill, rotate and are sealed. Answers alone bring marks: no call depends on a clock."""
    patched = pytest.MonkeyPatch()
    patched.setattr(part, "_MOST_SLOTS", kill_acts.SLOTS)
    patched.setattr(part, "_MOST_VARYING", kill_acts.SLOTS)
    patched.setattr(trajectory, "_FIRST_SLOTS", kill_acts.FIRST_SLOTS)
    patched.setattr(writer, "_SYNC_EVERY_S", 3600)
    patched.setattr("importlib.metadata.packages_distributions", dict)


def cheaply() -> None:
    """In place of audits, drawing, queries and learning alone: they take seconds and write nothing."""

    def report(log: Log, folder: Path) -> None:
        with log.writing():
            durable.check_writable(folder)
            ids = sorted({entry.body["rater_id"] for entry in log.ledger.of("enrolled")} - gone(log))
            files = {name: json.dumps([name, ids]).encode() for name in (publish.JSON, publish.HTML)}
            log.place(folder, files, ArtefactKind.REPORT.value, {"rater_ids": ids})

    def policy(log: Log, folder: Path, algorithm: str = "", seed: int = 0, env_id: str | None = None) -> None:
        store.check_free(folder)
        with log.writing():
            used = [e.body for e in log.ledger.of("session") if e.body["rater_id"] not in gone(log)]
            rows = {body["session_id"]: reader.session(log, body["session_id"]).feedback for body in used}
            weights = (
                ("sum", np.float32([sum(row.value for table in rows.values() for row in table or ())])),
            )
            network = next(e.body["policy"]["network"] for e in log.ledger.of("session") if e.body["policy"])
            counts = Counter({body["rater_id"]: body["n_feedback"] for body in used})
            manifest = Manifest(
                name=folder.name,
                log_id=log.log_id,
                log_head=log.data_head().to_json(),
                env=used[0]["env"],
                network=network,
                weights=["sum"],
                weights_sha256=weights_sha256(weights),
                algorithm="likelihood",
                parameters={},
                seed=seed,
                mode="offline",
                recipe={},
                rows=counts.total(),
                raters=[RaterShare(rater_id, n) for rater_id, n in sorted(counts.items())],
                sessions=sorted(rows),
                files=lineage.session_files(log, rows),
            )
            lineage.save(log, folder, weights, manifest)

    patched = pytest.MonkeyPatch()
    patched.setattr(publish, "publish", report)
    patched.setattr(retrain, "retrain", policy)
    patched.setattr("rlhf_audit.recording.record.LiveLearner", kill_acts.Cheap)


def gone(log: Log) -> set[str]:
    return {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}


def ticking() -> None:
    pytest.MonkeyPatch().setattr(writer, "_SYNC_EVERY_S", 0.002)
