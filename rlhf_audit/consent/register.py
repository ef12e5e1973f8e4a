"""Who agreed to what, and may this be done now: the only place that makes a ``Grant``.

States and their names follow ISO/IEC TS 27560 and W3C DPV. Everything is read from the ledger.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rlhf_audit.clock import from_text, to_text
from rlhf_audit.consent import terms
from rlhf_audit.errors import ConsentError, LedgerError, RefusedError, UsageError, near
from rlhf_audit.log import durable, keys
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.layout import checked_rater_id
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Grant, Purpose, issue_grant

GRANT_DAYS = 365
ERASE_WITHIN_DAYS = 30
_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True)
class Standing:
    """One grant as it stands at a moment.

    Attributes:
        state: Given, refused, withdrawn or expired.
        purposes: Those not taken back.
    """

    grant_id: str
    rater_id: str
    state: ConsentState
    purposes: frozenset[Purpose]
    terms_sha256: str
    given_at: datetime
    expires_at: datetime


def enrol(
    log: Log, alias: str = "", groups: dict[str, str] | None = None, scripted: str | None = None
) -> tuple[str, str]:
    """Enrol a rater; return the random pseudonym and the withdrawal code, which is kept nowhere.

    Raises:
        OSError: The disk refused. Nobody was enrolled then, nor will be: nothing of them is kept.

    Personal data:
        Alias and groups go into the rater's key file alone.
    """
    with log.writing():
        taken = {entry.body["rater_id"] for entry in log.ledger.of("enrolled")}
        rater_id = f"r-{log.entropy.token(4).hex()}"
        while rater_id in taken:
            rater_id = f"r-{log.entropy.token(4).hex()}"
        letters = [_CODE_ALPHABET[byte % 32] for byte in log.entropy.token(16)]
        code = "-".join("".join(letters[i : i + 4]) for i in range(0, 16, 4))
        salt = log.entropy.token(16)
        mac_key = log.entropy.token(32)
        key = RaterKey(rater_id, mac_key, alias, groups or {}, salt, keys.hash_code(code, salt))
        try:
            keys.write(log.layout, key)
            body = {"rater_id": rater_id, "scripted": scripted, "key_commitment": key.commitment}
            log.append("enrolled", body)
        except (OSError, LedgerError):
            # They are not enrolled and never will be, so their name must not stay. What a kill leaves, or
            # can't be removed now, goes at the next opening.
            path = log.layout.key_file(rater_id)
            with contextlib.suppress(OSError):
                durable.destroy(path)
            with contextlib.suppress(OSError):
                # A full disk may have let it be overwritten only.
                path.unlink(missing_ok=True)
            raise
    return rater_id, code


def rater(log: Log, rater_id: str) -> dict[str, Any]:
    """Return the enrolment of a rater who is still here: ``rater_id, scripted``.

    Raises:
        UsageError: Nobody of that name is: never enrolled and erased are one answer.
    """
    checked_rater_id(rater_id)
    gone = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    here = {
        entry.body["rater_id"]: dict(entry.body)
        for entry in log.ledger.of("enrolled")
        if entry.body["rater_id"] not in gone
    }
    if rater_id not in here:
        raise UsageError(
            f"nobody called {rater_id} takes part here: never enrolled, or all of theirs has been deleted",
            seen=near(rater_id, here, cutoff=0.85) or f"{len(here)} enrolled, none of that name",
            needed="a rater who takes part",
            fix="rlhf-audit show LOG raters; whose feedback was deleted need do nothing, and has a receipt",
        )
    return here[rater_id]


def standings(log: Log, as_of: datetime, rater_id: str | None = None) -> list[Standing]:
    """Return every grant as it stands at ``as_of``, oldest first."""
    found = []
    withdrawals = list(log.ledger.of("withdrawal"))
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
        if state is ConsentState.GIVEN and not purposes:
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


def give(
    log: Log,
    rater_id: str,
    purposes: Iterable[Purpose],
    method: str,
    shown_sha256: str | None = None,
    reference: str | None = None,
) -> Grant:
    """Record that a rater agreed to the newest terms.

    Args:
        log: Where it is recorded.
        rater_id: Who agreed.
        purposes: To what.
        method: How they were asked: ``terminal``, ``web``, ``imported`` or ``scripted``.
        shown_sha256: Digest of the text that was shown; must be the newest still.
        reference: Where it is written down that they agreed, when they were asked elsewhere.

    Raises:
        UsageError: No such rater, or no purpose.
        RefusedError: ``method`` claims a script for a person or the other way round, or the terms have
            changed since they were shown.
    """
    with log.writing():
        who = rater(log, rater_id)
        if shown_sha256 not in (None, terms.current(log)[0]):
            raise RefusedError(
                "the terms have changed since they were shown",
                needed="the rater reads the new ones",
                fix=f"rlhf-audit consent LOG {rater_id} --purpose training",
            )
        if (method == "scripted") != (who["scripted"] is not None):
            raise RefusedError(
                "consent without a question is for scripted raters only",
                seen=f"{rater_id} is {'scripted' if who['scripted'] else 'a person'}",
                needed="the person reads the terms and answers",
                fix=f"rlhf-audit consent LOG {rater_id} --purpose training",
            )
        body = _record(log, rater_id, purposes, method, ConsentState.GIVEN, reference)
    return _grant(body)


def refuse(log: Log, rater_id: str, purposes: Iterable[Purpose], method: str) -> None:
    """Record that a rater was asked and said no."""
    with log.writing():
        rater(log, rater_id)
        _record(log, rater_id, purposes, method, ConsentState.REFUSED)


def _record(
    log: Log,
    rater_id: str,
    purposes: Iterable[Purpose],
    method: str,
    state: ConsentState,
    reference: str | None = None,
) -> dict[str, Any]:
    listed = sorted(set(purposes))
    if not listed:
        raise UsageError(
            "no purpose was named",
            needed="--purpose training, audit or publication",
            fix=f"rlhf-audit consent LOG {rater_id} --purpose training --purpose audit",
        )
    digest, version, _ = terms.current(log)
    now = log.clock.now()
    body = {
        "grant_id": f"g-{sum(1 for _ in log.ledger.of('consent')) + 1:04d}",
        "rater_id": rater_id,
        "state": state.value,
        "terms_sha256": digest,
        "terms_version": version,
        "purposes": [purpose.value for purpose in listed],
        "method": method,
        "given_at": to_text(now),
        "expires_at": to_text(now + timedelta(days=GRANT_DAYS)),
    }
    if reference is not None:
        body["reference"] = reference
    log.append("consent", body)
    return body


def _grant(body: dict[str, Any]) -> Grant:
    return issue_grant(
        body["grant_id"],
        body["rater_id"],
        body["terms_sha256"],
        frozenset(Purpose(purpose) for purpose in body["purposes"]),
        from_text(body["given_at"]),
        from_text(body["expires_at"]),
    )


def grant_for(
    log: Log, rater_id: str, as_of: datetime, purpose: Purpose | None = None, grant_id: str | None = None
) -> Grant:
    """Return the newest grant under which this rater may be recorded at ``as_of``.

    Args:
        log: Whose ledger says so.
        rater_id: Who is to be recorded.
        as_of: When.
        purpose: What the grant must cover; anything by default.
        grant_id: Which grant it must be; any by default.

    Raises:
        UsageError: No such rater.
        ConsentError: None stands: never asked, refused, withdrawn, expired or not yet begun.
    """
    rater(log, rater_id)
    own = [
        standing
        for standing in standings(log, as_of, rater_id)
        if grant_id in (None, standing.grant_id) and standing.given_at <= as_of
    ]
    for standing in reversed(own):
        if standing.state is ConsentState.GIVEN and (purpose is None or purpose in standing.purposes):
            return issue_grant(
                standing.grant_id,
                standing.rater_id,
                standing.terms_sha256,
                standing.purposes,
                standing.given_at,
                standing.expires_at,
            )
    seen = f"consent {own[-1].state}" if own else "no consent was ever given"
    if own and own[-1].state is ConsentState.GIVEN:
        seen = f"consent for {', '.join(sorted(own[-1].purposes))}"
    wanted = f" for {purpose}" if purpose else ""
    raise ConsentError(
        f"{rater_id} may not be recorded{wanted}",
        seen=seen,
        needed=f"a grant{wanted} that stands",
        fix="none, where the rater wished to leave; else "
        f"rlhf-audit consent LOG {rater_id} --purpose training --purpose audit",
    )


def withdraw(
    log: Log, rater_id: str, purposes: Iterable[Purpose] | None = None
) -> tuple[list[Purpose], datetime]:
    """Stop the use of what a rater gave, at once; needs no writer lock, and may be said again.

    Args:
        log: Where it is noted.
        rater_id: Who.
        purposes: Which; all when none is named.

    Returns:
        The purposes withdrawn, now or before, and the time by which the erasure is due.

    Raises:
        UsageError: No such rater: never enrolled and erased are one answer.
    """
    log.ledger.load()
    rater(log, rater_id)
    wanted = set(purposes or ()) or set(Purpose)
    own = [entry for entry in log.ledger.of("withdrawal") if entry.body["rater_id"] == rater_id]
    newest = max((e.seq for e in log.ledger.of("consent") if e.body["rater_id"] == rater_id), default=-1)
    before = {Purpose(p) for entry in own if entry.seq > newest for p in entry.body["purposes"]}
    if wanted - before:
        due = log.clock.now() + timedelta(days=ERASE_WITHIN_DAYS)
        body = {
            "rater_id": rater_id,
            "purposes": sorted(purpose.value for purpose in wanted),
            "erase_by": to_text(due),
        }
        own.append(log.append("withdrawal", body))
    covering = [entry for entry in own if wanted & {Purpose(p) for p in entry.body["purposes"]}]
    return sorted(wanted), min(from_text(entry.body["erase_by"]) for entry in covering)
