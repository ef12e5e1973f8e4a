"""What a report says of consent: who stands where, whose erasure is pending, and who must not be named."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from rlhf_audit.audits import runner
from rlhf_audit.clock import to_text
from rlhf_audit.reports.facts import ConsentSpell, WithdrawalFacts
from rlhf_audit.types import ConsentState, Purpose

_EVERYTHING = frozenset(purpose.value for purpose in Purpose)


def moment(epoch_us: int) -> str:
    """Return microseconds since 1970 as RFC 3339; fetching TIMESTAMPTZ itself would need pytz."""
    return to_text(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch_us))


@dataclass(frozen=True)
class Standing:
    """Where a rater stands now."""

    state: str
    purposes: tuple[str, ...]
    expires_at: str | None
    withdrawn: tuple[str, ...]


@dataclass(frozen=True)
class _Grant:
    given_us: int
    expires_us: int
    state: str
    purposes: frozenset[str]


@dataclass(frozen=True)
class _Withdrawal:
    withdrawn_us: int
    erase_by_us: int | None
    overdue: bool
    held: bool
    purposes: frozenset[str]


class Consents:
    """All grants and withdrawals of a log, by rater; times in microseconds since 1970.

    Attributes:
        erased: Raters whose erasure has begun: nothing but the ledger and the receipt names them then.
    """

    def __init__(
        self,
        grants: dict[str, list[_Grant]],
        withdrawals: dict[str, list[_Withdrawal]],
        erased: frozenset[str],
        settled: frozenset[str] = frozenset(),
    ) -> None:
        self._grants = grants
        self._withdrawals = withdrawals
        self.erased = erased
        self._settled = settled

    @property
    def hidden(self) -> frozenset[str]:
        """Raters whom the report may not list: erased, or withdrawn from audit."""
        return self.erased | self.without(Purpose.AUDIT)

    def without(self, *purposes: Purpose) -> frozenset[str]:
        """Return the raters who took back any of ``purposes`` and have not granted it again."""
        return frozenset(
            rater_id for rater_id in self._withdrawals if self._taken_back(rater_id).intersection(purposes)
        )

    @property
    def pending(self) -> tuple[WithdrawalFacts, ...]:
        """Withdrawals whose erasure is still to be done."""
        return tuple(
            WithdrawalFacts(
                rater_id=rater_id,
                purposes=tuple(sorted(made.purposes)),
                withdrawn_at=moment(made.withdrawn_us),
                erase_by=None if made.erase_by_us is None else moment(made.erase_by_us),
                overdue=made.overdue,
                held=made.held,
            )
            for rater_id, made in self._pending()
        )

    @property
    def spells(self) -> tuple[ConsentSpell, ...]:
        """The consent time line; of a withdrawn rater only the way from the withdrawal to its deadline."""
        spells = [
            ConsentSpell(rater_id, grant.state, moment(grant.given_us), moment(self._end_us(rater_id, grant)))
            for rater_id, grants in self._grants.items()
            if rater_id not in self.hidden
            for grant in grants
        ]
        spells += [
            ConsentSpell(
                rater_id,
                "erasure overdue" if made.overdue else "erasure due",
                moment(made.withdrawn_us),
                moment(made.erase_by_us),
            )
            for rater_id, made in self._pending()
            if made.erase_by_us is not None
        ]
        return tuple(spells)

    def standing(self, rater_id: str) -> Standing:
        """Return where a rater stands; ``none`` for one who was never asked."""
        covered: set[str] = set()
        ends = []
        for grant in self._grants.get(rater_id, []):
            current = {p for p in grant.purposes if self._covers(rater_id, grant, p)}
            covered |= current
            ends += [grant.expires_us] if current else []
        latest = max(self._grants.get(rater_id, []), key=lambda g: (g.given_us, g.state), default=None)
        state = "none" if latest is None else latest.state
        return Standing(
            state=ConsentState.GIVEN.value if covered else state,
            purposes=tuple(sorted(covered)),
            expires_at=moment(max(ends)) if ends else None,
            withdrawn=tuple(sorted(self._taken_back(rater_id))),
        )

    def _covers(self, rater_id: str, grant: _Grant, purpose: str) -> bool:
        return grant.state == ConsentState.GIVEN and not any(
            purpose in made.purposes and made.withdrawn_us >= grant.given_us
            for made in self._withdrawals.get(rater_id, [])
        )

    def _taken_back(self, rater_id: str) -> frozenset[str]:
        taken = {p for made in self._withdrawals.get(rater_id, []) for p in made.purposes}
        again = {
            p
            for grant in self._grants.get(rater_id, [])
            for p in taken
            if p in grant.purposes and self._covers(rater_id, grant, p)
        }
        return frozenset(taken - again)

    def _end_us(self, rater_id: str, grant: _Grant) -> int:
        if grant.state != ConsentState.WITHDRAWN:
            return grant.expires_us
        after = [
            made.withdrawn_us
            for made in self._withdrawals.get(rater_id, [])
            if made.withdrawn_us >= grant.given_us
        ]
        # The last purpose to be taken back ends the grant.
        return min(grant.expires_us, max(after, default=grant.expires_us))

    def _pending(self) -> list[tuple[str, _Withdrawal]]:
        return [
            (rater_id, made)
            for rater_id, several in sorted(self._withdrawals.items())
            if rater_id not in self.erased and rater_id not in self._settled
            for made in several
        ]


def read_consents(connection: duckdb.DuckDBPyConnection) -> Consents:
    """Return the consents that the views ``grants``, ``withdrawals`` and ``erasures`` hold."""
    grants: dict[str, list[_Grant]] = defaultdict(list)
    for rater_id, given_us, expires_us, state, purposes in connection.execute(
        "SELECT rater_id, epoch_us(given_at), epoch_us(expires_at), state, purposes FROM grants ORDER BY ALL"
    ).fetchall():
        # A refusal has no end: it is a moment.
        end_us = given_us if expires_us is None else expires_us
        grants[rater_id].append(_Grant(given_us, end_us, state, frozenset(purposes or ())))
    withdrawals: dict[str, list[_Withdrawal]] = defaultdict(list)
    for rater_id, withdrawn_us, erase_by_us, overdue, held, purposes in connection.execute(
        "SELECT rater_id, epoch_us(withdrawn_at), epoch_us(erase_by), coalesce(overdue, false), "
        "coalesce(held, false), purposes "
        "FROM withdrawals ORDER BY ALL"
    ).fetchall():
        named = frozenset(purposes or ()) or _EVERYTHING
        withdrawals[rater_id].append(_Withdrawal(withdrawn_us, erase_by_us, overdue, held, named))
    erased = connection.execute(
        "SELECT rater_id FROM erasures UNION SELECT rater_id FROM withdrawals WHERE erased_at IS NOT NULL"
    ).fetchall()
    # In part, and nothing that was made for it before holds them any more: nothing is left to be done.
    (pending,) = runner.run(connection, ["pending_withdrawals"])
    settled = frozenset(row.subject for row in pending.rows if row.note.startswith("settled"))
    return Consents(dict(grants), dict(withdrawals), frozenset(rater_id for (rater_id,) in erased), settled)
