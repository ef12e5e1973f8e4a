"""What a report is told about a log: frozen facts, and the points of its figures.

Personal data:
    Pseudonyms, counts and statistics only: no alias, no group, no free text. A rater who has withdrawn
    appears as a pending withdrawal and nowhere else; one who has been erased appears nowhere.
"""

from dataclasses import dataclass

from rlhf_audit.log.ledger import Head


@dataclass(frozen=True)
class RaterFacts:
    """One rater whose feedback may be audited.

    Attributes:
        scripted: Name of the script; None for a person.
        rows: Rows usable for audit.
        sessions: Sessions that those rows lie in.
        consent: ``given`` while any purpose is covered, else the state of the latest grant, else ``none``.
        purposes: What is covered now, sorted.
        expires_at: RFC 3339; the last end of the grants that cover them.
        withdrawn: Purposes taken back and not granted again.
    """

    rater_id: str
    scripted: str | None
    rows: int
    sessions: int
    consent: str
    purposes: tuple[str, ...]
    expires_at: str | None
    withdrawn: tuple[str, ...]


@dataclass(frozen=True)
class PolicyFacts:
    """One trained policy; ``n_withdrawn`` of its ``n_raters`` have taken back their consent to training."""

    name: str
    weights_sha256: str
    algorithm: str
    rows: int
    n_raters: int
    n_withdrawn: int
    trained_at: str | None
    state: str


@dataclass(frozen=True)
class ExportFacts:
    """Rows that were handed out; ``n_withdrawn`` of their ``n_raters`` have withdrawn since."""

    path: str
    n_raters: int
    n_withdrawn: int
    made_at: str | None
    state: str


@dataclass(frozen=True)
class WithdrawalFacts:
    """A withdrawal whose erasure is still to be done by ``erase_by``, unless a legal hold suspends it."""

    rater_id: str
    purposes: tuple[str, ...]
    withdrawn_at: str | None
    erase_by: str | None
    overdue: bool
    held: bool = False


@dataclass(frozen=True)
class Counts:
    """How much there is: trajectories of the whole log, feedback that may be audited."""

    sessions: int
    episodes: int
    steps: int
    feedback: int
    raters: int
    scripted: int
    erased: int


@dataclass(frozen=True)
class LogFacts:
    """What a report says about the log itself.

    Attributes:
        head: The ledger's head that the facts were read at.
        as_of: RFC 3339; the moment that consent was judged at, None when the caller names none.
        erased: Pseudonyms that the report must not hold; used to leave rows out, never written.
    """

    log_id: str
    head: Head
    format_version: int
    as_of: str | None
    counts: Counts
    raters: tuple[RaterFacts, ...] = ()
    policies: tuple[PolicyFacts, ...] = ()
    exports: tuple[ExportFacts, ...] = ()
    withdrawals: tuple[WithdrawalFacts, ...] = ()
    erased: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DriftBin:
    """Ratings of one rater at ``first`` to ``last`` tenths of the way from their first to their last.

    Attributes:
        mean: Mean value of ``n`` ratings.
        residual: Mean of value minus the mean of the other raters on the same item, over the ``n_shared``
            ratings that have any; None when none has.
    """

    rater_id: str
    first: int
    last: int
    n: int
    mean: float
    n_shared: int
    residual: float | None


@dataclass(frozen=True)
class Latency:
    """Quantiles of a rater's answering time, in seconds."""

    rater_id: str
    n: int
    p05: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True)
class EpisodeBin:
    """Pairs of ratings of one step, at ``first`` to ``last`` tenths of an episode's length."""

    first: int
    last: int
    n_pairs: int
    n_disagreeing: int


@dataclass(frozen=True)
class DisputedStep:
    """A step that raters answered differently.

    Attributes:
        n: Ratings that it has.
        disagreement: The chance that two of them, drawn with replacement, differ.
        answers: Each label and how often it was given.
        picture: PNG in base64 of what the raters saw; None where it can't be drawn.
    """

    session_id: str
    episode_id: str
    step: int
    env_id: str
    n: int
    disagreement: float
    answers: tuple[tuple[float, int], ...]
    picture: str | None = None


@dataclass(frozen=True)
class ConsentSpell:
    """A stretch of time: a grant from its start to its end, or a withdrawal to its deadline.

    Attributes:
        state: A consent state, or ``erasure due`` or ``erasure overdue``.
    """

    rater_id: str
    state: str
    starts_at: str
    ends_at: str


@dataclass(frozen=True)
class FigureData:
    """The points of every figure that the audits' own rows do not hold.

    Attributes:
        pictures_note: Why disputed steps have no picture; empty if all have.
    """

    drift: tuple[DriftBin, ...] = ()
    latencies: tuple[Latency, ...] = ()
    episode: tuple[EpisodeBin, ...] = ()
    disputed: tuple[DisputedStep, ...] = ()
    spells: tuple[ConsentSpell, ...] = ()
    pictures_note: str = ""
