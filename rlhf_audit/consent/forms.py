"""Consent on paper: what is recorded of a signed form, and when it says nothing any more."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.clock import from_text
from rlhf_audit.errors import RefusedError, UsageError
from rlhf_audit.log.store import Log


@dataclass(frozen=True)
class Form:
    """A signed form.

    Attributes:
        scan_sha256: Digest of the scan, which itself stays outside the log.
        signed_on: The day that stands beside the signature.
    """

    scan_sha256: str
    signed_on: date

    @property
    def signed_at(self) -> datetime:
        """The earliest moment of that day in UTC: from then on its time runs."""
        return datetime(self.signed_on.year, self.signed_on.month, self.signed_on.day, tzinfo=UTC)

    def to_json(self) -> dict[str, Any]:
        return {"scan_sha256": self.scan_sha256, "signed_on": self.signed_on.isoformat()}


def read(scan: Path, signed_on: str) -> Form:
    """Return what is to be recorded of a form.

    Raises:
        UsageError: The scan is no file, or holds nothing; or that is no date.
    """
    try:
        raw = canonical.read_file(scan)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise _unusable("no file that can be read") from error
    if not raw:
        raise _unusable("an empty file")
    try:
        day = date.fromisoformat(signed_on)
    except ValueError as error:
        raise UsageError(
            "that is no date",
            seen=ascii(signed_on[:20]),
            needed="the day that stands beside the signature, as YYYY-MM-DD",
            fix="--signed-on 2026-03-04",
        ) from error
    return Form(canonical.sha256_hex(raw), day)


def check(log: Log, rater_id: str, form: Form) -> None:
    """Refuse a form that can't stand for what the rater wishes now.

    Raises:
        UsageError: It is dated in the future.
        RefusedError: It was recorded before; or the rater has said something else since it was signed.
    """
    today = log.clock.now().astimezone(UTC).date()
    if form.signed_on > today:
        raise UsageError(
            "the form is dated in the future",
            seen=form.signed_on.isoformat(),
            needed=f"{today.isoformat()} at the latest, in UTC",
            fix="--signed-on with the day that stands beside the signature",
        )
    if any(entry.body.get("scan_sha256") == form.scan_sha256 for entry in log.ledger.of("consent")):
        raise RefusedError(
            "this scan has been recorded before",
            seen="the same bytes, for this rater or another",
            needed="one signed form for each grant",
            fix="scan the form of this rater; a withdrawn consent needs a newly signed form",
        )
    for entry in log.ledger.of("withdrawal", "consent", "consent-invalidated"):
        otherwise = entry.event != "consent" or entry.body["state"] != "given"
        # On the same day nobody can tell which came last.
        if entry.body["rater_id"] == rater_id and otherwise and from_text(entry.at).date() >= form.signed_on:
            raise RefusedError(
                f"{rater_id} has said no since that form was signed, or its consent was found invalid",
                seen=f"an entry of {entry.at[:10]}, a form of {form.signed_on.isoformat()}",
                needed="a form that was signed on a later day",
                fix=f"none, where the rater wished to leave; else rlhf-audit consent LOG {rater_id}",
            )


def _unusable(seen: str) -> UsageError:
    return UsageError(
        "the scan of the form can't be read",
        seen=seen,
        needed="the file that holds the scan; its digest is recorded, it stays where it is",
        fix="--import SCAN",
    )
