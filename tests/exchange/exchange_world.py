"""A log of several environments, raters and grants, written without a policy, and so without TensorFlow."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rlhf_audit import envs
from rlhf_audit.consent import register, terms
from rlhf_audit.log import store
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionFacts, SessionWriter
from rlhf_audit.seeds import SeededEntropy, child_seed
from rlhf_audit.types import EpisodeFacts, Feedback, Kind, Purpose, Transition

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ALL = tuple(Purpose)
INTERNAL = (Purpose.TRAINING, Purpose.AUDIT)
CART_POLE, PICTURES = "CartPole-v1", "exchange_pictures:Pictures-v0"
PLAYED = (CART_POLE, "Pendulum-v1", "Taxi-v4", "Blackjack-v1", PICTURES)
"""Vectors, float64 rewards and continuous actions, a number as observation, a Tuple, pictures."""


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 4, 9, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def new_log(root: Path) -> Log:
    log = store.create(root, Clock(), SeededEntropy(7), KEY)
    terms.add(log)
    return log


def enrolled(log: Log, *purposes: Purpose) -> str:
    rater_id, _ = register.enrol(log, alias="Ada Lovelace")
    if purposes:
        register.give(log, rater_id, purposes, "terminal")
    return rater_id


def play(
    log: Log, rater_id: str, env_id: str, n_episodes: int = 2, most: int = 12, learn: bool = False
) -> str:
    """Record episodes of random actions, of which every other is rated; return the session's id."""
    env = envs.open_env(env_id)
    record = envs.describe(env)
    env.action_space.seed(5)
    algorithm = {"algorithm": "likelihood", "parameters": {}} if learn else None
    limits = {"episodes": None, "max_feedback": None}
    facts = SessionFacts(
        "rating", "library", json.loads(record.to_json()), 0, 1, None, None, algorithm, limits
    )
    with log.writing():
        grant = register.grant_for(log, rater_id, log.clock.now())
        writer = SessionWriter(log, grant, facts)
        position = 0
        for number in range(n_episodes):
            name, seed = f"{writer.session_id}-e{number:04d}", child_seed(0, env_id, number) % 2**31
            observation, _ = env.reset(seed=seed)
            writer.episode(EpisodeFacts(name, number, seed, None), observation)
            for step in range(most):
                action = env.action_space.sample()
                after, env_reward, terminated, truncated, _ = env.step(action)
                made = Transition(
                    name, step, observation, action, None, float(env_reward), terminated, truncated
                )
                writer.step(made, after)
                observation = after
                if step % 2 == 0:
                    writer.feedback(rating(log, name, step, step % 4 / 2, position, grant.grant_id))
                    position += 1
                if terminated or truncated:
                    break
        writer.seal()
    env.close()
    return writer.session_id


def rate(log: Log, rater_id: str, session_id: str, values: dict[int, float]) -> str:
    """Rate steps of a session's first episode again; return the new session's id."""
    rated = next(e.body for e in log.ledger.of("session") if e.body["session_id"] == session_id)
    limits = {"episodes": None, "max_feedback": None}
    facts = SessionFacts("rating", "terminal", rated["env"], 0, 1, session_id, None, None, limits)
    with log.writing():
        grant = register.grant_for(log, rater_id, log.clock.now())
        writer = SessionWriter(log, grant, facts)
        for position, (step, value) in enumerate(values.items()):
            writer.feedback(rating(log, f"{session_id}-e0000", step, value, position, grant.grant_id))
        writer.seal()
    return writer.session_id


def rating(log: Log, episode_id: str, step: int, value: float, position: int, grant_id: str) -> Feedback:
    now = log.clock.now()
    return Feedback(episode_id, step, Kind.RATING, value, now, now, 0.5, position, grant_id=grant_id)


def several(root: Path) -> Log:
    """Return a log of every environment in ``PLAYED``, all of it free to be handed out."""
    log = new_log(root)
    rater_id = enrolled(log, *ALL)
    for env_id in PLAYED:
        play(log, rater_id, env_id)
    rate(log, enrolled(log, *ALL), "s-0001", {0: 0.0, 1: 1.0})
    return log


def same(a: Any, b: Any) -> bool:
    """Say whether two values of a space are the same to the bit, dtype included."""
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    left, right = np.asarray(a), np.asarray(b)
    return left.dtype == right.dtype and left.tobytes() == right.tobytes() and left.shape == right.shape
