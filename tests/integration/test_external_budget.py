"""A remainder that an external budget service tells is exact, whoever asks when and however late spend is told.

Two limiters on one real ledger, each asking by itself; the service keeps books of its own. After every step what is
held and spent fits the budget: admissions, ends, bookings, reports and corrections come in whatever order.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from limiter_worker.external_budget.standing import Standing
from schemas.budget_service import RETURNED_AFTER_S
from schemas.events import RequestFinished
from schemas.money import usd
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.topics import OUTCOMES
from tests.support.budget_world import (
    BALANCE,
    BUDGET,
    HOLD,
    REPORTED,
    STORED,
    Books,
    SteppedClock,
    World,
    limiter_on,
)
from tests.support.harness.ledger_server import LedgerServer
from tests.support.limiter_parts import Limiter
from tests.support.one_shard import ONE_SHARD, SHARD


@pytest_asyncio.fixture
async def world(server: LedgerServer) -> AsyncIterator[World]:
    """Two limiters, an empty ledger, a service with a budget for ten worst cases."""
    redis = Redis.from_url(server.url)
    await redis.flushall()
    connection = ledger_store(server.url)
    await connection.start()
    ledger, clock, service = LedgerClient(connection, ONE_SHARD), SteppedClock(), Books()
    await ledger.init(SHARD)
    limiters = [limiter_on(ledger, connection, clock, service) for _ in range(2)]
    yield World(limiters, ledger, redis, clock, service)
    await connection.stop()
    await redis.aclose()


_STEPS = {"admit": 10, "finish": 7, "correct": 2, "book": 4, "report": 4, "expire": 6, "wait": 1}


async def _step(world: World, chance: random.Random) -> None:
    """Something happens."""
    limiter = chance.choice(world.limiters)
    match chance.choices(list(_STEPS), list(_STEPS.values()))[0]:
        case "admit":
            await world.admit(limiter)
        case "finish" if world.running:
            name = chance.choice(list(world.running))
            await world.finish(name, chance.randint(0, HOLD // 4))
        case "correct" if done := [row for row in world.log if row.ref is None and row.amount]:
            row = chance.choice(done)
            world.correct(row, chance.randint(1, row.amount))
        case "book":
            await world.book(chance.randint(world.booked, len(world.log)))
        case "report":
            told = int(await world.store.hget(REPORTED, "offset") or 0)
            await world.report(chance.randint(told, len(world.log)))
        case "expire":
            limiter.standing = Standing()
        case "wait":
            world.clock.now_s += chance.choice([0.5, 3.0, 12.0])


@pytest.mark.parametrize("seed", range(6))
async def test_the_remainder_is_never_exceeded(world: World, seed: int) -> None:
    """Whatever comes in whatever order; and in the end nothing of the budget is lost."""
    chance = random.Random(seed)
    for _ in range(250):
        await _step(world, chance)
        assert await world.taken() <= BUDGET

    assert world.refused > 0
    await world.book(len(world.log))
    await world.report(len(world.log))
    world.clock.now_s += 20.0
    await world.report(len(world.log))
    assert sum(world.service.counted.values()) == await _settled(world)
    world.limiters[0].standing = Standing()
    while await world.admit(world.limiters[0]):
        assert await world.taken() <= BUDGET
    assert await world.taken() > BUDGET - HOLD


async def _settled(world: World) -> int:
    return int(await world.store.hget(STORED, "settled") or 0)


async def test_two_limiters_that_were_told_the_same_share_it(world: World) -> None:
    """Ten fit, though each was told that there is room for ten."""
    went = [await world.admit(world.limiters[n % 2]) for n in range(24)]

    assert sum(went) == 10
    assert await world.taken() == BUDGET
    refusal = world.limiters[0].producer.events(OUTCOMES)[-1]
    assert isinstance(refusal, RequestFinished)
    assert refusal.denial is not None
    assert (refusal.http_status, refusal.denial.limit_type) == (429, "budget")
    assert Decimal(usd(refusal.denial.limit)) == Decimal(usd(BUDGET))


async def test_what_is_not_told_yet_is_not_spent_twice(world: World) -> None:
    """The service still offers all of it; the ledger knows better."""
    for _ in range(8):
        await world.admit(world.limiters[0])
        await world.finish(f"r{world.made}", HOLD)
    await world.book(4)
    await world.report(4)
    for limiter in world.limiters:
        limiter.standing = Standing()
    went = [await world.admit(world.limiters[n % 2]) for n in range(4)]

    assert sum(world.service.counted.values()) == 4 * HOLD
    assert went == [True, True, False, False]
    assert await world.taken() == BUDGET


async def test_nobody_goes_by_a_sum_that_was_taken_back(world: World) -> None:
    """A correction reaches the service only when no limiter counts on the old sum any more."""
    await world.admit(world.limiters[0])
    await world.finish("r1", HOLD)
    await world.book(1)
    await world.report(1)
    world.limiters[0].standing = Standing()
    assert await world.admit(world.limiters[0])
    world.correct(world.log[0], HOLD)
    await world.book(2)
    await world.report(2)

    assert sum(world.service.counted.values()) == HOLD
    counted = world.limiters[0].counted
    assert counted is not None
    assert await counted.nano_usd("acme", BALANCE) == 0
    world.clock.now_s += RETURNED_AFTER_S + 1
    await world.report(2)
    assert sum(world.service.counted.values()) == 0


async def _spend_once(world: World) -> Limiter:
    """One worst case was spent, booked, told, and is known to be counted."""
    limiter = world.limiters[0]
    await world.admit(limiter)
    await world.finish("r1", HOLD)
    await world.book(1)
    await world.report(1)
    assert limiter.counted is not None
    assert await limiter.counted.nano_usd("acme", BALANCE) == HOLD
    limiter.standing = Standing()
    return limiter


async def _take_back(world: World) -> None:
    """That is corrected to nothing, which the service is told as soon as it may be."""
    world.correct(world.log[0], HOLD)
    await world.report(2)
    world.clock.now_s += RETURNED_AFTER_S + 1
    await world.report(2)
    assert world.service.counted["r1"] == HOLD
    assert sum(world.service.counted.values()) == 0


async def _fill(world: World, limiter: Limiter) -> int:
    """As many requests as go in, without another question; how many they were."""
    went = [await world.admit(limiter) for _ in range(13)]
    assert await world.taken() <= BUDGET
    return sum(went)


async def test_a_sum_is_not_gone_by_before_its_correction_is_booked(world: World) -> None:
    """The service has it back already; the balance will have once it is booked, and then it would be there twice."""
    limiter = await _spend_once(world)
    await _take_back(world)
    assert not await world.admit(limiter)
    await world.book(2)

    went = await _fill(world, limiter)
    limiter.standing = Standing()
    assert went + await _fill(world, limiter) == 10


async def test_an_older_sum_is_not_gone_by_when_something_of_it_was_taken_back(
    world: World,
) -> None:
    """Also while there is no newer one."""
    limiter = await _spend_once(world)
    await _take_back(world)
    await world.book(2)
    other = world.limiters[1]
    assert await world.admit(other)
    await world.finish(f"r{world.made}", 1)
    await world.book(3)

    assert not await world.admit(limiter)
    await world.report(3)
    limiter.standing = Standing()
    assert await _fill(world, limiter) == 9


async def test_what_is_taken_back_beside_a_question_is_not_in_its_answer(world: World) -> None:
    """Because it is told long after it was announced."""
    limiter = await _spend_once(world)

    async def meanwhile() -> None:
        world.correct(world.log[0], HOLD)
        await world.book(2)
        await world.report(2)

    world.service.meanwhile = meanwhile
    assert await _fill(world, limiter) == 10


async def test_accounting_may_be_away_for_any_time(world: World) -> None:
    """What was counted once still is; what is booked since counts here until it is told."""
    limiter = world.limiters[0]
    for upto in (1, 2):
        await world.admit(limiter)
        await world.finish(f"r{upto}", HOLD)
        await world.book(upto)
        await world.report(1)
        limiter.standing = Standing()
    world.clock.now_s += 3_600.0

    went = [await world.admit(limiter) for _ in range(9)]
    assert sum(went) == 8
    assert await world.taken() == BUDGET


async def test_without_a_word_of_accounting_the_first_question_is_not_answered(
    world: World,
) -> None:
    """What is counted is not known then, so the policy holds; nothing is guessed."""
    world.service.timeout_s = 0.3
    await world.admit(world.limiters[0])
    await world.finish("r1", HOLD)
    await world.book(1)
    other = world.limiters[1]

    assert not await world.admit(other)
    refusal = other.producer.events(OUTCOMES)[-1]
    assert isinstance(refusal, RequestFinished)
    assert refusal.http_status == 503
