"""Shares of the readers of the log."""

from __future__ import annotations

import asyncio

import pytest

from ingress.requests.reader_shares import LookupsWait, ReaderShares


async def _hold(shares: ReaderShares, org: str, held: list[str], until: asyncio.Event) -> None:
    async with shares.reader(org):
        held.append(org)
        await until.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_organization_leaves_readers_to_the_others() -> None:
    """However many of its look-ups wait."""
    shares, held, over = ReaderShares(readers=4, org_readers=2), [""], asyncio.Event()
    tasks = [asyncio.create_task(_hold(shares, "loud", held, over)) for _ in range(50)]
    await _settle()
    tasks.append(asyncio.create_task(_hold(shares, "quiet", held, over)))
    await _settle()

    assert held == ["", "loud", "loud", "quiet"]
    over.set()
    await asyncio.gather(*tasks)
    assert held.count("loud") == 50


async def test_those_who_wait_are_served_in_turn_by_organization() -> None:
    """Not in the order in which their look-ups came."""
    shares, held, over = ReaderShares(readers=1, org_readers=1), [""], asyncio.Event()
    tasks = [
        asyncio.create_task(_hold(shares, org, held, over)) for org in ("a", "a", "a", "b", "c")
    ]
    await _settle()
    over.set()
    await asyncio.gather(*tasks)

    assert held[1:] == ["a", "a", "b", "c", "a"]


async def test_too_many_of_one_organization_are_told_at_once() -> None:
    """And nobody else is."""
    shares, over = ReaderShares(readers=1, org_waiting=2), asyncio.Event()
    tasks = [asyncio.create_task(_hold(shares, "loud", [], over)) for _ in range(3)]
    await _settle()
    with pytest.raises(LookupsWait):
        await _hold(shares, "loud", [], over)
    over.set()
    await asyncio.gather(*tasks)
    await _hold(shares, "quiet", [], over)


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    """Neither a place in line nor a reader."""
    shares, over = ReaderShares(readers=1), asyncio.Event()
    first = asyncio.create_task(_hold(shares, "a", [], over))
    await _settle()
    second = asyncio.create_task(_hold(shares, "a", [], over))
    await _settle()
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    over.set()

    async with asyncio.timeout(1):
        await _hold(shares, "a", [], over)
