"""The frozen values that rooms hand to each other, and the words they are named by."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Observation = npt.NDArray[Any]
"""One observation, ``(*obs_shape)``, in the environment's own dtype."""
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Weights = tuple[tuple[str, FloatArray], ...]
"""A policy's weights by name, in the network's order."""


class Kind(StrEnum):
    """What a feedback row is."""

    RATING = "rating"
    COMPARISON = "comparison"
    CORRECTION = "correction"
    DEMONSTRATION = "demonstration"
    SKIP = "skip"


class Purpose(StrEnum):
    """What a grant may cover."""

    TRAINING = "training"
    AUDIT = "audit"
    PUBLICATION = "publication"


class ConsentState(StrEnum):
    """The states of ISO/IEC TS 27560 and W3C DPV."""

    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"


class Severity(StrEnum):
    """How much a finding matters, least first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_GRANT_SEAL = object()


@dataclass(frozen=True)
class Grant:
    """A rater's consent, as the ledger holds it. Only ``consent.register`` makes one (``issue_grant``).

    Attributes:
        grant_id: Names the ledger entry.
        rater_id: Pseudonym.
        terms_sha256: Digest of the text that was shown.
        purposes: What it covers.
        given_at: Start, UTC.
        expires_at: End, UTC.
    """

    grant_id: str
    rater_id: str
    terms_sha256: str
    purposes: frozenset[Purpose]
    given_at: datetime
    expires_at: datetime
    seal: object = field(repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.seal is not _GRANT_SEAL:
            raise TypeError("a Grant is made by consent.register only")


def issue_grant(
    grant_id: str,
    rater_id: str,
    terms_sha256: str,
    purposes: frozenset[Purpose],
    given_at: datetime,
    expires_at: datetime,
) -> Grant:
    """Make a ``Grant``; for ``consent.register`` alone (a test holds every other module to it)."""
    return Grant(grant_id, rater_id, terms_sha256, purposes, given_at, expires_at, _GRANT_SEAL)


class AnswerKind(StrEnum):
    """What a rater did when asked."""

    ANSWER = "answer"
    SKIP = "skip"
    UNDO = "undo"
    WITHDRAW = "withdraw"
    QUIT = "quit"


@dataclass(frozen=True)
class Question:
    """What a rater is shown: one step, and "was the action correct?".

    Attributes:
        episode_id: Names the episode.
        step: From 0, within the episode.
        observation: What the agent saw, a value of the observation space.
        action: What it did, a value of the action space.
        action_meaning: The action in words.
        position: From 0, how many questions were answered or skipped before it and stand.
        return_so_far: Sum of env_reward in this episode before this action.
        frame: Gives the environment's picture, ``(h, w, 3)`` uint8, before the action; or None.
        n_questions: How many there will be in all, as far as is known; a skip may add one. None if unknown.
    """

    episode_id: str
    step: int
    observation: Observation
    action: Any
    action_meaning: str
    position: int
    return_so_far: float
    frame: Callable[[], npt.NDArray[np.uint8] | None] | None = None
    n_questions: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a rater answered.

    Attributes:
        kind: An answer, a skip, an undo of the last standing answer, a withdrawal, or the end.
        value: 1 for yes, 0 for no; None unless ``kind`` is an answer.
        latency_s: Seconds from shown to answered, pauses not counted.
    """

    kind: AnswerKind
    value: float | None = None
    latency_s: float = 0.0


def episode_id(session_id: str, episode: int) -> str:
    """Return the id of a session's episode, numbered from 0.

    >>> episode_id("s-0001", 2)
    's-0001-e0002'
    """
    return f"{session_id}-e{episode:04d}"


@dataclass(frozen=True)
class EpisodeFacts:
    """What is known of an episode when it begins.

    Attributes:
        episode: Number within the session, from 0.
        reset_seed: What ``reset`` was given; None where the environment's generators went on.
        behaviour_policy_sha256: Of the weights that act first; None where they are not known.
        stream: Which of the session's environments, from 0.
        reset_options: JSON of the other arguments of ``reset``; None without any.
    """

    episode_id: str
    episode: int
    reset_seed: int | None
    behaviour_policy_sha256: str | None
    stream: int = 0
    reset_options: str | None = None


@dataclass(frozen=True)
class Transition:
    """One row of ``steps``.

    Attributes:
        observation: A value of the environment's observation space.
        action: A value of its action space.
        action_probability: The behaviour policy's probability (or density) of ``action``; None where it is
            unknown or was redacted.
        info: JSON of the chosen keys of ``info``; None where none was chosen.
    """

    episode_id: str
    step: int
    observation: Any
    action: Any
    action_probability: float | None
    env_reward: float
    terminated: bool
    truncated: bool
    info: str | None = None


@dataclass(frozen=True)
class Feedback:
    """One row of a rater's own file: anything they gave, undo and skip included.

    Attributes:
        supersedes: Row number, in the same session, of the row that this one takes back or replaces.
        latency_s: Seconds from shown to answered; NaN where nobody knows, of answers given elsewhere.
        position: From 0, the how manieth question of the session.
        action: The action named by a correction or demonstration; None for a rating.
    """

    episode_id: str
    step: int
    kind: Kind
    value: float | None
    shown_at: datetime
    answered_at: datetime
    latency_s: float
    position: int
    supersedes: int | None = None
    objective: str = "correct"
    other_episode_id: str | None = None
    other_step: int | None = None
    n_steps: int = 1
    action: int | None = None
    consent: bool = True
    grant_id: str = ""


@dataclass(frozen=True)
class RatedSteps:
    """Usable ratings as arrays, in training order (ledger, episode, step).

    Attributes:
        observations: ``(n, obs_dim)`` float32.
        actions: ``(n,)`` int64; of several dimensions ``(n, n_dimensions)`` float32.
        values: ``(n,)`` float32, 1 for yes and 0 for no.
        raters: ``(n,)`` int64, index into ``rater_ids``; numbered by first appearance.
        rater_ids: Pseudonyms; names only, never used for order or seeds.
        episodes: ``(n,)`` int64, numbered by first appearance.
        action_probabilities: ``(n,)`` float32, NaN where redacted.
        n_actions: Size of the action space; of several dimensions each one's, 0 for a number.
    """

    observations: FloatArray
    actions: IntArray | FloatArray
    values: FloatArray
    raters: IntArray
    rater_ids: tuple[str, ...]
    episodes: IntArray
    action_probabilities: FloatArray
    n_actions: int | tuple[int, ...]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class AuditRow:
    """One row of an audit: DESIGN.md section 8's contract, and the q of its family.

    Attributes:
        subject: A pseudonym, a pair ``r-a/r-b``, a rater and an action ``r-a:1``, or ``all``.
        n: How many data it rests on.
        value: The statistic; None when there are too few data.
        lower: Lower end of the 95 per cent interval.
        upper: Upper end.
        p: Two-sided p-value, None where none is defined.
        q: Benjamini-Hochberg's adjusted p within this audit, None where p is.
        flagged: A finding.
        note: ``ok``, ``insufficient`` or a few words.
    """

    subject: str
    n: int
    value: float | None
    lower: float | None
    upper: float | None
    p: float | None
    q: float | None
    flagged: bool
    note: str


@dataclass(frozen=True)
class AuditResult:
    """All rows of one audit, and the SQL that made them."""

    id: str
    question: str
    severity: Severity
    rows: tuple[AuditRow, ...]
    sql: str
    parameters: dict[str, float]

    @property
    def findings(self) -> tuple[AuditRow, ...]:
        return tuple(row for row in self.rows if row.flagged)
