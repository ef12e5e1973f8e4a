"""Every grant as it stands at a moment: the states of ISO/IEC TS 27560, read from the ledger alone."""

from dataclasses import dataclass
from datetime import datetime

from rlhf_audit.clock import from_text
from rlhf_audit.consent import terms
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Purpose


@dataclass(frozen=True)
class Standing:
    """One grant as it stands at a moment.

    Attributes:
        state: Given, refused, withdrawn, expired or invalidated.
        purposes: Those not taken back.
    """

    grant_id: str
    rater_id: str
    state: ConsentState
    purposes: frozenset[Purpose]
    terms_sha256: str
    given_at: datetime
    expires_at: datetime


def standings(log: Log, as_of: datetime, rater_id: str | None = None) -> list[Standing]:
    """Return every grant as it stands at ``as_of``, oldest first."""
    found = []
    withdrawals = list(log.ledger.of("withdrawal"))
    invalid = {name for entry in log.ledger.of("consent-invalidated") for name in entry.body["grant_ids"]}
    for entry in log.ledger.of("consent"):
        body = entry.body
        if rater_id not in (None, body["rater_id"]):
            continue
        purposes = set(body["purposes"])
        for later in withdrawals if body["state"] == ConsentState.GIVEN else ():
            if later.seq > entry.seq and later.body["rater_id"] == body["rater_id"]:
                purposes -= set(later.body["purposes"])
        expires = from_text(body["expires_at"])
        state = ConsentState(body["state"])
        if body["grant_id"] in invalid:
            state = ConsentState.INVALIDATED
        elif state is ConsentState.GIVEN and not purposes:
            state = ConsentState.WITHDRAWN
        elif state is ConsentState.GIVEN and expires <= as_of:
            state = ConsentState.EXPIRED
        found.append(
            Standing(
                body["grant_id"],
                body["rater_id"],
                state,
                frozenset(Purpose(purpose) for purpose in purposes),
                body["terms_sha256"],
                from_text(body["given_at"]),
                expires,
            )
        )
    return found


def agreed_before(log: Log, rater_id: str, as_of: datetime) -> set[Purpose]:
    """Return the purposes that a rater's grants under the newest terms cover at ``as_of``.

    A row is tied to one grant, so who agrees to one purpose more is asked for all that stand, and the new
    grant covers them together.
    """
    digest = terms.current(log)[0]
    given = [
        standing.purposes
        for standing in standings(log, as_of, rater_id)
        if standing.state is ConsentState.GIVEN and standing.terms_sha256 == digest
    ]
    return set().union(*given)


def stands(log: Log, rater_id: str, as_of: datetime) -> bool:
    """Say whether anything that this rater agreed to stands at ``as_of``."""
    return any(standing.state is ConsentState.GIVEN for standing in standings(log, as_of, rater_id))
