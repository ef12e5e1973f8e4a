"""Who agreed to what, and may this be done now: the only place that makes a ``Grant``.

States and their names follow ISO/IEC TS 27560 and W3C DPV. Everything is read from the ledger.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from rlhf_audit.clock import from_text, to_text
from rlhf_audit.consent import forms, terms
from rlhf_audit.consent.people import Giver, check_giver
from rlhf_audit.consent.people import enrol as enrol
from rlhf_audit.consent.people import rater as rater
from rlhf_audit.consent.standings import Standing as Standing
from rlhf_audit.consent.standings import agreed_before as agreed_before
from rlhf_audit.consent.standings import standings as standings
from rlhf_audit.errors import ConsentError, RefusedError, UsageError
from rlhf_audit.log.store import Log
from rlhf_audit.types import ConsentState, Grant, Purpose, issue_grant

GRANT_DAYS = 365
ERASE_WITHIN_DAYS = 30


def give(
    log: Log,
    rater_id: str,
    purposes: Iterable[Purpose],
    method: str,
    shown_sha256: str | None = None,
    reference: str | None = None,
    form: forms.Form | None = None,
    by: Giver = Giver.RATER,
) -> Grant:
    """Record that a rater agreed to the newest terms.

    Args:
        log: Where it is recorded.
        rater_id: Who agreed.
        purposes: To what.
        method: How they were asked: ``terminal``, ``web``, ``imported`` or ``scripted``.
        shown_sha256: Digest of the text that was shown; must be the newest still.
        reference: Where it is written down that they agreed, when they were asked elsewhere.
        form: The paper that they signed; its time runs from the day of the signature.
        by: Who agreed for them, if not they themselves.

    Raises:
        UsageError: No such rater, no purpose, or a form dated in the future.
        RefusedError: ``method`` claims a script for a person or the other way round, the terms have
            changed since they were shown, the log does not take consent from that giver, or the form says
            nothing any more.
    """
    with log.writing():
        who = rater(log, rater_id)
        _check_shown(log, rater_id, shown_sha256)
        if (method == "scripted") != (who["scripted"] is not None):
            raise RefusedError(
                "consent without a question is for scripted raters only",
                seen=f"{rater_id} is {'scripted' if who['scripted'] else 'a person'}",
                needed="the person reads the terms and answers",
                fix=f"rlhf-audit consent LOG {rater_id} --purpose training",
            )
        if who["scripted"] is None:
            check_giver(log, rater_id, by)
        if form is not None:
            forms.check(log, rater_id, form)
        more: dict[str, Any] = {"reference": reference} if reference is not None else {}
        more |= form.to_json() if form else {}
        since = min(form.signed_at, log.clock.now()) if form else None
        body = _record(log, rater_id, purposes, method, ConsentState.GIVEN, by, since, more)
    return _grant(body)


def refuse(
    log: Log, rater_id: str, purposes: Iterable[Purpose], method: str, shown_sha256: str | None = None
) -> None:
    """Record that a rater was asked and said no.

    Raises:
        RefusedError: The terms have changed since they were shown: it was a no to something else.
    """
    with log.writing():
        rater(log, rater_id)
        _check_shown(log, rater_id, shown_sha256)
        _record(log, rater_id, purposes, method, ConsentState.REFUSED, Giver.RATER)


def _check_shown(log: Log, rater_id: str, shown_sha256: str | None) -> None:
    if shown_sha256 not in (None, terms.current(log)[0]):
        raise RefusedError(
            "the terms have changed since they were shown",
            seen="other terms by now; nothing is recorded",
            needed="the rater reads the new ones",
            fix=f"rlhf-audit consent LOG {rater_id} --purpose training",
        )


def _record(
    log: Log,
    rater_id: str,
    purposes: Iterable[Purpose],
    method: str,
    state: ConsentState,
    by: Giver,
    since: datetime | None = None,
    more: Mapping[str, Any] | None = None,
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
    expires = (since or now) + timedelta(days=GRANT_DAYS)
    if expires <= now:
        raise RefusedError(
            "the consent on this form has ended by itself",
            seen=f"a form that holds until {to_text(expires)[:10]}",
            needed=f"one signed within {GRANT_DAYS} days",
            fix=f"rlhf-audit consent LOG {rater_id} --purpose training, or a newly signed form",
        )
    body = {
        "grant_id": f"g-{sum(1 for _ in log.ledger.of('consent')) + 1:04d}",
        "rater_id": rater_id,
        "state": state.value,
        "terms_sha256": digest,
        "terms_version": version,
        "purposes": [purpose.value for purpose in listed],
        "method": method,
        "given_by": by.value,
        "given_at": to_text(now),
        "expires_at": to_text(expires),
        **(more or {}),
    }
    log.append("consent", body)
    return body


def invalidate(log: Log, rater_id: str, reason: str) -> list[str]:
    """Note that what was taken for this rater's consent never was: none of its rows is used any more.

    At once, like a withdrawal: it needs no writer lock.

    Args:
        log: Where it is noted.
        rater_id: Whose grants; all of them.
        reason: Why; names no person.

    Returns:
        The grants, those noted before too.

    Raises:
        UsageError: No such rater, no reason, or no grant.
    """
    log.ledger.load()
    rater(log, rater_id)
    own = [e.body for e in log.ledger.of("consent") if e.body["rater_id"] == rater_id]
    given = [body["grant_id"] for body in own if body["state"] == ConsentState.GIVEN]
    before = {g for e in log.ledger.of("consent-invalidated") for g in e.body["grant_ids"]}
    if not given or not reason.strip():
        raise UsageError(
            "nothing can be invalidated",
            seen="no reason" if given else f"{rater_id} has never agreed to anything",
            needed="a grant, and why it is none",
            fix=f"rlhf-audit consent LOG {rater_id} --invalidate 'the form was not signed'",
        )
    new = [grant_id for grant_id in given if grant_id not in before]
    if new:
        body = {"rater_id": rater_id, "grant_ids": new, "reason": reason.strip()}
        log.append("consent-invalidated", body)
    return given


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
        ConsentError: None stands: never asked, refused, withdrawn, expired, found invalid or not yet begun;
            or, where no ``grant_id`` is named, it is one of older terms.
    """
    rater(log, rater_id)
    own = [
        standing
        for standing in standings(log, as_of, rater_id)
        if grant_id in (None, standing.grant_id) and standing.given_at <= as_of
    ]
    # What has begun goes on under its own terms; what begins needs the newest.
    newest = terms.newest(log)
    for standing in reversed(own):
        outdated = grant_id is None and standing.terms_sha256 != newest
        covered = purpose is None or purpose in standing.purposes
        if standing.state is ConsentState.GIVEN and covered and not outdated:
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
        seen += " by older terms" if grant_id is None and own[-1].terms_sha256 != newest else ""
    wanted = f" for {purpose}" if purpose else ""
    raise ConsentError(
        f"{rater_id} may not be recorded{wanted}",
        seen=seen,
        needed=f"a grant{wanted} that stands{' by the newest terms' if seen.endswith('terms') else ''}",
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
