"""Taking in ratings that were collected elsewhere, so that they can be audited: ADR 0066.

Each rater becomes a pseudonym and a session. What they rated becomes the episodes of the first session: an
item is an episode of one step, whose observation is the item's name, for that is all that is known of what
they saw. Nobody acted: the action is an empty text. An item's known right label is in ``info``.

Personal data:
    A rater's name and groups go into their key file alone. Names of items stay when raters are erased.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhf_audit.consent import register
from rlhf_audit.consent.people import under_age
from rlhf_audit.errors import ConsentError, RefusedError, UsageError
from rlhf_audit.exchange import ratings_reading
from rlhf_audit.exchange.importing import SOURCE
from rlhf_audit.exchange.ratings_reading import Array, Ratings
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionFacts, SessionWriter
from rlhf_audit.types import EpisodeFacts, Feedback, Grant, Kind, Purpose, Transition, episode_id

FORMAT = "ratings"
ENV_ID = "rated-elsewhere"
GOLD = "gold"
OBJECTIVE = "label"

_TEXT = {"type": "Text", "min_length": 0, "max_length": 1 << 20, "characters": ""}
_ENV = {
    "env_id": ENV_ID,
    "spec": {
        "id": ENV_ID,
        "entry_point": "",
        "kwargs": {},
        "max_episode_steps": 1,
        "nondeterministic": False,
        "additional_wrappers": [],
    },
    "observation_space": _TEXT,
    "action_space": _TEXT,
    "versions": {},
}


@dataclass(frozen=True)
class TakenIn:
    """What was taken in.

    Attributes:
        codes: The withdrawal code of each rater, by pseudonym, in the file's order of raters.
        sessions: One a rater.
        words: Labels that are words, in the order of their codes.
        n_gold: Items of which the right label is known.
    """

    codes: dict[str, str]
    sessions: tuple[str, ...]
    rows: int
    items: int
    words: tuple[str, ...]
    n_gold: int


def take_in(
    log: Log,
    path: Path,
    consent_reference: str,
    purposes: Sequence[Purpose] = (Purpose.AUDIT,),
    progress: Callable[[int, int], None] | None = None,
) -> TakenIn:
    """Enrol every rater of a file and record what they gave; the file is checked before anything is written.

    Args:
        log: Where to.
        path: A CSV file, as ``ratings_reading.read`` takes it.
        consent_reference: Where it is written down that the raters agreed; names no person.
        purposes: To what they agreed.
        progress: Told the raters that are done and how many there are.

    Raises:
        ConsentError: No reference.
        RefusedError: Somebody in it is under age.
        UsageError: The file holds no ratings, or was taken in before; or ``training`` is among ``purposes``.
    """
    reference = consent_reference.strip()
    _check_asked(reference, purposes)
    with log.writing():
        ratings = ratings_reading.read(path)
        _check_new(log, ratings)
        _check_age(ratings)
        codes: dict[str, str] = {}
        sessions: list[str] = []
        for number, places in ratings.by_rater():
            rater_id, code = register.enrol(log, ratings.raters[number], ratings.groups[number])
            grant = register.give(log, rater_id, purposes, "imported", reference=reference)
            sessions.append(_session(log, grant, ratings, places, sessions[0] if sessions else None))
            codes[rater_id] = code
            if progress is not None:
                progress(number + 1, len(ratings.raters))
        noted = {
            "session_ids": sessions,
            "format": FORMAT,
            "source_sha256": ratings.sha256,
            "reference": reference,
            "labels": list(ratings.words),
        }
        log.append("import", noted)
    n_gold = int((~_unknown(ratings.gold)).sum())
    return TakenIn(codes, tuple(sessions), len(ratings), len(ratings.items), ratings.words, n_gold)


def _check_asked(reference: str, purposes: Sequence[Purpose]) -> None:
    if not reference:
        raise ConsentError(
            "nothing is imported without consent",
            seen="no reference to where it is written down that the people in the file agreed",
            needed="--consent-reference TEXT",
            fix="rlhf-audit import LOG FILE --format ratings --consent-reference 'study 12, form B'",
        )
    if Purpose.TRAINING in purposes:
        raise UsageError(
            "nothing can be learnt from ratings of items that are not here",
            seen="--purpose training",
            needed="audit or publication",
            fix="leave --purpose training out",
        )


def _check_new(log: Log, ratings: Ratings) -> None:
    # An erased rater would come back under another name, and no one could tell.
    if any(entry.body["source_sha256"] == ratings.sha256 for entry in log.ledger.of("import")):
        raise UsageError(
            "this file has been taken in before",
            seen="an import of the same bytes in the ledger",
            needed="a file of other ratings",
            fix="rlhf-audit show LOG sessions",
        )


def _check_age(ratings: Ratings) -> None:
    if any(under_age(groups) for groups in ratings.groups):
        raise RefusedError(
            "somebody in the file is under age",
            seen="a group called age, of fewer than 18 years or a word for it",
            needed="raters who can agree by themselves",
            fix="leave their rows out; consent by a guardian is given rater by rater: enroll, consent --by",
        )


def _session(log: Log, grant: Grant, ratings: Ratings, places: Array, rates: str | None) -> str:
    """Record what one rater gave; the first holds the items too. Return its id."""
    facts = SessionFacts(
        kind=Kind.RATING.value,
        source=f"{SOURCE}{FORMAT}",
        env=_ENV,
        seed=0,
        ask_every=1,
        rates=rates,
        policy=None,
        learn=None,
        limits={"episodes": None, "max_feedback": None},
        info=[GOLD] if rates is None else [],
    )
    writer = SessionWriter(log, grant, facts)
    first = rates or writer.session_id
    try:
        if rates is None:
            _items(writer, ratings)
        writer.feedback_elsewhere(_rows(log, grant, ratings, places, first))
    finally:
        writer.seal()
    return writer.session_id


def _items(writer: SessionWriter, ratings: Ratings) -> None:
    for number, (name, unknown) in enumerate(zip(ratings.items, _unknown(ratings.gold), strict=True)):
        episode = episode_id(writer.session_id, number)
        writer.episode(EpisodeFacts(episode, number, None, None), name)
        info = "{}" if unknown else json.dumps({GOLD: float(ratings.gold[number])})
        writer.step(Transition(episode, 0, name, "", None, 0.0, True, False, info), "")


def _rows(log: Log, grant: Grant, ratings: Ratings, places: Array, first: str) -> Iterator[Feedback]:
    # The times of day are not known: it is noted now that they had answered.
    now = log.clock.now()
    columns = (ratings.item[places], ratings.label[places], ratings.latency_s[places])
    for position, (item, label, latency_s) in enumerate(zip(*(one.tolist() for one in columns), strict=True)):
        yield Feedback(
            episode_id(first, item),
            0,
            Kind.RATING,
            label,
            now,
            now,
            latency_s,
            position,
            objective=OBJECTIVE,
            grant_id=grant.grant_id,
        )


def _unknown(gold: Array) -> Array:
    unknown: Array = np.isnan(gold)
    return unknown
