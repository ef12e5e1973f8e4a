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
from rlhf_audit.recording.record import Request, record
from rlhf_audit.reports import publish
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

ENV_ID = "CartPole-v1"
TOUR = ("oracle", "flip-10", "flip-20", "always-yes", "inverted")
SAMPLE = (*TOUR, "favours-1", "tires", "fast", "copies")
"""Scripted raters of the sample log, in the order in which they rate."""

_ASK_EVERY, _ANSWERS = 10, 200
_SAMPLE_SEED = 2017
_SAMPLE_START = datetime(2026, 3, 4, 9, tzinfo=UTC)
_LEAVER = "inverted"
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

    A rater's draws depend on the seed and the script's name only: a log without one of them is the same in
    all else.
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
    _make_room(directory)
    log = store.create(directory / "log")
    panel, replayed = _taught(log, say)
    folder = directory / "policies" / "cartpole"
    mean_return = _trained(log, folder, say)
    findings, report = _audited(log, panel, directory / "report", say)
    receipt, after = _left(log, panel.raters[_LEAVER], say)
    control = _control(directory / "control")
    same = "the same digest" if control == after else f"ANOTHER digest {control}"
    say(f"     a log in which they never took part trains to {same}")
    say(f"     receipt: {receipt.with_suffix('.html')}")
    verified = verify(directory / "log")
    checked = f"{verified.entries} ledger entries and {verified.files} files"
    say(f"9  verified {checked}: {'all in order' if verified.ok else verified.problems}")
    return {
        "log": str(directory / "log"),
        "report": str(report),
        "receipt": str(receipt),
        "replayed_identical": replayed,
        "mean_return": mean_return,
        "weights_sha256": after,
        "control_weights_sha256": control,
        "findings": findings,
        "verified": verified.ok,
    }


def _taught(log: Log, say: Callable[[str], None]) -> tuple[Panel, bool]:
    from rlhf_audit.replay import rollout

    say(f"1  a log in {log.layout.root}, and {len(TOUR)} scripted raters who agree to training and audits")
    panel = record_panel(log, TOUR, seed=1)
    for name, rater_id in panel.raters.items():
        say(f"     {rater_id}  scripted: {name}")
    say(f"2  recorded {ENV_ID}: each has rated the same {_ANSWERS} steps of session {panel.base}")
    replayed = rollout.replay(log, panel.base)
    outcome = f"differs at {replayed.difference}" if replayed.difference else "identical to the last bit"
    say(f"3  replayed {replayed.steps} steps from their seeds: {outcome}")
    return panel, replayed.difference is None


def _trained(log: Log, folder: Path, say: Callable[[str], None]) -> float:
    from rlhf_audit.policy import store as policies
    from rlhf_audit.replay import evaluation, retrain

    trained = retrain.retrain(log, folder)
    policy = policies.load(folder)
    score = evaluation.evaluate(policy.weights, policy.spec, ENV_ID)
    say(f"4  retrained offline from {trained.rows} ratings: weights {trained.weights_sha256[:16]}…")
    interval = f"[{score.lower:.0f}, {score.upper:.0f}]"
    say(f"     mean return {score.mean_return:.0f} {interval} over {score.episodes} episodes, of at most 500")
    return score.mean_return


def _audited(log: Log, panel: Panel, folder: Path, say: Callable[[str], None]) -> tuple[int, Path]:
    with contextlib.closing(views.connect(log, log.clock.now())) as connection:
        audits = runner.run(connection)
    say("5  audited; flagged:")
    names = {rater_id: name for name, rater_id in panel.raters.items()}
    for audit in audits:
        if audit.findings:
            subjects = sorted(_named(row.subject, names) for row in audit.findings)
            more = f" and {len(subjects) - 3} more" if len(subjects) > 3 else ""
            say(f"     {audit.id}: {', '.join(subjects[:3])}{more}")
    report = publish.publish(log, folder)
    say(f"6  report with figures: {report.html}")
    return report.findings, report.html


def _left(log: Log, rater_id: str, say: Callable[[str], None]) -> tuple[Path, str]:
    _, due = register.withdraw(log, rater_id)
    say(
        f"7  {rater_id} (scripted: {_LEAVER}) withdraws: not used from now on, to be erased by {due:%Y-%m-%d}"
    )
    erased = erase.apply(log, rater_id)
    after = str(erased.done["policies"][0]["after"])
    say(f"8  erased: {erased.done['rows']} rows gone, report made again, policy trained again: {after[:16]}…")
    return erased.receipt, after


def _make_room(directory: Path) -> None:
    if (directory / _MARK).exists():
        shutil.rmtree(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(
            f"{directory} is not empty", needed="a new folder", fix="rlhf-audit demo ANOTHER-FOLDER"
        )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARK).touch()


def _control(directory: Path) -> str:
    """Return the digest trained from a log by the same commands and seeds, without the one who left."""
    from rlhf_audit.replay import retrain

    log = store.create(directory / "log")
    record_panel(log, [name for name in TOUR if name != _LEAVER], seed=1)
    return retrain.retrain(log, directory / "policies" / "cartpole").weights_sha256


def _named(subject: str, names: dict[str, str]) -> str:
    for rater_id, name in names.items():
        subject = subject.replace(rater_id, name)
    # Pseudonyms are drawn: their order is another each time.
    return "/".join(sorted(subject.split("/")))
