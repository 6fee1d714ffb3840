"""The model of the ledger with a clock, and requests of one organization in few words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemas.ledger import answers
from schemas.ledger.documents import (
    Admit,
    Balance,
    Book,
    Booking,
    Cancel,
    Decline,
    Finish,
    Lease,
    NextAttempt,
    OutcomeRow,
    Rate,
    RateUse,
    Reap,
    Renew,
    Start,
)
from schemas.ledger.model.ledger import LedgerModel
from schemas.ledger.states import State

MONTH = "b:org:acme:month"
T0_MS = 1_000_000
LEASE_MS = 15_000
DEADLINE_MS = T0_MS + 60_000
PERIOD_END_MS = T0_MS + 50_000


LEASE = Lease(key="c:x", id="lease", limit=1)


def usd(amount: int, limit: int | None = 100) -> Balance:
    return Balance(
        key=MONTH,
        id="month",
        unit="nano_usd",
        amount=amount,
        limit=limit,
        start_ms=0,
        end_ms=PERIOD_END_MS,
    )


def duplicate(answer: Any, state: State = "REFUSED") -> answers.Duplicate:
    """What the copy of a request hears that was answered so."""
    return answers.Duplicate(answer=answer, state=state)


def rate(cost: int = 1) -> Rate:
    """Three units deep, three per second: an interval that is no whole number of µs."""
    return Rate(key="r:x", id="rps", cost=cost, burst=3, rate_milli_per_s=3_000)


def row(
    offset: int,
    req: str,
    amount: int,
    *,
    at_ms: int = T0_MS,
    ref: str | None = None,
    ran: bool = True,
) -> OutcomeRow:
    """A record of the log that books an amount of the month."""
    return OutcomeRow(
        offset=offset,
        at_ms=at_ms,
        req=req,
        deadline_ms=DEADLINE_MS,
        ref=ref,
        ran=ran,
        bookings=(Booking(key=MONTH, unit="nano_usd", amount=amount),) if amount else (),
    )


@dataclass
class Ledger:
    """The model with a clock in milliseconds, and requests of one org in few words."""

    model: LedgerModel = field(default_factory=lambda: LedgerModel(epoch=1))
    now_ms: int = T0_MS

    @property
    def now_us(self) -> int:
        return self.now_ms * 1000

    def admit(
        self,
        req: str,
        *balances: Balance,
        rates: tuple[Rate, ...] = (),
        leases: tuple[Lease, ...] = (),
        defer: bool = False,
        waits_for: tuple[str, ...] = (),
        decline: Decline | None = None,
    ) -> answers.AdmitAnswer:
        document = Admit(
            org="acme",
            req=req,
            deadline_ms=DEADLINE_MS,
            accepted_ms=T0_MS,
            balances=balances,
            rates=rates,
            leases=leases,
            defer=defer,
            waits_for=waits_for,
            decline=decline,
        )
        return self.model.admit(document, self.now_us)

    def start(
        self, req: str, second: tuple[Balance, ...] | None = None, owner: str = "d1"
    ) -> answers.StartAnswer:
        document = Start(org="acme", req=req, owner=owner, lease_ms=LEASE_MS, second_attempt=second)
        return self.model.start(document, self.now_us)

    def running(self, req: str, *balances: Balance, rates: tuple[Rate, ...] = ()) -> int:
        """Admits and starts; returns the fence."""
        self.admit(req, *balances, rates=rates)
        claimed = self.start(req)
        assert isinstance(claimed, answers.Fence)
        return claimed.fence

    def finish(
        self, req: str, fence: int, spent: int | None, uses: tuple[RateUse, ...] = ()
    ) -> answers.FinishAnswer:
        document = Finish(
            org="acme", req=req, fence=fence, actual={"nano_usd": spent}, actual_rates=uses
        )
        return self.model.finish(document, b"outcome", self.now_us)

    def renew(self, req: str, fence: int, streamed: bool = False) -> answers.RenewAnswer:
        document = Renew(org="acme", req=req, fence=fence, lease_ms=LEASE_MS, streamed=streamed)
        return self.model.renew(document, self.now_us)

    def failover(
        self, req: str, fence: int, second: Balance, estimate: int | None = None
    ) -> answers.NextAttemptAnswer:
        document = NextAttempt(
            org="acme",
            req=req,
            fence=fence,
            may_have_spent=estimate is not None,
            second=(second,),
            estimate={} if estimate is None else {"nano_usd": estimate},
        )
        return self.model.next_attempt(document, self.now_us)

    def cancel(self, req: str) -> answers.CancelAnswer:
        return self.model.cancel(Cancel(org="acme", req=req, deadline_ms=DEADLINE_MS), self.now_us)

    def reap(self, limit: int = 10) -> list[tuple[str, str]]:
        listed = self.model.reap(Reap(limit=limit), self.now_us)
        return [(entry.req, entry.verdict) for entry in listed.entries]

    def book_rows(self, *rows: OutcomeRow, org: str = "acme") -> tuple[str, ...]:
        return self.model.book(Book(org=org, partition=0, rows=rows)).rows

    def book(self, *rows: tuple[int, str]) -> tuple[str, ...]:
        records = tuple(
            OutcomeRow(
                offset=offset,
                at_ms=T0_MS,
                req=req,
                deadline_ms=DEADLINE_MS,
                bookings=(Booking(key=MONTH, unit="nano_usd", amount=5),),
            )
            for offset, req in rows
        )
        return self.model.book(Book(org="acme", partition=0, rows=records)).rows

    def month(self) -> dict[str, int]:
        balance = self.model.limits.balances["acme", MONTH]
        return {name: amount for name, amount in balance.items() if amount}


MINUTE_MS = 60_000
