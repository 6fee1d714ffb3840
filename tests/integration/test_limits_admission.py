"""Admission on a real ledger: deferral, redelivery, rollover, and limits and prices that change live.

Only Kafka and the bus are fakes. The books are read from the store and held against what ran.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from limiter_worker.deferral import WAITERS_MAX
from schemas.codec import decode_as
from schemas.entities import Budget, Limits, Model, Quota, Target
from schemas.events import (
    AuditRecorded,
    Hold,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
)
from schemas.ledger import answers, documents
from schemas.periods import Period, period_at
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.process.clock import Clock
from schemas.topics import AUDIT, DEFERRED_1S, DISPATCH, OUTCOMES, REQUESTS
from tests.support.events import accepted, configuration
from tests.support.harness.ledger_server import LedgerServer
from tests.support.limiter_parts import FakeConfig, Limiter
from tests.support.one_shard import ONE_SHARD, SHARD

DAY_MS = 86_400_000
WORST_CASE = 1_000 * 2_000 + 500 * 6_000
"""Nano-USD that one request of the examples holds."""
ORG_BUDGET = "{0}|acme|b:org/nano_usd:total"


@pytest_asyncio.fixture
async def store(server: LedgerServer) -> AsyncIterator[Redis]:
    """The ledger's store, emptied, beside the ledger's own connection."""
    client = Redis.from_url(server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def limiter(server: LedgerServer, store: Redis) -> AsyncIterator[Limiter]:
    """Admission on an initialised ledger; a budget for one request, whoever comes next may wait."""
    connection = ledger_store(server.url)
    await connection.start()
    ledger = LedgerClient(connection, ONE_SHARD)
    await ledger.init(SHARD)
    yield Limiter(ledger, FakeConfig(configuration(org=_budget(WORST_CASE, on_limit="defer"))))
    await connection.stop()


def _budget(nano_usd: int, **more: Any) -> Limits:
    return Limits(budgets=(Budget(f"{nano_usd // 10**9}.{nano_usd % 10**9:09}", "total"),), **more)


def _request(number: int, deadline_in_ms: int = 60_000) -> RequestAccepted:
    now_ms = Clock().now_ms()
    return accepted(
        request_id=f"r{number}",
        accepted_at_ms=now_ms,
        deadline_ms=now_ms + deadline_in_ms,
        produce_by_ms=now_ms + 60_000,
    )


async def _finish(limiter: Limiter, request: RequestAccepted, actual: dict[Any, int]) -> None:
    start = documents.Start(org="acme", req=request.request_id, owner="d", lease_ms=15_000)
    fence = await limiter.ledger.start(start)
    assert isinstance(fence, answers.Fence)
    finish = documents.Finish(
        org="acme", req=request.request_id, fence=fence.fence, actual=dict(actual)
    )
    assert await limiter.ledger.finish(finish, b"outcome") == answers.Ok()


async def _amounts(store: Redis, key: str) -> tuple[int, int]:
    """What is settled and reserved on a balance."""
    settled, reserved = await store.hmget(key, ["settled", "reserved"])
    return int(settled or 0), int(reserved or 0)


def _topics(limiter: Limiter) -> list[str]:
    """Where follow-ups went, audit events left out."""
    return [r.topic for r in limiter.producer.produced if r.topic != AUDIT]


async def test_a_deferred_request_is_admitted_once_the_hold_has_settled(
    limiter: Limiter, store: Redis
) -> None:
    """On behalf of its first record, and its offsets go when the broker has what follows."""
    first, second = _request(1), _request(2)
    limiter.config.snapshot = configuration(org=_budget(2 * WORST_CASE - 1, on_limit="defer"))
    original = limiter.record(second)
    await limiter.handle(limiter.record(first))
    await limiter.handle(original)

    assert _topics(limiter) == [DISPATCH, DEFERRED_1S]
    assert original.finished == 1
    await _finish(limiter, first, {"nano_usd": 10, "tokens": 5, "requests": 1})
    waiting = next(r for r in limiter.producer.produced if r.topic == DEFERRED_1S)
    returned = limiter.delivered(waiting)
    await limiter.handle(returned)

    admitted = limiter.producer.events(DISPATCH)[-1]
    assert isinstance(admitted, RequestAdmitted)
    assert (admitted.request_id, admitted.accepted) == ("r2", original.value)
    assert admitted.accepted_ref == original.ref
    assert returned.finished == 1
    assert await _amounts(store, ORG_BUDGET) == (10, WORST_CASE)
    (audit,) = limiter.producer.events(AUDIT)
    assert isinstance(audit, AuditRecorded)
    assert audit.audit_id == "r2:deferred:1"


async def test_a_redelivered_wait_takes_one_hold(limiter: Limiter, store: Redis) -> None:
    """The record may come twice from its topic and from its tier: the same bytes, one hold."""
    first, second = _request(1), _request(2)
    limiter.config.snapshot = configuration(org=_budget(2 * WORST_CASE - 1, on_limit="defer"))
    original = limiter.record(second)
    await limiter.handle(limiter.record(first))
    await limiter.handle(original)
    await limiter.handle(original)
    await _finish(limiter, first, {"nano_usd": 0, "tokens": 0, "requests": 0})
    waits = [r for r in limiter.producer.produced if r.topic == DEFERRED_1S]
    assert len(waits) == 2
    returned = [limiter.delivered(wait) for wait in waits]
    await limiter.handle(*returned)
    await limiter.handle(returned[0])

    copies = [r for r in limiter.producer.produced if r.key == b"r2"]
    assert len(copies) == 3
    assert copies[0].value == copies[2].value
    assert await _amounts(store, ORG_BUDGET) == (0, WORST_CASE)


async def test_past_the_bound_of_waiters_a_refusal_is_final(limiter: Limiter, store: Redis) -> None:
    """It says when to come back, and a redelivery cannot flip it when there is room again."""
    running, last = _request(0), limiter.record(_request(WAITERS_MAX + 1))
    await limiter.handle(limiter.record(running))
    crowd = [limiter.record(_request(n)) for n in range(1, WAITERS_MAX + 1)]
    await limiter.handle(*crowd, last)

    assert _topics(limiter) == [DISPATCH, *[DEFERRED_1S] * WAITERS_MAX, OUTCOMES]
    (refused,) = limiter.producer.events(OUTCOMES)
    assert isinstance(refused, RequestFinished)
    assert (refused.request_id, refused.http_status) == (f"r{WAITERS_MAX + 1}", 429)
    assert refused.denial is not None
    assert (refused.denial.limit_id, refused.denial.retry_after_ms) == ("org:budget:total", 1_000)
    await _finish(limiter, running, {"nano_usd": 0, "tokens": 0, "requests": 0})
    await limiter.handle(last)

    outcomes = [r for r in limiter.producer.produced if r.topic == OUTCOMES]
    assert len(outcomes) == 2
    assert outcomes[0] == outcomes[1]
    assert await _amounts(store, ORG_BUDGET) == (0, 0)


async def test_a_wait_that_would_outlast_the_deadline_does_not_begin(limiter: Limiter) -> None:
    """The client hears at once, with what is still true: come back in a second."""
    await limiter.handle(limiter.record(_request(1)))
    await limiter.handle(limiter.record(_request(2, deadline_in_ms=900)))

    assert _topics(limiter) == [DISPATCH, OUTCOMES]
    (frame,) = limiter.bus.sent
    assert getattr(frame.content, "http_status", None) == 429


async def test_a_deadline_that_passes_in_the_tier_ends_the_request_honestly(
    limiter: Limiter, store: Redis
) -> None:
    """504, naming the limit it waited for, and nothing is held."""
    await limiter.handle(limiter.record(_request(1)))
    await limiter.handle(limiter.record(_request(2, deadline_in_ms=1_100)))
    waiting = next(r for r in limiter.producer.produced if r.topic == DEFERRED_1S)
    await asyncio.sleep(1.15)
    await limiter.handle(limiter.delivered(waiting))

    (outcome,) = limiter.producer.events(OUTCOMES)
    assert isinstance(outcome, RequestFinished)
    assert (outcome.status, outcome.http_status) == ("expired", 504)
    assert outcome.denial is not None
    assert outcome.denial.limit_id == "org:budget:total"
    assert outcome.parents[0].topic == REQUESTS
    assert await _amounts(store, ORG_BUDGET) == (0, WORST_CASE)


async def test_a_rate_is_waited_for(limiter: Limiter, store: Redis) -> None:
    """A bucket that was empty takes the same request once it has refilled."""
    limits = Limits(requests_per_s=5, burst=1, on_limit="defer")
    limiter.config.snapshot = configuration(org=limits)
    await limiter.handle(limiter.record(_request(1)))
    await limiter.handle(limiter.record(_request(2)))
    assert _topics(limiter) == [DISPATCH, DEFERRED_1S]
    waiting = next(r for r in limiter.producer.produced if r.topic == DEFERRED_1S)
    await asyncio.sleep(0.25)
    await limiter.handle(limiter.delivered(waiting))

    admitted = [
        decode_as(r.value, RequestAdmitted)
        for r in limiter.producer.produced
        if r.topic == DISPATCH
    ]
    assert [event.request_id for event in admitted] == ["r1", "r2"]


async def test_what_is_spent_is_refused_under_defer_too(limiter: Limiter) -> None:
    """402 at once, with an audit event."""
    limiter.config.snapshot = configuration(org=_budget(WORST_CASE - 1, on_limit="defer"))
    await limiter.handle(limiter.record(_request(1)))

    (outcome,) = limiter.producer.events(OUTCOMES)
    (audit,) = limiter.producer.events(AUDIT)
    assert isinstance(outcome, RequestFinished)
    assert isinstance(audit, AuditRecorded)
    assert (outcome.http_status, audit.audit_id) == (402, "r1:refused")


class _BehindThenRight(Clock):
    """A clock that is still in yesterday for its first ``behind`` readings."""

    def __init__(self, behind: int) -> None:
        self.behind = behind

    def now_ms(self) -> int:
        self.behind -= 1
        return super().now_ms() - (DAY_MS if self.behind >= 0 else 0)


@pytest.mark.parametrize("behind", [1, 25, 60])
async def test_a_period_that_rolls_over_under_load_admits_what_the_new_one_holds(
    limiter: Limiter, store: Redis, behind: int
) -> None:
    """Half of the batch still means yesterday: it is asked again, and yesterday stays as it was."""
    quota = Quota(30, "requests", "day")
    limiter.config.snapshot = configuration(org=Limits(quotas=(quota,)))
    records = [limiter.record(_request(n)) for n in range(50)]
    limiter.clock = _BehindThenRight(behind)
    await limiter.handle(*records)

    admitted = [e for e in limiter.producer.events(DISPATCH) if isinstance(e, RequestAdmitted)]
    days = {hold.key for e in admitted for hold in e.holds if hold.key.startswith("b:org/requests")}
    (today,) = days
    assert (len(admitted), len(limiter.producer.events(OUTCOMES))) == (30, 20)
    assert await _amounts(store, f"{{0}}|acme|{today}") == (0, 30)
    keys = [key.decode() async for key in store.scan_iter("{0}|acme|b:org/requests:*")]
    assert keys == [f"{{0}}|acme|{today}"]
    assert all(record.finished == 1 for record in records)


async def test_a_clock_that_stays_in_the_wrong_period_costs_nobody_anything(
    limiter: Limiter, store: Redis
) -> None:
    """The ledger's clock decides: asked again with the time it told, the request is held in its day."""
    limiter.config.snapshot = configuration(org=Limits(quotas=(Quota(30, "requests", "day"),)))
    record = limiter.record(_request(1))
    limiter.clock = _BehindThenRight(10_000)
    await limiter.handle(record)

    (admitted,) = limiter.producer.events(DISPATCH)
    assert isinstance(admitted, RequestAdmitted)
    today = period_at("day", Clock().now_ms()).id
    keys = [key.decode() async for key in store.scan_iter("{0}|acme|b:org/requests:*")]
    assert keys == [f"{{0}}|acme|b:org/requests:{today}"]


async def test_terms_outlive_their_price_their_budget_and_their_period(
    limiter: Limiter, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redelivered after all three changed, it runs at the pinned price, and its hold returns where it
    was taken: the new period sees nothing of it."""
    now_ms = Clock().now_ms()
    periods = {"was": (0, now_ms + 600), "is": (now_ms + 600, now_ms + DAY_MS)}
    ids = ["was"]
    monkeypatch.setattr(
        "schemas.stated_limits.period_at",
        lambda kind, _: Period(f"{kind}-{ids[-1]}", *periods[ids[-1]]),
    )
    record = limiter.record(_request(1))
    await limiter.handle(record)
    ids.append("is")
    dear = Model(
        backends=(Target(backend="b1"),), input_usd_per_mtok="20", output_usd_per_mtok="60"
    )
    limiter.config.snapshot = configuration(org=_budget(1), model=dear)
    await asyncio.sleep(0.7)
    await limiter.handle(record)

    first, second = (r for r in limiter.producer.produced if r.topic == DISPATCH)
    assert first == second
    await _finish(limiter, _request(1), {"nano_usd": 10, "tokens": 5, "requests": 1})
    assert await _amounts(store, "{0}|acme|b:org/nano_usd:total-was") == (10, 0)
    assert [key async for key in store.scan_iter("{0}|acme|b:*-is")] == []


class _Books:
    """What should stand in the ledger: the holds of what runs, the costs of what ended."""

    def __init__(self, store: Redis) -> None:
        self._store = store
        self.running: dict[str, tuple[RequestAccepted, list[Hold]]] = {}
        self.settled: dict[str, int] = {}

    async def check(self, limits: dict[str, int], admitted: Sequence[RequestAdmitted]) -> None:
        """I3 always; I2 wherever something was just admitted."""
        reserved: dict[str, int] = {}
        for _, holds in self.running.values():
            for hold in holds:
                reserved[hold.key] = reserved.get(hold.key, 0) + hold.amount
        for key in reserved.keys() | self.settled.keys():
            found = await _amounts(self._store, f"{{0}}|acme|{key}")
            assert found == (self.settled.get(key, 0), reserved.get(key, 0)), key
        for hold in (hold for event in admitted for hold in event.holds):
            if hold.key in limits:
                assert (
                    sum(await _amounts(self._store, f"{{0}}|acme|{hold.key}")) <= limits[hold.key]
                )


@pytest.mark.parametrize("seed", range(8))
async def test_limits_and_prices_that_change_under_load_never_corrupt_a_balance(
    limiter: Limiter, store: Redis, seed: int
) -> None:
    """Lowered below what runs, raised again, repriced: holds stay pinned, sums stay exact."""
    chance = random.Random(seed)
    books = _Books(store)
    org_limit = key_limit = 20 * WORST_CASE
    usd_per_mtok = 2
    for step in range(40):
        match chance.choice(("admit", "admit", "admit", "finish", "finish", "limits", "price")):
            case "limits":
                org_limit = chance.randint(0, 20) * WORST_CASE + chance.randint(0, 999)
                key_limit = chance.randint(0, 20) * WORST_CASE + chance.randint(0, 999)
            case "price":
                usd_per_mtok = chance.randint(1, 9)
            case "finish":
                for req in chance.sample(sorted(books.running), len(books.running) // 2):
                    request, holds = books.running.pop(req)
                    share = {h.unit: chance.randint(0, h.amount) for h in holds}
                    await _finish(limiter, request, share)
                    for hold in holds:
                        books.settled[hold.key] = books.settled.get(hold.key, 0) + share[hold.unit]
        limiter.config.snapshot = configuration(
            org=_budget(org_limit, on_limit=chance.choice(("defer", "reject"))),
            key=_budget(key_limit),
            model=Model(
                backends=(Target(backend="b1"),),
                input_usd_per_mtok=str(usd_per_mtok),
                output_usd_per_mtok=str(usd_per_mtok * 3),
            ),
        )
        requests = [_request(step * 100 + n) for n in range(chance.randint(1, 8))]
        admitted = await _admit(limiter, requests, books)
        limits = {"b:org/nano_usd:total": org_limit, "b:key/key_a/nano_usd:total": key_limit}
        await books.check(limits, admitted)


async def _admit(
    limiter: Limiter, requests: Sequence[RequestAccepted], books: _Books
) -> list[RequestAdmitted]:
    """Post the batch; what is admitted runs from now on."""
    by_id = {request.request_id: request for request in requests}
    produced = await limiter.handle(*map(limiter.record, requests))
    admitted = [
        decode_as(record.value, RequestAdmitted) for record in produced if record.topic == DISPATCH
    ]
    for event in admitted:
        books.running[event.request_id] = by_id[event.request_id], event.holds
    return admitted
