"""Turns of large bodies: one at a time, organizations in turn, and nobody's blocked way blocks the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ingress.gatekeeper import large_turns
from ingress.gatekeeper.large_turns import LARGE_BODY_BYTES, LargeTurns
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

_SIZE = 4 * LARGE_BODY_BYTES


async def _taken(turns: LargeTurns, org: str = "acme") -> Callable[[], None]:
    end = await turns.take(org, _SIZE)
    assert not isinstance(end, Refusal)
    return end


async def test_one_body_has_its_turn_at_a_time_and_the_next_after_a_rest_as_long_as_the_turn() -> (
    None
):
    """In the rest the others have their moment."""
    turns, loop = LargeTurns(), asyncio.get_running_loop()
    end = await _taken(turns)
    second = asyncio.create_task(_taken(turns))
    await asyncio.sleep(0.05)
    was_waiting, ended_s = not second.done(), loop.time()
    end()
    end()
    (await second)()

    assert was_waiting
    assert loop.time() - ended_s >= 0.04


async def test_organizations_have_turns_alternately(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that brings many bodies does not come before one that brings a single one."""
    monkeypatch.setattr(large_turns, "_REST_MAX_S", 0.0)
    turns, order = LargeTurns(), list[str]()

    async def pass_through(org: str) -> None:
        end = await _taken(turns, org)
        order.append(org)
        end()

    end = await _taken(turns, "loud")
    waiting = [asyncio.create_task(pass_through(org)) for org in ("loud",) * 4 + ("quiet",)]
    await asyncio.sleep(0)
    end()
    await asyncio.gather(*waiting)

    assert order.index("quiet") <= 1


async def test_a_turn_that_nobody_ends_is_over_after_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A body whose way into the log is blocked blocks no other."""
    monkeypatch.setattr(large_turns, "TURN_S", 0.02)
    turns = LargeTurns()
    await _taken(turns)
    async with asyncio.timeout(1):
        await _taken(turns)


async def test_who_waits_too_long_is_told_to_come_again_and_the_turns_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its place is passed over."""
    monkeypatch.setattr(large_turns, "WAIT_S", 0.02)
    monkeypatch.setattr(large_turns, "_REST_MAX_S", 0.0)
    turns = LargeTurns()
    end = await _taken(turns)
    refusal = await turns.take("acme", _SIZE)
    end()
    await _taken(turns)

    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.OVERLOADED
    assert refusal.retry_after_ms


@pytest.mark.parametrize("has_come", [False, True])
async def test_who_leaves_while_waiting_takes_no_turn_along(has_come: bool) -> None:
    """Also where its turn had come just then."""
    turns = LargeTurns()
    end = await _taken(turns)
    leaves = asyncio.create_task(turns.take("acme", _SIZE))
    stays = asyncio.create_task(_taken(turns))
    await asyncio.sleep(0)
    if has_come:
        turns._next()
    else:
        end()
    leaves.cancel()
    async with asyncio.timeout(0.5):
        await stays

    assert leaves.cancelled()
