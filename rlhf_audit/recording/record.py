"""Recording one session under a grant."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from rlhf_audit import envs, meanings
from rlhf_audit.consent import register
from rlhf_audit.errors import RefusedError, UsageError
from rlhf_audit.log import artefacts, reader
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionFacts
from rlhf_audit.policy import lineage, store
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.live import LiveLearner
from rlhf_audit.policy.network import initial_weights, weights_sha256
from rlhf_audit.raters.base import FeedbackSource
from rlhf_audit.raters.scripted import scripted_source
from rlhf_audit.recording import again
from rlhf_audit.recording.library import OpenSession
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.recording.stage import RecordedStage
from rlhf_audit.seeds import child_seed
from rlhf_audit.session import (
    Fixed,
    Learner,
    Limits,
    Moment,
    Outcome,
    acting,
    interview,
    rated_again,
)
from rlhf_audit.spaces.hashed import FULL
from rlhf_audit.types import Kind, Purpose, Weights

_SCRIPTED = "scripted:"


@dataclass(frozen=True)
class Request:
    """What ``record`` was asked to do.

    Attributes:
        env_id: The environment; None when rating a session again.
        source: ``terminal`` or ``scripted:NAME``.
        policy: Folder of the behaviour policy; None for the untrained network.
        learn: Algorithm of the live update; None without one.
        to: Folder for what was learnt.
        rates: The session to rate again.
        info: Keys of ``info`` that are kept.
        observations: ``full``, or ``hashed``.
    """

    rater_id: str
    source: str
    env_id: str | None = None
    kind: Kind = Kind.RATING
    policy: Path | None = None
    learn: str | None = None
    to: Path | None = None
    ask_every: int = 1
    episodes: int | None = None
    max_feedback: int | None = None
    rates: str | None = None
    seed: int = 0
    info: tuple[str, ...] = ()
    observations: str = FULL


@dataclass(frozen=True)
class Recorded:
    """What became of it.

    Attributes:
        session_id: None when nothing was given and nothing happened.
        feedback: Answers that stand.
        weights_sha256: Of the policy at the end; None when rating a session again.
        withdrew: The rater withdrew consent during the session.
    """

    session_id: str | None
    episodes: int
    steps: int
    feedback: int
    weights_sha256: str | None
    withdrew: bool


@dataclass(frozen=True)
class _Ready:
    """Everything a session needs, found to be in order before anything is written."""

    env: gym.Env[Any, Any]
    record: envs.EnvRecord
    interface: Interface | None
    learner: Learner | None
    rated: reader.RecordedSession | None
    facts: SessionFacts


def record(
    log: Log,
    request: Request,
    person: Callable[[], FeedbackSource] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Recorded:
    """Record one session, sealed even when it is interrupted.

    Args:
        log: Where to.
        request: What.
        person: Makes the source for ``terminal``.
        progress: Told the number of questions answered so far.

    Raises:
        ConsentError: No grant of the rater stands, or it ended during the session.
        RefusedError: A script for a person, or a person for a scripted rater.
        UsageError: A wrong argument; nothing is written then.
    """
    with log.writing():
        grant = register.grant_for(log, request.rater_id, log.clock.now(), _purpose(request))
        _check_source(log, request)
        _check_numbers(request)
        with contextlib.ExitStack() as held:
            stage = _prepare(log, request, held)
            source = held.enter_context(contextlib.closing(_source(log, request, stage, person)))
            session = OpenSession(log, grant, stage.facts, _purpose(request), watched=True)
            writer, outcome = session.writer, Outcome(0)
            try:
                outcome = _hold(log, request, stage, source, session, progress)
                if outcome.withdrew:
                    # Before anything else can fail: it works at once.
                    register.withdraw(log, request.rater_id)
            finally:
                session.close()
        sealed = writer.seal()
        if request.to is not None and stage.learner is not None and sealed and not outcome.withdrew:
            writer.check(log.clock.now())
            lineage.save_live(log, request.to, writer.session_id, stage.learner.weights)
    body = reader.session_facts(log, writer.session_id) if sealed else {"n_episodes": 0, "n_steps": 0}
    return Recorded(
        writer.session_id if sealed else None,
        body["n_episodes"],
        body["n_steps"],
        outcome.answers,
        stage.learner.weights_sha256 if stage.learner else None,
        outcome.withdrew,
    )


def _purpose(request: Request) -> Purpose | None:
    """Return what the grant must cover: a policy that learns is trained there and then."""
    return Purpose.TRAINING if request.learn else None


def _hold(
    log: Log,
    request: Request,
    stage: _Ready,
    source: FeedbackSource,
    session: OpenSession,
    progress: Callable[[int], None] | None,
) -> Outcome:
    writer, n_asked = session.writer, 0

    def permitted() -> None:
        nonlocal n_asked
        writer.check(log.clock.now())
        if progress:
            progress(n_asked)
        n_asked += 1

    if stage.rated is not None:
        moments: Iterator[Moment] = rated_again(stage.rated, stage.env, request.episodes)
        learner: Learner = Fixed((), "")
        first = itertools.islice(stage.rated.episodes, request.episodes)
        n_moments = sum(len(episode.steps) for episode in first)
    else:
        assert stage.learner is not None and stage.interface is not None
        learner, n_moments = stage.learner, None
        place = RecordedStage(Recorder.into(session, stage.env))
        moments = acting(place, stage.interface, learner, request.seed, request.episodes, writer.session_id)
    in_words = partial(meanings.action_in_words, stage.record.env_id, stage.record.action_space)
    limits = Limits(request.ask_every, request.episodes, request.max_feedback, n_moments)
    clock, grant_id = log.clock, writer.grant.grant_id
    return interview(moments, source, writer, learner, limits, clock, in_words, grant_id, permitted)


def _check_source(log: Log, request: Request) -> None:
    who = register.rater(log, request.rater_id)
    scripted = request.source.startswith(_SCRIPTED)
    if not scripted and request.source != "terminal":
        raise UsageError(
            f"no source {request.source!r}",
            needed="terminal or scripted:NAME",
            fix="rlhf-audit record --help",
        )
    if scripted != (who["scripted"] is not None):
        raise RefusedError(
            f"{request.rater_id} may not give feedback by {request.source.split(':')[0]}",
            seen=f"a {'scripted rater' if who['scripted'] else 'person'}",
            needed="scripts for scripted raters, the terminal for people",
            fix="rlhf-audit enroll LOG --scripted NAME",
        )
    if request.kind is not Kind.RATING:
        raise UsageError(
            f"feedback of kind {request.kind.value} can't be recorded yet",
            needed="rating",
            fix="rlhf-audit record LOG … --kind rating",
        )


def _check_numbers(request: Request) -> None:
    for option, value in (
        ("--ask every", request.ask_every),
        ("--episodes", request.episodes),
        ("--max-feedback", request.max_feedback),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{option} can't be {value}", seen=str(value), needed="a whole number from 1")
    if not 0 <= request.seed < 2**63:
        raise UsageError("--seed is out of range", seen=str(request.seed)[:40], needed="0 to 2^63 - 1")
    endless = request.rates is None and request.episodes is None and request.max_feedback is None
    if endless and request.source.startswith(_SCRIPTED):
        raise UsageError(
            "a scripted rater would never stop",
            needed="--episodes or --max-feedback",
            fix="add --max-feedback 100",
        )


def _prepare(log: Log, request: Request, held: contextlib.ExitStack) -> _Ready:
    """Find everything in order, or refuse; ``held`` closes what was opened."""
    rated = again.rated(log, request.rates) if request.rates else None
    env_id = rated.facts["env"]["env_id"] if rated else request.env_id
    if env_id is None or (request.env_id is not None and env_id != request.env_id):
        raise UsageError(
            "the environment is not clear",
            seen=f"--env {request.env_id}, and the session's {env_id}",
            needed="--env ID, or --rate SESSION alone",
        )
    if rated and (request.info or request.observations != FULL):
        raise UsageError(
            "nothing of the steps is recorded while they are rated again",
            fix="leave --info and --observations out",
        )
    if rated and (request.learn or request.policy or request.to):
        raise UsageError("a policy can't act or learn while recorded steps are rated again")
    if request.to and not request.learn:
        raise UsageError("there is nothing to save without --learn", fix="add --learn, or leave --to out")
    if request.to:
        store.check_free(request.to)
    env = held.enter_context(contextlib.closing(_open(env_id, request.source == "terminal")))
    found = envs.describe(env)
    interface: Interface | None = None
    learner: Learner | None = None
    described: dict[str, Any] | None = None
    learn: dict[str, Any] | None = None
    if rated:
        envs.check_same(envs.EnvRecord.from_json(json.dumps(rated.facts["env"])), env, versions=False)
    else:
        interface, weights, described = behaviour_policy(log, request.policy, found, request.seed)
        learner = Fixed(weights, described["weights_sha256"])
        if request.learn:
            seed = child_seed(request.seed, "learn")
            live = LiveLearner(interface.spec, weights, request.learn, seed, interface=interface)
            learner, learn = live, {"algorithm": request.learn, "parameters": live.parameters}
    facts = SessionFacts(
        request.kind.value,
        request.source,
        json.loads(found.to_json()),
        request.seed,
        request.ask_every,
        rated.session_id if rated else None,
        described,
        learn,
        {"episodes": request.episodes, "max_feedback": request.max_feedback},
        request.info,
        request.observations,
    )
    return _Ready(env, found, interface, learner, rated, facts)


def behaviour_policy(
    log: Log, folder: Path | None, record: envs.EnvRecord, seed: int
) -> tuple[Interface, Weights, dict[str, Any]]:
    """Return the interface to the network that acts, its weights, and what the ledger says of it."""
    envs.check_playable(record)
    if folder is None:
        interface = Interface(record.observation_space, record.action_space)
        weights = initial_weights(interface.spec, child_seed(seed, "policy"))
        name, path = "untrained", None
    else:
        stored = store.load(folder)
        interface = Interface(record.observation_space, record.action_space, stored.spec.hidden)
        weights, name = stored.weights, folder.name
        path = artefacts.recorded_path(log, folder)
        if stored.spec != interface.spec:
            raise UsageError(
                f"the policy {name} is not for {record.env_id}",
                seen=stored.spec.in_words,
                needed=interface.spec.in_words,
                fix="choose a policy that was made for it, or leave --policy out",
            )
    described = {
        "name": name,
        "path": path,
        "network": interface.spec.to_json(),
        "weights_sha256": weights_sha256(weights),
    }
    return interface, weights, described


def _open(env_id: str, frames: bool) -> gym.Env[Any, Any]:
    if frames:
        with contextlib.suppress(envs.NoPictureError):
            return envs.open_env(env_id, frames=True)
    return envs.open_env(env_id)


def _source(
    log: Log, request: Request, stage: _Ready, person: Callable[[], FeedbackSource] | None
) -> FeedbackSource:
    if request.source == "terminal":
        assert person is not None
        return person()
    peers = again.peers(log, stage.rated.session_id) if stage.rated else {}
    name = request.source.removeprefix(_SCRIPTED)
    return scripted_source(name, stage.record.env_id, child_seed(request.seed, "rater"), peers)
