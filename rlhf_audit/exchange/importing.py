"""Taking in: episodes that were recorded elsewhere become a session of this log, under a grant.

A session needs a rater who agreed. One who was asked elsewhere is enrolled here, and their grant says where
that is written down (method ``imported``); one who is asked here by this log's own terms has a grant already.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rlhf_audit import canonical
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError
from rlhf_audit.exchange.base import Reader, Reading, damaged
from rlhf_audit.log.store import Log
from rlhf_audit.log.writer import SessionFacts, SessionWriter
from rlhf_audit.types import EpisodeFacts, Grant, Kind, Purpose, Transition, episode_id

SOURCE = "imported:"


class ImportFormat(StrEnum):
    """What can be read; each is a module of this name."""

    MINARI = "minari"
    CSV = "csv"

    @property
    def reader(self) -> Reader:
        """Its ``read``."""
        found: Reader = importlib.import_module(f"rlhf_audit.exchange.{self.value}").read
        return found


@dataclass(frozen=True)
class Request:
    """What ``import`` was asked to do.

    Attributes:
        path: The file or folder.
        consent_reference: Where it is written down that the rater agreed; names no person.
        rater_id: Who; None to enrol somebody for it.
        env_id: The environment, where the file does not say it.
        purposes: To what a rater who is asked nowhere else agreed.
    """

    path: Path
    form: ImportFormat
    consent_reference: str
    rater_id: str | None = None
    env_id: str | None = None
    purposes: Sequence[Purpose] = (Purpose.TRAINING, Purpose.AUDIT)


@dataclass(frozen=True)
class Imported:
    """What was taken in.

    Attributes:
        withdrawal_code: Of a rater who was enrolled for it; None otherwise.
        unseeded: How many episodes came without a seed, so that ``replay`` can't play them again.
    """

    session_id: str
    rater_id: str
    grant_id: str
    withdrawal_code: str | None
    env_id: str
    episodes: int
    steps: int
    unseeded: int


def take_in(log: Log, request: Request) -> Imported:
    """Record the episodes of a file as one session; all of it is read and checked before anything is written.

    Raises:
        ConsentError: No reference; or a rater who withdrew, refused, or whose grant has expired.
        UsageError: The file does not hold what its format or its environment says.
    """
    reference = request.consent_reference.strip()
    if not reference:
        raise ConsentError(
            "nothing is imported without consent",
            seen="no reference to where it is written down that the people in the file agreed",
            needed="--consent-reference TEXT",
            fix="rlhf-audit import LOG FILE --format csv --consent-reference 'study 12, form B'",
        )
    with log.writing():
        if request.rater_id is not None:
            _check_standing(log, request.rater_id)
        reading = request.form.reader(request.path, request.env_id)
        if not reading.episodes:
            raise damaged("the file holds no episode", "no step", "at least one")
        rater_id, code = request.rater_id, None
        if rater_id is None:
            rater_id, code = register.enrol(log)
        grant = _grant(log, rater_id, request.purposes, reference)
        writer = SessionWriter(log, grant, _facts(request.form, reading))
        try:
            _record(writer, reading)
            log.append("import", _noted(writer.session_id, request, reading, reference))
        finally:
            writer.seal()
    return Imported(
        writer.session_id,
        rater_id,
        grant.grant_id,
        code,
        reading.env.env_id,
        len(reading.episodes),
        sum(len(episode.actions) for episode in reading.episodes),
        sum(episode.reset_seed is None for episode in reading.episodes),
    )


def _check_standing(log: Log, rater_id: str) -> None:
    """Refuse a rater who was asked here and has no grant that stands: no paper overrules what they said."""
    register.rater(log, rater_id)
    if register.standings(log, log.clock.now(), rater_id):
        register.grant_for(log, rater_id, log.clock.now())


def _grant(log: Log, rater_id: str, purposes: Sequence[Purpose], reference: str) -> Grant:
    if register.standings(log, log.clock.now(), rater_id):
        return register.grant_for(log, rater_id, log.clock.now())
    return register.give(log, rater_id, purposes, "imported", reference=reference)


def _facts(form: ImportFormat, reading: Reading) -> SessionFacts:
    return SessionFacts(
        kind=Kind.RATING.value,
        source=f"{SOURCE}{form.value}",
        env=canonical.parse_object(reading.env.to_json().encode()),
        seed=0,
        ask_every=1,
        rates=None,
        policy=None,
        learn=None,
        limits={"episodes": None, "max_feedback": None},
    )


def _noted(session_id: str, request: Request, reading: Reading, reference: str) -> Mapping[str, object]:
    return {
        "session_id": session_id,
        "format": request.form.value,
        "source_sha256": canonical.sha256_hex(canonical.json_bytes(reading.sha256)),
        "reference": reference,
    }


def _record(writer: SessionWriter, reading: Reading) -> None:
    # A stream's episodes stand together in a log.
    ordered = sorted(reading.episodes, key=lambda episode: episode.stream)
    for number, episode in enumerate(ordered):
        name = episode_id(writer.session_id, number)
        begun = EpisodeFacts(name, number, episode.reset_seed, None, episode.stream, episode.reset_options)
        writer.episode(begun, episode.observations[0])
        for step, action in enumerate(episode.actions):
            made = Transition(
                name,
                step,
                episode.observations[step],
                action,
                None,
                float(episode.env_rewards[step]),
                bool(episode.terminated[step]),
                bool(episode.truncated[step]),
            )
            writer.step(made, episode.observations[step + 1], episode.stream)
