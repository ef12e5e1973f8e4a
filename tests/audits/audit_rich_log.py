"""A small log that has something for every audit: groups, comparisons, repeats, four scales, lapsed consent.

Written without a policy's network, and so without TensorFlow.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import envs
from rlhf_audit.consent import register, terms
from rlhf_audit.log import store
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionFacts, SessionWriter
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import EpisodeFacts, Feedback, Grant, Kind, Purpose, Transition
from rlhf_audit.withdrawal import erase

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_ENV = "CartPole-v1"
_EPISODES, _STEPS = 6, 40
_ITEMS = [(episode, step) for episode in range(_EPISODES) for step in range(_STEPS)]
_BOTH = (Purpose.TRAINING, Purpose.AUDIT)
_HABITS = ("clean",) * 8 + ("lenient", "constant", "random", "fast", "later", "copies")
"""Of the raters whose consent stands, in the order of their enrolment."""


class Clock:
    """Goes on by a second whenever it is read, and by days where it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2024, 11, 4, 9, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def make(root: Path) -> Log:
    """Write the log, and two policies beside it; return it, its clock at the end of all that."""
    clock, random = Clock(), Random(11)
    log = store.create(root, clock, SeededEntropy(7), _KEY)
    terms.add(log)
    told = Answers(random)
    lapsed = _enrolled(log, None)
    played = _session(log, lapsed, told.of("clean"), plays=random)
    clock.time += timedelta(days=400)
    raters = []
    for index, habit in enumerate(_HABITS):
        groups = {"language": "en" if index % 2 else "de", "site": "a" if index < 9 else "b"}
        rater_id = _enrolled(log, groups)
        _session(log, rater_id, told.of(habit), rates=played)
        raters.append(rater_id)
    gone, erased, unsure = (_enrolled(log, None) for _ in range(3))
    for rater_id in (gone, erased, unsure):
        _session(log, rater_id, told.of("clean"), rates=played)
    _session(log, raters[0], told.again(0, 0.05), rates=played)
    _session(log, raters[10], told.again(10, 0.5), rates=played)
    clock.time += timedelta(days=1)
    kept = log.layout.key_file(erased).read_bytes()
    erase.apply(log, erased, lambda _: None)
    # As a backup does that is put back.
    log.layout.key_file(erased).write_bytes(kept)
    everybody = [*raters, gone, unsure]
    _policy(log, "before", dict.fromkeys(everybody, 240))
    with log.writing():
        log.append("report", {"path": "reports/x", "rater_ids": everybody, "files": {}})
        handed_out = {"purpose": "audit", "recipient": "a partner", "files": {}}
        log.append("export", {"path": "exports/x", "rater_ids": everybody} | handed_out)
    register.withdraw(log, gone)
    register.withdraw(log, unsure, [Purpose.TRAINING])
    clock.time += timedelta(days=40)
    terms.add(log, "Other terms.\n")
    register.give(log, raters[1], _BOTH, "terminal")
    _policy(log, "after", dict.fromkeys([*raters, gone, unsure], 10) | {raters[8]: 900})
    return log


class Answers:
    """What raters say: each of the four scales has a truth, and each habit departs from it in its own way."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._truth = {item: random.random() for item in _ITEMS}
        self._first: list[list[dict[str, Any]]] = []

    def of(self, habit: str) -> list[dict[str, Any]]:
        """Return the rows of a rater, as arguments of Feedback."""
        rows = self._copied() if habit == "copies" else list(self._rows(habit))
        self._first.append(rows)
        return rows

    def again(self, index: int, wrong: float) -> list[dict[str, Any]]:
        """Return some of a rater's first answers as they give them a second time."""
        rows = [row for row in self._first[index + 1][:60] if row["kind"] == Kind.RATING]
        return [row | {"value": 1 - row["value"]} if self._random.random() < wrong else row for row in rows]

    def _copied(self) -> list[dict[str, Any]]:
        return [
            row | {"value": 1 - row["value"]}
            if row["value"] in (0, 1) and self._random.random() < 0.02
            else row
            for row in self._first[3]
        ]

    def _rows(self, habit: str) -> Iterator[dict[str, Any]]:
        for number, item in enumerate(_ITEMS):
            yield self._rating(habit, item, "correct", self._yes(habit, number, item))
            if number % 17 == 0:
                skip = {"kind": Kind.SKIP, "objective": "correct", "value": None}
                yield skip | self._at(habit, item)
        for item in _ITEMS[:120]:
            truth, flat = self._truth[item], habit == "constant"
            stars = round(1 + 4 * truth + self._random.gauss(0, 0.7))
            yield self._rating(habit, item, "stars", 3.0 if flat else float(min(5, max(1, stars))))
            yield self._rating(habit, item, "quick", round(truth + self._random.gauss(0, 0.2), 3))
            yield self._rating(habit, item, "safe", float(self._random.random() < 0.2 + 0.6 * truth))
        for item, other in zip(_ITEMS[:150], _ITEMS[60:210], strict=True):
            yield self._comparison(habit, item, other)

    def _yes(self, habit: str, number: int, item: tuple[int, int]) -> float:
        coin, yes = self._random.random(), self._truth[item] < 0.5
        said = yes if self._random.random() < 0.88 else not yes
        if habit == "constant":
            said = True
        elif habit == "random":
            said = coin < 0.5
        elif habit == "lenient":
            said = said or coin < 0.7
        elif habit == "later":
            said = said or coin < number / len(_ITEMS)
        elif habit == "fast":
            said = coin < 0.7
        return float(said)

    def _rating(self, habit: str, item: tuple[int, int], objective: str, value: float) -> dict[str, Any]:
        return {"kind": Kind.RATING, "objective": objective, "value": value} | self._at(habit, item)

    def _comparison(self, habit: str, item: tuple[int, int], other: tuple[int, int]) -> dict[str, Any]:
        if self._random.random() < 0.5:
            item, other = other, item
        gap = self._truth[item] - self._truth[other] + self._random.gauss(0, 0.15)
        value = 0.5 if abs(gap) < 0.05 else float(gap > 0)
        if habit == "lenient" and self._random.random() < 0.8:
            value = 1.0
        said = {"kind": Kind.COMPARISON, "objective": "better", "value": value, "n_steps": 1}
        return said | self._at(habit, item) | {"other_episode_id": other[0], "other_step": other[1]}

    def _at(self, habit: str, item: tuple[int, int]) -> dict[str, Any]:
        latency_s = self._random.uniform(*((0.1, 0.2) if habit == "fast" else (1, 4)))
        return {"episode_id": item[0], "step": item[1], "latency_s": round(latency_s, 3)}


def _enrolled(log: Log, groups: dict[str, str] | None) -> str:
    rater_id, _ = register.enrol(log, groups=groups)
    register.give(log, rater_id, _BOTH, "terminal")
    return rater_id


def _session(
    log: Log,
    rater_id: str,
    rows: list[dict[str, Any]],
    *,
    plays: Random | None = None,
    rates: str | None = None,
) -> str:
    """Record a session, of an agent that acts where there are draws for it; return its id."""
    with envs.open_env(_ENV) as env:
        described = json.loads(envs.describe(env).to_json())
    limits = {"episodes": None, "max_feedback": None}
    facts = SessionFacts("rating", "terminal", described, 0, 1, rates, None, None, limits)
    with log.writing():
        grant = register.grant_for(log, rater_id, log.clock.now())
        writer = SessionWriter(log, grant, facts)
        where = rates or writer.session_id
        if plays is not None:
            _play(writer, plays)
        writer.feedback_elsewhere(_given(log, grant, where, rows))
        writer.seal()
    return where


def _play(writer: SessionWriter, random: Random) -> None:
    for episode in range(_EPISODES):
        name = f"{writer.session_id}-e{episode:04d}"
        writer.episode(EpisodeFacts(name, episode, episode, None), _seen(random))
        for step in range(_STEPS):
            ends = step == _STEPS - 1
            reward = float(random.random() < 0.8)
            made = Transition(name, step, _seen(random), random.randrange(2), 0.5, reward, ends, False)
            writer.step(made, _seen(random))


def _seen(random: Random) -> Any:
    return np.array([random.uniform(-1, 1) for _ in range(4)], np.float32)


def _given(log: Log, grant: Grant, session_id: str, rows: list[dict[str, Any]]) -> Iterator[Feedback]:
    for position, row in enumerate(rows):
        named = {
            key: f"{session_id}-e{row[key]:04d}" for key in ("episode_id", "other_episode_id") if key in row
        }
        # Each 50th is said anew by the next.
        anew = position % 50 == 49 and rows[position - 1]["kind"] == row["kind"]
        shown = log.clock.now()
        answered = shown + timedelta(seconds=row["latency_s"])
        yield Feedback(
            **(row | named),
            shown_at=shown,
            answered_at=answered,
            position=position,
            supersedes=position - 1 if anew else None,
            grant_id=grant.grant_id,
        )


def _policy(log: Log, name: str, rows: dict[str, int]) -> None:
    folder = log.layout.root.parent / name
    folder.mkdir()
    manifest = json.dumps({"raters": [{"rater_id": rater, "rows": n} for rater, n in rows.items()]}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    files = {"manifest.json": hashlib.sha256(manifest).hexdigest()}
    facts = {"path": log.layout.recorded(folder), "name": name, "algorithm": "likelihood", "files": files}
    with log.writing():
        log.append(
            "training",
            facts | {"rater_ids": sorted(rows), "rows": sum(rows.values()), "weights_sha256": "0" * 64},
        )
