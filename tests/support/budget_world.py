"""Everything that moves around a remainder: two limiters on one ledger, the log, accounting, and a budget service.

Only the clock, the log and the service are stand-ins; accounting tells what it would, in the order of a test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from limiter_worker.external_budget.counted import CountedSpend
from schemas.budget_service import RETURNED_AFTER_S, spend_balance
from schemas.config_state import Snapshot
from schemas.entities import BudgetService, Limits, Organization
from schemas.events import RequestAdmitted
from schemas.ledger import answers, documents, keys
from schemas.money import usd
from schemas.runtime import budget_service as runtime
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import Store
from schemas.topics import DISPATCH
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, Limiter
from tests.support.one_shard import SHARD

HOLD = 1_000 * 2_000 + 500 * 6_000
"""Nano-USD that one request of the examples holds."""
BUDGET = 10 * HOLD
BALANCE = spend_balance("org")
STORED = f"{{{SHARD}}}|acme|{BALANCE}"
REPORTED = keys.of_shard(SHARD, keys.REPORTED)


class SteppedClock(Clock):
    """Monotonic time passes by being looked at, and when a test says so."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        self.now_s += 0.05
        return self.now_s


@dataclass
class Books:
    """The service: counts each line once, and answers from what it has counted."""

    timeout_s: float = 0.4
    counted: dict[str, int] = field(default_factory=dict)
    budget: int = BUDGET
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """Happens once, between a question and its answer."""

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        spent = sum(self.counted.values())
        answer = {
            "decision": "allow",
            "limit_type": "budget",
            "current_usage": usd(spent),
            "limit": usd(self.budget),
            "remaining_usd": usd(self.budget - spent),
        }
        return 200, msgspec.json.encode(answer)

    async def close(self) -> None: ...


@dataclass
class Row:
    """An outcome, or a correction, in the log."""

    req: str
    amount: int
    ref: str | None = None
    announced_s: float | None = None


@dataclass
class World:
    """Everything that moves."""

    limiters: list[Limiter]
    ledger: LedgerClient
    store: Redis
    clock: SteppedClock
    service: Books
    log: list[Row] = field(default_factory=list)
    booked: int = 0
    running: dict[str, int] = field(default_factory=dict)
    made: int = 0
    refused: int = 0

    async def admit(self, limiter: Limiter) -> bool:
        """One request more; whether it was admitted."""
        self.made += 1
        name, now_ms = f"r{self.made}", self.clock.now_ms()
        times = {"accepted_at_ms": now_ms, "deadline_ms": now_ms + 60_000}
        request = accepted(request_id=name, produce_by_ms=now_ms + 60_000, **times)
        await limiter.handle(limiter.record(request))
        last = limiter.producer.events(DISPATCH)[-1:]
        is_in = bool(last) and cast("RequestAdmitted", last[0]).request_id == name
        if is_in:
            start = documents.Start(org="acme", req=name, owner="d", lease_ms=600_000)
            fence = await self.ledger.start(start)
            assert isinstance(fence, answers.Fence)
            self.running[name] = fence.fence
        else:
            self.refused += 1
        return is_in

    async def finish(self, name: str, amount: int) -> None:
        """It ends, and its outcome is in the log."""
        fence = self.running.pop(name)
        actual: dict[Any, int | None] = {"nano_usd": amount, "tokens": 1, "requests": 1}
        document = documents.Finish(org="acme", req=name, fence=fence, actual=actual)
        assert await self.ledger.finish(document, b"outcome") == answers.Ok()
        self.log.append(Row(name, amount))

    def correct(self, row: Row, amount: int) -> None:
        """Some of what it cost is taken back."""
        self.log.append(Row(row.req, -amount, ref=f"1:{len(self.log)}"))
        row.amount -= amount

    async def book(self, upto: int) -> None:
        """Accounting is so far."""
        rows = tuple(
            documents.OutcomeRow(
                offset=at,
                at_ms=self.clock.now_ms(),
                req=row.req,
                deadline_ms=self.clock.now_ms() + 60_000,
                ran=True,
                ref=row.ref,
                bookings=(
                    documents.Booking(key=BALANCE, unit="nano_usd", amount=self._sum_at(at)),
                ),
            )
            for at, row in enumerate(self.log[self.booked : upto], self.booked)
        )
        if rows:
            await self.ledger.book(documents.Book(org="acme", partition=SHARD, rows=rows))
        self.booked = max(self.booked, upto)

    def _sum_at(self, at: int) -> int:
        row = self.log[at]
        if row.ref is not None:
            return row.amount
        back = sum(each.amount for each in self.log if each.req == row.req and each.ref)
        return row.amount - back

    async def report(self, upto: int) -> None:
        """The service was told so far: what is taken back later, as the reporter does."""
        returned = -1
        for at, row in enumerate(self.log):
            amount = self._sum_at(at)
            if row.ref is None and at < upto:
                self.service.counted.setdefault(row.req, amount)
            if row.ref is None or at >= upto:
                continue
            returned, now_s = at, self.clock.now_s
            row.announced_s = row.announced_s or now_s
            if now_s - row.announced_s >= RETURNED_AFTER_S:
                self.service.counted.setdefault(f"{row.req}:{row.ref}", amount)
        await self.store.hset(REPORTED, mapping={"offset": upto, "returned": returned})

    async def taken(self) -> int:
        """What is held and spent."""
        settled, reserved = await self.store.hmget(STORED, ["settled", "reserved"])
        return int(settled or 0) + int(reserved or 0)


def _asked(while_down: str = "deny") -> Snapshot:
    snapshot = configuration()
    stated = BudgetService(while_down=cast("Any", while_down))
    asked = Organization(limits=Limits(concurrency=100_000), budget_service=stated)
    return replace(snapshot, organizations={**snapshot.organizations, "acme": asked})


def limiter_on(ledger: LedgerClient, store: Store, clock: Clock, service: Books) -> Limiter:
    return Limiter(
        ledger,
        FakeConfig(_asked()),
        clock,
        service=cast("runtime.BudgetService", service),
        counted=CountedSpend(ledger, store, clock),
    )
