"""Rating recorded steps again: which steps those are, and what others have answered about them."""

from rlhf_audit.consent import register
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.spaces.hashed import HASHED
from rlhf_audit.spaces.holding import holds
from rlhf_audit.types import ConsentState


def rated(log: Log, session_id: str) -> reader.RecordedSession:
    """Return the session whose steps are meant.

    Raises:
        UsageError: It has no steps, or only digests of its observations.
        LogError: It holds actions that its environment does not have.
    """
    facts = reader.session_facts(log, session_id)
    # Who rates a rating session means the steps that were rated there.
    session = reader.session(log, facts["rates"] or session_id)
    if not session.episodes:
        raise UsageError(
            f"{session_id} has no steps to rate",
            seen="0 steps",
            needed="a session in which the agent acted",
            fix="rlhf-audit show LOG sessions",
        )
    if session.facts["observations"] == HASHED:
        raise UsageError(
            f"the steps of {session.session_id} can't be rated: their observations are not in the log",
            seen="a digest of each observation",
            needed="a session recorded with its observations",
            fix=f"rlhf-audit replay LOG {session.session_id} --materialise DIR has them again; "
            "record without --observations hashed for what is to be rated",
        )
    space = session.facts["env"]["action_space"]
    if not all(holds(space, step.action) for episode in session.episodes for step in episode.steps):
        raise LogError(
            f"the steps of {session.session_id} can't be rated",
            seen="an action that the environment does not have",
            needed=f"actions of its {space['type']} space, as they were recorded",
            fix="rlhf-audit verify LOG",
        )
    return session


def peers(log: Log, session_id: str) -> dict[tuple[str, int], float]:
    """Return the first answer to each step of a session that stands, consent and all: what a copier sees."""
    answers: dict[tuple[str, int], float] = {}
    standing = {
        grant.grant_id
        for grant in register.standings(log, log.clock.now())
        if grant.state is ConsentState.GIVEN
    }
    for entry in log.ledger.of("session"):
        if session_id not in (entry.body["session_id"], entry.body["rates"]):
            continue
        rows = reader.session(log, entry.body["session_id"]).feedback or ()
        superseded = {row.supersedes for row in rows}
        for number, row in enumerate(rows):
            if row.value is not None and number not in superseded and row.grant_id in standing:
                answers.setdefault((row.episode_id, row.step), row.value)
    return answers
