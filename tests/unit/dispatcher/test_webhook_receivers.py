"""Whose turn it is: what one organization's receiver does is nothing to the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from dispatcher.webhooks.receivers import (
    FAILING_AFTER,
    OF_ORG_MAX,
    UNDER_WAY_MAX,
    WAITING_MAX,
    Receivers,
)
from dispatcher.webhooks.schedule import BUSY, FAILING

_ACME, _OTHER = ("acme", "https://a.example"), ("other", "https://o.example")


async def _ended(receivers: Receivers, receiver: tuple[str, str], *, has_failed: bool) -> None:
    async with receivers.turn(receiver, 1) as turn:
        assert turn.refused is None
        turn.has_failed = has_failed


async def test_an_organization_has_so_many_deliveries_under_way() -> None:
    """What is more waits so long, and then hears that there is no room; others have theirs."""
    receivers = Receivers()
    async with AsyncExitStack() as held:
        for _ in range(OF_ORG_MAX):
            await held.enter_async_context(receivers.turn(_ACME, 1))

        async with receivers.turn(_ACME, 0.01) as late, receivers.turn(_OTHER, 0.01) as other:
            assert (late.refused, other.refused) == (BUSY, None)
    assert receivers.under_way == 0


async def test_who_waits_gets_the_place_of_who_leaves() -> None:
    """In the order in which they came."""
    receivers, order = Receivers(), []

    async def wait(number: int) -> None:
        async with receivers.turn(_ACME, 5) as turn:
            assert turn.refused is None
            assert receivers.under_way <= OF_ORG_MAX
            order.append(number)
            await asyncio.sleep(0)

    async with AsyncExitStack() as held:
        for _ in range(OF_ORG_MAX):
            await held.enter_async_context(receivers.turn(_ACME, 1))
        waiting = [asyncio.create_task(wait(number)) for number in range(20)]
        await asyncio.sleep(0.01)
        assert order == []
    await asyncio.gather(*waiting)

    assert order == list(range(20))
    assert receivers.under_way == 0


async def test_only_so_many_wait() -> None:
    """The next hears so at once."""
    receivers = Receivers()
    async with AsyncExitStack() as held:
        for _ in range(OF_ORG_MAX):
            await held.enter_async_context(receivers.turn(_ACME, 1))
        waiting = [
            asyncio.create_task(_ended(receivers, _ACME, has_failed=False))
            for _ in range(WAITING_MAX)
        ]
        await asyncio.sleep(0)

        async with receivers.turn(_ACME, 60) as turn:
            assert turn.refused == BUSY
    await asyncio.gather(*waiting)


async def test_a_receiver_that_fails_is_tried_with_one_message_at_a_time() -> None:
    """Until it takes one; another address of the organization is another receiver."""
    receivers = Receivers()
    for _ in range(FAILING_AFTER):
        await _ended(receivers, _ACME, has_failed=True)

    async with (
        receivers.turn(_ACME, 1) as trial,
        receivers.turn(_ACME, 1) as beside,
        receivers.turn(("acme", "https://b.example"), 1) as elsewhere,
    ):
        assert (trial.refused, beside.refused, elsewhere.refused) == (None, FAILING, None)
        trial.has_failed = False
    async with receivers.turn(_ACME, 1) as one, receivers.turn(_ACME, 1) as two:
        assert (one.refused, two.refused) == (None, None)


async def test_who_waited_for_a_receiver_that_failed_meanwhile_is_not_sent() -> None:
    """So what waits for one that hangs is gone within the time of a few tries."""
    receivers, told = Receivers(), []

    async def wait() -> None:
        async with receivers.turn(_ACME, 60) as turn:
            told.append(turn.refused)
            await asyncio.sleep(0.01)

    async with AsyncExitStack() as held:
        turns = [await held.enter_async_context(receivers.turn(_ACME, 1)) for _ in range(8)]
        waiting = [asyncio.create_task(wait()) for _ in range(30)]
        await asyncio.sleep(0)
        for turn in turns:
            turn.has_failed = True
    await asyncio.gather(*waiting)

    assert told.count(None) < 5
    assert told.count(FAILING) > 25


async def test_many_organizations_together_have_a_bound() -> None:
    """Sockets are not without end; who waits for a place gets one when any is left."""
    receivers = Receivers()
    async with AsyncExitStack() as held:
        for number in range(UNDER_WAY_MAX):
            receiver = (f"org-{number % (UNDER_WAY_MAX // OF_ORG_MAX)}", "https://x.example")
            turn = await held.enter_async_context(receivers.turn(receiver, 1))
            assert turn.refused is None
        waiting = asyncio.create_task(_ended(receivers, _OTHER, has_failed=False))
        await asyncio.sleep(0.01)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("is_called_first", [False, True])
async def test_who_is_cancelled_keeps_no_place(*, is_called_first: bool) -> None:
    """Whether its place was given to it already or not."""
    receivers = Receivers()
    async with AsyncExitStack() as held:
        for _ in range(OF_ORG_MAX):
            await held.enter_async_context(receivers.turn(_ACME, 1))
        waiting = asyncio.create_task(_ended(receivers, _ACME, has_failed=False))
        await asyncio.sleep(0)
        if not is_called_first:
            waiting.cancel()
            await asyncio.wait({waiting})
    waiting.cancel()
    await asyncio.wait({waiting})

    assert receivers.under_way == 0
    for _ in range(OF_ORG_MAX):
        await _ended(receivers, _ACME, has_failed=False)
