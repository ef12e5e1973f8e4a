"""The whole tour on a real environment, with scripted raters whose biases are planted and known."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit.audits import runner
from rlhf_audit.clock import TickingClock
from rlhf_audit.consent import register, terms
from rlhf_audit.errors import UsageError
from rlhf_audit.log import store, views
from rlhf_audit.log.store import Log
from rlhf_audit.recording import Request, record
from rlhf_audit.reports import publish
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import AuditResult, Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

ENV_ID = "CartPole-v1"
TOUR = ("oracle", "flip-10", "flip-20", "always-yes", "inverted")
SAMPLE = (*TOUR, "favours-1", "tires", "fast", "copies")
"""Scripted raters of the sample log, in the order in which they rate."""

_ASK_EVERY, _ANSWERS = 5, 200
_SAMPLE_SEED = 2017
_SAMPLE_START = datetime(2026, 3, 4, 9, tzinfo=UTC)
_MARK = ".rlhf_audit_demo"


@dataclass(frozen=True)
class Panel:
    """A log in which every rater has rated the same steps.

    Attributes:
        raters: Pseudonym by the script's name.
        base: The session that recorded the steps.
    """

    raters: dict[str, str]
    base: str


def record_panel(log: Log, names: Sequence[str], seed: int) -> Panel:
    """Enrol scripted raters, record one session, and let every other rater rate its steps again.

    A rater's draws depend on the seed and the script's name only, so that a log without one of them is the same
    in all else.
    """
    terms.add(log)
    raters: dict[str, str] = {}
    base = ""
    for number, name in enumerate(names):
        rater_id, _ = register.enrol(log, alias=f"scripted {name}", scripted=name)
        register.give(log, rater_id, [Purpose.TRAINING, Purpose.AUDIT], "scripted")
        raters[name] = rater_id
        request = Request(
            rater_id,
            f"scripted:{name}",
            env_id=None if base else ENV_ID,
            rates=base or None,
            ask_every=_ASK_EVERY,
            max_feedback=_ANSWERS,
            seed=seed if number == 0 else seed + 1 + SAMPLE.index(name),
        )
        done = record(log, request)
        base = base or str(done.session_id)
    return Panel(raters, base)


def make_sample(root: Path, policy: Path) -> None:
    """Make the sample log and the policy trained from it: the same bytes each time.

    Its clock, pseudonyms and keys follow from a fixed seed, which would be wrong for any real log.
    """
    from rlhf_audit.replay import retrain  # here, so that no verb but those that train waits for TensorFlow

    entropy = SeededEntropy(_SAMPLE_SEED)
    key = Ed25519PrivateKey.from_private_bytes(entropy.token(32))
    log = store.create(root, TickingClock(_SAMPLE_START), entropy, key)
    record_panel(log, SAMPLE, _SAMPLE_SEED)
    retrain.retrain(log, policy)


def run(directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Take the tour in ``directory``: record, replay, retrain, audit, report, withdraw, erase, verify.

    Args:
        directory: New, empty, or that of an earlier tour, which is removed.
        say: Told about twenty lines of what was found.

    Raises:
        UsageError: ``directory`` holds something else.
    """
    from rlhf_audit.policy import store as policies
    from rlhf_audit.replay import evaluation, retrain, rollout

    _make_room(directory)
    say(f"1  a log in {directory}/log, and five scripted raters who have agreed to training and audits")
    log = store.create(directory / "log")
    panel = record_panel(log, TOUR, seed=1)
    for name, rater_id in panel.raters.items():
        say(f"     {rater_id}  scripted: {name}")
    say(f"2  recorded {ENV_ID}: each has rated the same {_ANSWERS} steps of session {panel.base}")
    replayed = rollout.replay(log, panel.base)
    outcome = (
        "identical to the last bit" if replayed.difference is None else f"differs: {replayed.difference}"
    )
    say(f"3  replayed {replayed.steps} steps from seeds: {outcome}")
    folder = directory / "policies" / "cartpole"
    before = retrain.retrain(log, folder)
    policy = policies.load(folder)
    score = evaluation.evaluate(policy.weights, policy.spec, ENV_ID)
    say(f"4  retrained offline from {before.rows} ratings: weights {before.weights_sha256[:16]}…")
    say(
        f"     mean return {score.mean_return:.0f} [{score.lower:.0f}, {score.upper:.0f}] over {score.episodes} episodes"
    )
    audits = _audit(log)
    say("5  audited; flagged:")
    for line in _findings(audits, panel):
        say(f"     {line}")
    report = publish.publish(log, directory / "report")
    say(f"6  report with figures: {report.html}")
    leaver = panel.raters["inverted"]
    _, due = register.withdraw(log, leaver)
    say(
        f"7  {leaver} (scripted: inverted) withdraws; nothing of theirs is used any more; erasure due {due:%Y-%m-%d}"
    )
    erased = erase.apply(log, leaver)
    after = erased.done["policies"][0]["after"]
    say(f"8  erased: {erased.done['rows']} rows gone, policy trained again: {after[:16]}…, report made again")
    control = _control(directory / "control", leaving_out="inverted")
    same = "the same digest" if control == after else f"ANOTHER digest {control}"
    say(f"     a log in which they never took part trains to {same}")
    say(f"     receipt: {erased.receipt.with_suffix('.html')}")
    verified = verify(directory / "log")
    say(
        f"9  verified {verified.entries} ledger entries and {verified.files} files: {'all in order' if verified.ok else verified.problems}"
    )
    return {
        "log": str(directory / "log"),
        "report": str(report.html),
        "receipt": str(erased.receipt),
        "replayed_identical": replayed.difference is None,
        "mean_return": score.mean_return,
        "weights_sha256": after,
        "control_weights_sha256": control,
        "findings": sum(len(audit.findings) for audit in audits),
        "verified": verified.ok,
    }


def _make_room(directory: Path) -> None:
    if (directory / _MARK).exists():
        shutil.rmtree(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(
            f"{directory} is not empty", needed="a new folder", fix="rlhf-audit demo ANOTHER-FOLDER"
        )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARK).touch()


def _control(directory: Path, leaving_out: str) -> str:
    """Return the digest trained from a log by the same commands and seeds, without one rater."""
    from rlhf_audit.replay import retrain

    log = store.create(directory / "log")
    record_panel(log, [name for name in TOUR if name != leaving_out], seed=1)
    return retrain.retrain(log, directory / "policies" / "cartpole").weights_sha256


def _audit(log: Log) -> tuple[AuditResult, ...]:
    with contextlib.closing(views.connect(log, log.clock.now())) as connection:
        return runner.run(connection)


def _findings(audits: Sequence[AuditResult], panel: Panel) -> list[str]:
    names = {rater_id: name for name, rater_id in panel.raters.items()}
    lines = []
    for audit in audits:
        if audit.findings:
            worst = [_named(row.subject, names) for row in audit.findings]
            shown = ", ".join(worst[:3]) + (f" and {len(worst) - 3} more" if len(worst) > 3 else "")
            lines.append(f"{audit.id}: {shown}")
    return lines


def _named(subject: str, names: dict[str, str]) -> str:
    for rater_id, name in names.items():
        subject = subject.replace(rater_id, name)
    return subject
