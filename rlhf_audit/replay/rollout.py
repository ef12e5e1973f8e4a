"""Play recorded sessions again and compare every value, to the bit.

The very loop that recorded a session runs again (``rlhf_audit.session``) with the recorded answers as its
rater and with a sink that compares instead of writing.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rlhf_audit import canonical, envs, meanings
from rlhf_audit.clock import TickingClock
from rlhf_audit.errors import DamagedError, DigestMismatchError, UsageError
from rlhf_audit.log import keys, reader
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.live import LiveLearner
from rlhf_audit.policy.network import initial_weights, weights_sha256
from rlhf_audit.replay import resimulate
from rlhf_audit.replay.comparing import ComparedStage, Comparer, Difference, DifferenceFound, RecordedRater
from rlhf_audit.seeds import child_seed
from rlhf_audit.session import Fixed, Learner, Limits, Moment, acting, interview
from rlhf_audit.types import Feedback, Kind, Weights

ELSEWHERE = "imported:ratings"
"""Source of sessions that hold what people rated elsewhere, and no play of any environment."""

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWERS_TRIED = 64
"""How far before a difference its cause is looked for."""


@dataclass(frozen=True)
class RolloutDiff:
    """One session played again.

    Attributes:
        steps: Steps compared.
        difference: None when all is identical.
        scope: ``everything``, or ``environment`` where the policy can't be had again.
        note: Why.
    """

    session_id: str
    steps: int
    difference: Difference | None
    scope: str
    note: str = ""


@dataclass(frozen=True)
class _Policy:
    """The policy as it was before the first step, and how it learns."""

    interface: Interface
    weights: Weights
    algorithm: str | None
    seed: int

    def fresh(self) -> Learner:
        if self.algorithm is None:
            return Fixed(self.weights, weights_sha256(self.weights))
        seed = child_seed(self.seed, "learn")
        spec = self.interface.spec
        return LiveLearner(spec, self.weights, self.algorithm, seed, interface=self.interface)


def replay(log: Log, session_id: str) -> RolloutDiff:
    """Play one session again; return the first step that differs.

    Args:
        log: Where it is.
        session_id: Which.

    Raises:
        EnvMismatchError: The environment here is not the build that was recorded.

    Determinism:
        Exact comparison; no clock, no randomness beyond the recorded seed.
    """
    recorded = reader.session(log, session_id)
    if not recorded.episodes:
        rated = recorded.facts["rates"]
        note = f"rates the steps of {rated}, which are compared there" if rated else ""
        return RolloutDiff(session_id, 0, None, "environment", note)
    if recorded.facts["source"] == ELSEWHERE:
        return RolloutDiff(session_id, 0, None, "environment", "items rated elsewhere: nothing was played")
    policy, note = _policy(log, recorded)
    if policy is None:
        return _environment_only(recorded, note)
    resimulate.opened(recorded.facts).close()
    comparer, rater = _play(recorded, policy, recorded.feedback)
    difference = _first_difference(log, recorded, policy, comparer, rater)
    return RolloutDiff(session_id, comparer.steps, difference, "everything", note)


def _policy(log: Log, recorded: reader.RecordedSession) -> tuple[_Policy | None, str]:
    """Return the policy, or None and why it can't be had."""
    described, seed, learn = (recorded.facts[name] for name in ("policy", "seed", "learn"))
    alone = "the environment alone is compared"
    if described is None:
        return None, f"a script chose the actions: {alone}"
    if learn and recorded.feedback is None:
        return None, f"its feedback was erased: {alone}"
    interface = Interface.of(recorded.facts["env"], described["network"]["hidden"])
    weights: Weights = ()
    if described["path"] is None:
        weights = initial_weights(interface.spec, child_seed(seed, "policy"))
    else:
        with contextlib.suppress(UsageError, DamagedError, DigestMismatchError):
            weights = store.load(Path(log.layout.root / described["path"])).weights
    if weights_sha256(weights) != described["weights_sha256"]:
        return None, f"the policy {described['name']} is gone or was replaced: {alone}"
    policy = _Policy(interface, weights, learn["algorithm"] if learn else None, seed)
    note = "its feedback was erased" if recorded.feedback is None else ""
    return policy, note


def _play(
    recorded: reader.RecordedSession,
    policy: _Policy,
    rows: Sequence[Feedback] | None,
    n_steps: int | None = None,
) -> tuple[Comparer, RecordedRater]:
    """Run the session's own loop with these answers, up to the first difference that ends it."""
    facts = recorded.facts
    learner = policy.fresh()
    comparer = Comparer(recorded, learner, n_steps)
    rater = RecordedRater(rows or ())
    limits = Limits(facts["ask_every"])
    in_words = partial(meanings.action_in_words, facts["env"]["env_id"], facts["env"]["action_space"])
    clock = TickingClock(_NO_TIME)
    with contextlib.closing(envs.open_env(facts["env"]["env_id"])) as env:
        stage = ComparedStage(env, comparer, facts["info"])
        moments = acting(stage, policy.interface, learner, facts["seed"], None, recorded.session_id)
        moments = _as_many_as_recorded(moments, comparer)
        with contextlib.suppress(DifferenceFound):
            if rows is not None:
                interview(moments, rater, comparer, learner, limits, clock, in_words, "", lambda: None)
            for _ in moments:
                pass
    return comparer, rater


def _as_many_as_recorded(moments: Iterator[Moment], comparer: Comparer) -> Iterator[Moment]:
    while comparer.more:
        yield next(moments)


def _first_difference(
    log: Log,
    recorded: reader.RecordedSession,
    policy: _Policy,
    comparer: Comparer,
    rater: RecordedRater,
) -> Difference | None:
    """Return the first difference, traced to the answer that caused it where weights went another way."""
    name = recorded.session_id
    if rater.astray:
        return Difference(name, *rater.astray, "feedback.step")
    suspects = comparer.suspects
    if policy.algorithm is None or recorded.feedback is None:
        return suspects[0] if suspects else comparer.first
    agree = comparer.first is None and _weights_agree(log, recorded, comparer)
    if suspects:
        # Had the policy learnt otherwise, the weights would differ too.
        known = agree and recorded.facts["weights_mac"] is not None
        return suspects[0] if known else _cause(log, recorded, policy, comparer) or suspects[0]
    if agree or comparer.first is not None:
        return comparer.first
    last = recorded.feedback[-1]
    nowhere = Difference(name, last.episode_id, last.step, "weights_sha256")
    return _cause(log, recorded, policy, comparer) or nowhere


def _weights_agree(log: Log, recorded: reader.RecordedSession, comparer: Comparer) -> bool:
    """Say whether the weights after each answer are those recorded; a killed session may hold none."""
    learnt = recorded.facts["weights_mac"]
    if learnt is None:
        return True
    key = keys.read(log.layout, recorded.facts["rater_id"])
    return bool(key.mac("weights", canonical.json_bytes(comparer.learnt)) == learnt)


def _cause(
    log: Log, recorded: reader.RecordedSession, policy: _Policy, comparer: Comparer
) -> Difference | None:
    """Return the answer that, given otherwise, makes everything come out as recorded.

    Where none does, because more than one value was altered: the one that does so for the first suspect.
    """
    rows = recorded.feedback or ()

    def found(number: int) -> Difference:
        return Difference(recorded.session_id, rows[number].episode_id, rows[number].step, "feedback.value")

    for number, changed in _otherwise(rows, comparer):
        again, _ = _play(recorded, policy, changed)
        if not again.suspects and again.first is None and _weights_agree(log, recorded, again):
            return found(number)
    if not comparer.suspects:
        return None
    until = comparer.doubted + 1
    for number, changed in _otherwise(rows, comparer):
        again, _ = _play(recorded, policy, changed, until)
        if again.steps == until and not again.suspects:
            return found(number)
    return None


def _candidates(rows: Sequence[Feedback], comparer: Comparer) -> tuple[list[int], list[int]]:
    """Return the answers that may be the cause of what differed, newest first: the likely ones, then others.

    Likely are those since the last step that agreed. The others are some before, since a policy that is all
    but certain may show a difference late. What was taken back by then shows in no step, but in the weights.
    """
    taken_back = reader.undos((row.kind, row.supersedes) for row in rows)
    gone = {rows[number].supersedes for number in taken_back if number < comparer.rows}
    answers = [number for number in reversed(range(comparer.rows)) if number not in taken_back]
    if comparer.suspects:
        earliest = comparer.agreed - _ANSWERS_TRIED
        answers = [number for number in answers if number >= earliest and number not in gone]
    likely = [number for number in answers if number >= comparer.agreed or number in gone]
    return likely, [number for number in answers if number not in likely]


def _otherwise(rows: Sequence[Feedback], comparer: Comparer) -> Iterator[tuple[int, list[Feedback]]]:
    """Yield the rows with one answer given otherwise, and which: the opposite of each before the rest."""
    for candidates in _candidates(rows, comparer):
        for opposite in (True, False):
            for number in candidates:
                row = rows[number]
                for kind, value in ((Kind.RATING, 1.0), (Kind.RATING, 0.0), (Kind.SKIP, None)):
                    is_opposite = value is not None and row.value == 1 - value
                    if (kind, value) != (row.kind, row.value) and is_opposite == opposite:
                        changed = replace(row, kind=kind, value=value)
                        yield number, [*rows[:number], changed, *rows[number + 1 :]]


def _unseeded(episode: RecordedEpisode) -> bool:
    # In an imported session no seed may mean anything; elsewhere it means that the generators went on.
    return episode.reset_seed is None


def _environment_only(recorded: reader.RecordedSession, note: str) -> RolloutDiff:
    """Re-step the recorded actions, but for those of episodes whose seed nobody knows."""
    episodes: Iterable[RecordedEpisode] = recorded.episodes
    if recorded.facts["source"].startswith("imported:") and (n := sum(map(_unseeded, episodes))):
        note += f"; {n} of {len(recorded.episodes)} episodes came without a seed and can't be compared"
        episodes = itertools.filterfalse(_unseeded, episodes)
    count, difference = 0, None
    try:
        for made in resimulate.moments(recorded.facts, episodes):
            count += made.number is not None
    except resimulate.AstrayError as astray:
        difference = astray.difference
    return RolloutDiff(recorded.session_id, count, difference, "environment", note)
