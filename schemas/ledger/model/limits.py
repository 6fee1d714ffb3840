"""The limits of the ledger model: balances, buckets (exact fractions of a µs), concurrency leases. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TypeAlias

import msgspec

from schemas.events import RateStatus
from schemas.ledger import answers, documents
from schemas.ledger.documents import Balance, Booking, Charge, Lease, Rate, RateUse, Unit
from schemas.times import FULL

CONCURRENCY_MARGIN_MS = FULL.ledger.concurrency_margin_ms
RETRY_GUESS_MS = FULL.ledger.retry_guess_ms
NOTHING_SPENT: dict[Unit, int | None] = {"nano_usd": 0, "tokens": 0, "requests": 0}

Scope: TypeAlias = tuple[str, str]
"""An organization and a suffix, or an organization and a request."""


Refusal: TypeAlias = (
    answers.Limited | answers.Refused | answers.Contended | answers.Declined | answers.Expired
)
"""What may be kept as the answer to a request that was not admitted."""


def unasked(doc: documents.Admit, now_ms: int) -> answers.Expired | answers.Declined | None:
    """What ends the request without asking a limit."""
    if now_ms >= doc.deadline_ms:
        return answers.Expired()
    if doc.decline is None:
        return None
    return answers.Declined(why=doc.decline.why, retry_after_ms=doc.decline.retry_after_ms)


def is_waited_for(doc: documents.Admit, refusal: Refusal) -> bool:
    """Whether the caller asks again instead of refusing."""
    if isinstance(refusal, answers.Limited) and refusal.id in doc.waits_for:
        return True
    return doc.defer and isinstance(refusal, answers.Contended | answers.Limited)


def uncounted(balances: tuple[Balance, ...] | None) -> tuple[Balance, ...] | None:
    """The hold of a second attempt after one that was lost, with which the request was counted."""
    if balances is None:
        return None
    return tuple(
        msgspec.structs.replace(b, amount=0) if b.unit == "requests" else b for b in balances
    )


def flow_us(units: int, rate: Charge) -> Fraction:
    """How many µs it takes until `units` have flowed into a bucket."""
    return Fraction(units * 10**9, rate.rate_milli_per_s)


def spending(
    holds: Iterable[Booking], actual: Mapping[Unit, int | None]
) -> dict[str, tuple[int, int]]:
    """Held and spent amount by balance; a unit without an actual amount is spent whole."""
    spent = {hold.key: actual.get(hold.unit) for hold in holds}
    return {
        hold.key: (hold.amount, hold.amount if spent[hold.key] is None else spent[hold.key] or 0)
        for hold in holds
    }


class Limits:
    """What is spent, held and charged; asked first, changed afterwards."""

    def __init__(self) -> None:
        self.balances: dict[Scope, Counter[str]] = defaultdict(Counter)
        self.totals: dict[Scope, Counter[str]] = defaultdict(Counter)
        """What the log booked for each balance, and what was counted beside it."""
        self.buckets: dict[Scope, Fraction] = {}
        self.leases: dict[Scope, dict[str, int]] = defaultdict(dict)

    def refusal(
        self, doc: documents.Admit, now_us: int
    ) -> answers.Limited | answers.Refused | answers.Contended | answers.Rolled | None:
        """The first limit that stands against an admission."""
        for rate in doc.rates:
            if refusal := self._rate_refusal(doc.org, rate, now_us):
                return refusal
        for lease in doc.leases:
            members = self.leases[doc.org, lease.key]
            if len(members) >= lease.limit:
                for req in [req for req, until_ms in members.items() if until_ms <= now_us // 1000]:
                    del members[req]
            if len(members) >= lease.limit:
                return answers.Limited(
                    id=lease.id,
                    usage=len(members),
                    limit=lease.limit,
                    retry_after_ms=RETRY_GUESS_MS,
                )
        for balance in doc.balances:
            end_ms = math.inf if balance.end_ms is None else balance.end_ms
            if not balance.start_ms <= now_us // 1000 < end_ms:
                return answers.Rolled(id=balance.id, now_ms=now_us // 1000)
        return self.balance_refusal(doc.org, doc.balances, {})

    def _ahead_us(self, org: str, key: str, now_us: int) -> Fraction:
        return max(Fraction(0), self.buckets.get((org, key), Fraction(0)) - now_us)

    def _charged_us(self, org: str, rate: Rate, now_us: int) -> Fraction:
        """How far ahead the bucket is; emptier than empty, as after a clock was set back, is made empty."""
        ahead, empty = self._ahead_us(org, rate.key, now_us), flow_us(rate.burst, rate)
        if ahead <= empty:
            return ahead
        self.buckets[org, rate.key] = now_us + empty
        return empty

    def _rate_refusal(
        self, org: str, rate: Rate, now_us: int
    ) -> answers.Limited | answers.Refused | None:
        if rate.cost > rate.burst:
            return answers.Refused(why="too_large", id=rate.id, usage=rate.cost, limit=rate.burst)
        ahead = self._charged_us(org, rate, now_us)
        wait_us = ahead + flow_us(rate.cost, rate) - flow_us(rate.burst, rate)
        if wait_us <= 0:
            return None
        return answers.Limited(
            id=rate.id,
            usage=math.ceil(ahead * rate.rate_milli_per_s / 10**9),
            limit=rate.burst if rate.limit is None else rate.limit,
            retry_after_ms=math.ceil(wait_us / 1000),
        )

    def charge(self, org: str, rate: Rate, now_us: int) -> RateStatus:
        """Takes the cost out of a bucket that was asked before."""
        ahead = self._ahead_us(org, rate.key, now_us) + flow_us(rate.cost, rate)
        self.buckets[org, rate.key] = now_us + ahead
        used = math.ceil(ahead * rate.rate_milli_per_s / 10**9)
        return RateStatus(
            id=rate.id,
            limit=rate.burst,
            remaining=max(0, rate.burst - used),
            reset_ms=math.ceil(ahead / 1000),
        )

    def balance_refusal(
        self, org: str, balances: Iterable[Balance], moved: Mapping[str, tuple[int, int]]
    ) -> answers.Refused | answers.Contended | None:
        """The first balance without room, after `moved` (held, spent) was settled on it."""
        for balance in balances:
            if balance.limit is None:
                continue
            held, spent = moved.get(balance.key, (0, 0))
            stored = self.balances[org, balance.key]
            settled = stored["settled"] + spent
            running = settled + stored["reserved"] + stored["spare"] - held
            if settled + balance.amount > balance.limit:
                return answers.Refused(
                    why="spent", id=balance.id, usage=settled, limit=balance.limit
                )
            if running + balance.amount > balance.limit:
                return answers.Contended(
                    id=balance.id,
                    usage=running,
                    limit=balance.limit,
                    retry_after_ms=RETRY_GUESS_MS,
                )
        return None

    def hold(self, org: str, balances: Iterable[Balance]) -> tuple[Booking, ...]:
        """Reserves the amounts."""
        holds = tuple(Booking(key=b.key, unit=b.unit, amount=b.amount) for b in balances)
        for hold in holds:
            self.balances[org, hold.key]["reserved"] += hold.amount
        return holds

    def hold_spare(self, org: str, holds: Iterable[Booking]) -> tuple[Booking, ...]:
        """Reserves once more what a second attempt would use; the request itself counts once."""
        spare = tuple(held for held in holds if held.unit != "requests")
        for held in spare:
            self.balances[org, held.key]["spare"] += held.amount
        return spare

    def settle(
        self, org: str, holds: tuple[Booking, ...], actual: Mapping[Unit, int | None]
    ) -> tuple[Booking, ...]:
        """Ends holds and settles what was spent; returns what was booked."""
        moved = spending(holds, actual)
        for key, (held, spent) in moved.items():
            balance = self.balances[org, key]
            balance["reserved"] -= held
            balance["settled"] += spent
            balance["over"] += max(0, spent - held)
            if spent > held:
                self.totals[org, key]["over"] += spent - held
        return tuple(Booking(key=h.key, unit=h.unit, amount=moved[h.key][1]) for h in holds)

    def enter(self, scope: Scope, leases: Iterable[Lease], deadline_ms: int) -> tuple[str, ...]:
        """Takes a place in each concurrency limit."""
        for lease in leases:
            self.leases[scope[0], lease.key][scope[1]] = deadline_ms + CONCURRENCY_MARGIN_MS
        return tuple(lease.key for lease in leases)

    def leave(self, scope: Scope, leases: Iterable[str]) -> None:
        """Gives the places back."""
        for key in leases:
            self.leases[scope[0], key].pop(scope[1], None)

    def refund(
        self, org: str, charged: Iterable[Charge], uses: Iterable[RateUse], now_us: int
    ) -> None:
        """Gives back what was charged above the use; no bucket becomes fuller than full."""
        used = {use.key: use.units for use in uses}
        for rate in charged:
            if rate.key in used and used[rate.key] < rate.cost:
                ahead = self._ahead_us(org, rate.key, now_us)
                back = flow_us(rate.cost - used[rate.key], rate)
                self.buckets[org, rate.key] = now_us + max(Fraction(0), ahead - back)
