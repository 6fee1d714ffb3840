from __future__ import annotations

import asyncio

import pytest

from ingress.gatekeeper import bodies
from ingress.gatekeeper.bodies import BodyBudget, BodyHold
from ingress.http.refusals import Refusal

_MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WAIT_S", 0.05)


async def _taken(budget: BodyBudget, org: str, size: int) -> BodyHold:
    hold = await budget.take(org, size)
    assert isinstance(hold, BodyHold)
    return hold


async def test_an_organization_holds_at_most_a_fourth() -> None:
    budget = BodyBudget(64 * _MIB)
    for _ in range(4):
        await _taken(budget, "a", 4 * _MIB)
    assert isinstance(await budget.take("a", 4 * _MIB), Refusal)
    await _taken(budget, "b", 4 * _MIB)


async def test_one_body_passes_however_small_the_budget() -> None:
    budget = BodyBudget(_MIB)
    hold = await _taken(budget, "a", 4 * _MIB)
    assert isinstance(await budget.take("b", 4 * _MIB), Refusal)
    hold.release()
    await _taken(budget, "b", 4 * _MIB)


async def test_small_bodies_pass_beside_as_many_large_ones_as_there_may_be() -> None:
    budget = BodyBudget(32 * _MIB)
    held = 0
    for org in "abcdefgh":
        while isinstance(await budget.take(org, 4 * _MIB), BodyHold):
            held += 1
    assert held == 7
    await _taken(budget, "z", 1_000)


async def test_who_waits_is_let_in_in_turns_of_organizations() -> None:
    budget = BodyBudget(16 * _MIB)
    holds = [await _taken(budget, org, 4 * _MIB) for org in "xyz"]
    order: list[str] = []

    async def take(org: str) -> None:
        hold = await budget.take(org, 4 * _MIB)
        assert isinstance(hold, BodyHold)
        order.append(org)
        await asyncio.sleep(0)
        hold.release()

    tasks = [asyncio.create_task(take(org)) for org in "aaab"]
    await asyncio.sleep(0)
    holds[0].release()
    await asyncio.gather(*tasks)
    assert order[:2] == ["a", "b"]
    for hold in holds[1:]:
        hold.release()
    assert budget.held_bytes == 0


async def test_a_refusal_says_when_there_may_be_room() -> None:
    budget = BodyBudget(64 * _MIB)
    for org in "abcd":
        for _ in range(4):
            await budget.take(org, 4 * _MIB)
    refusal = await budget.take("e", 4 * _MIB)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 503
    assert refusal.wait_ms == 3_500


async def test_room_is_given_back_once_the_body_is_in_the_log() -> None:
    budget = BodyBudget(64 * _MIB)
    hold = await _taken(budget, "a", 4 * _MIB)
    hold.shrink(_MIB)
    assert budget.held_bytes == _MIB
    delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    hold.release_after(delivered)
    hold.release()
    assert budget.held_bytes == _MIB
    delivered.set_result(None)
    await asyncio.sleep(0)
    assert budget.held_bytes == 0


async def test_who_leaves_the_queue_holds_nothing() -> None:
    budget = BodyBudget(_MIB)
    hold = await _taken(budget, "a", 4 * _MIB)
    waiting = asyncio.create_task(budget.take("b", 4 * _MIB))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    hold.release()
    assert budget.held_bytes == 0
    await _taken(budget, "c", 4 * _MIB)


async def test_many_that_give_up_at_once_while_room_comes_back_leave_nothing_behind() -> None:
    budget = BodyBudget(4 * _MIB)
    taken = [await _taken(budget, "x", 4 * _MIB)]
    waiting = [asyncio.create_task(budget.take(org, 4 * _MIB)) for org in "abcdabcdabcd"]
    await asyncio.sleep(bodies.WAIT_S)
    taken[0].release()
    answers = await asyncio.gather(*waiting)
    for hold in answers:
        if isinstance(hold, BodyHold):
            hold.release()
    assert budget.held_bytes == 0
    assert not budget._queues
    assert (budget._waiting, budget._waiting_bytes) == (0, 0)


async def test_a_turn_that_comes_when_its_owner_has_just_given_up_passes() -> None:
    budget = BodyBudget(4 * _MIB)
    hold = await _taken(budget, "x", 4 * _MIB)
    gone = asyncio.create_task(budget.take("a", 4 * _MIB))
    stays = asyncio.create_task(budget.take("b", 4 * _MIB))
    await asyncio.sleep(0)
    gone.cancel()
    hold.release()
    assert isinstance(await stays, BodyHold)
    assert budget.held_bytes == 4 * _MIB


async def test_bodies_that_wait_are_a_bound_that_is_reached() -> None:
    budget = BodyBudget(_MIB)
    hold = await _taken(budget, "a", 4 * _MIB)
    assert budget.bounds_reached() == {}
    waiting = asyncio.create_task(budget.take("b", 4 * _MIB))
    await asyncio.sleep(0)
    assert "1 bodies wait" in budget.bounds_reached()["body_budget"]
    hold.release()
    await waiting
    assert budget.bounds_reached() == {}
