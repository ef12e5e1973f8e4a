"""Who takes part: enrolment, withdrawal codes, and who may agree for whom."""

import contextlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from rlhf_audit.consent import codes
from rlhf_audit.errors import LedgerError, RefusedError, UsageError, near
from rlhf_audit.log import durable, keys
from rlhf_audit.log.keys import RaterKey
from rlhf_audit.log.layout import checked_rater_id
from rlhf_audit.log.store import Log

ADULT_AT = 18
"""Years. Many countries let people agree for themselves earlier; none that we know of later."""
_UNDER_AGE = ("minor", "child", "under-age", "under age", "under-18", "under 18")


class Giver(StrEnum):
    """Who agrees."""

    RATER = "rater"
    GUARDIAN = "guardian"
    PROXY = "proxy"


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
        code = codes.make(log.entropy, rater_id)
        salt = log.entropy.token(16)
        key = RaterKey(rater_id, log.entropy.token(32), alias, groups or {})
        body = {"rater_id": rater_id, "scripted": scripted, "key_commitment": key.commitment}
        body |= codes.commit(code, key, salt).to_json()
        try:
            keys.write(log.layout, key)
            log.append("enrolled", body)
        except (OSError, LedgerError):
            # They are not enrolled and never will be, so their name must not stay. What a kill leaves, or
            # can't be removed now, goes at the next opening.
            path = log.layout.key_file(rater_id)
            with contextlib.suppress(OSError):
                durable.destroy_marked(path)
            with contextlib.suppress(OSError):
                # A full disk may have let it be overwritten only.
                path.unlink(missing_ok=True)
            raise
    return rater_id, code


def renew_code(log: Log, rater_id: str) -> str:
    """Return a new withdrawal code for a rater; the old one opens nothing any more.

    Raises:
        UsageError: No such rater.
        LogError: Their key is missing or damaged.
    """
    with log.writing():
        rater(log, rater_id)
        key = keys.read(log.layout, rater_id)
        code = codes.make(log.entropy, rater_id)
        commitment = codes.commit(code, key, log.entropy.token(16))
        log.append("code-renewed", {"rater_id": rater_id, **commitment.to_json()})
    return code


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


def permit(log: Log, givers: Iterable[Giver]) -> None:
    """Enter in the ledger who but raters themselves may agree in this log."""
    with log.writing():
        log.append("permitted", {"givers": sorted({giver.value for giver in givers})})


def check_giver(log: Log, rater_id: str, giver: Giver) -> None:
    """Refuse a consent that the rater can't give alone, or that this log does not take from another.

    Raises:
        RefusedError: The log does not permit it, or the rater is under age and no guardian agrees.
        LogError: The rater's key, which says whether they are under age, is missing or damaged.
    """
    young = under_age(keys.read(log.layout, rater_id).groups)
    needed = Giver.GUARDIAN if young else giver
    permitted = {name for entry in log.ledger.of("permitted") for name in entry.body["givers"]}
    if needed is not Giver.RATER and needed not in permitted:
        raise RefusedError(
            f"this log takes no consent for raters who are under age, or by a {needed}",
            seen=f"consent by the {giver}",
            needed="a log that was made for it, after somebody has thought about how it is checked",
            fix=f"rlhf-audit init ANOTHER-FOLDER --allow {needed}",
        )
    if needed is not giver:
        raise RefusedError(
            f"{rater_id} can't agree alone",
            seen="a group that says they are under age",
            needed="the consent of a parent or guardian",
            fix=f"rlhf-audit consent LOG {rater_id} --by guardian --purpose training",
        )


def under_age(groups: Mapping[str, str]) -> bool:
    """Say whether a group called age tells of somebody under 18: a number of years, or a word for it.

    >>> under_age({"Age": "17"}), under_age({"age": "minor"}), under_age({"age": "18"}), under_age({})
    (True, True, False, False)
    """
    ages = [value.strip().casefold() for name, value in groups.items() if name.strip().casefold() == "age"]
    return any(age in _UNDER_AGE or (age.isdecimal() and int(age) < ADULT_AT) for age in ages)
