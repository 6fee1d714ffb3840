"""Slots: who may be called, who has to wait for a slot, and for how long."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispatcher.backends import SLOT_WAIT_S, Backends, Slot
from dispatcher.breaker import OPEN_S, CallEnd
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.errors import ErrorCode
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed

_ENOUGH_S = 60.0


class _SetClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


def _backends(clock: Clock | None = None, **limits: int) -> Backends:
    """Backends by name, with the calls each may have at once, all on the model echo."""
    snapshot = Snapshot(
        models={"echo": Model(backends=tuple(Target(backend=name) for name in limits))},
        backends={
            name: Backend(url="http://127.0.0.1:1/v1", max_concurrency=limit)
            for name, limit in limits.items()
        },
    )
    feed = cast("ConfigFeed", SimpleNamespace(snapshot=snapshot))
    return Backends(feed, clock or _SetClock())


async def _slot(backends: Backends, *tried: str, **more: Any) -> Slot:
    slot = await backends.take("echo", tried, _ENOUGH_S, **more)
    assert isinstance(slot, Slot)
    return slot


async def _call(backends: Backends, end: CallEnd, *tried: str) -> str:
    """One call that ends like this; the backend that got it."""
    slot = await _slot(backends, *tried)
    backends.give_back(slot, end)
    return slot.choice.backend_id


async def _break(backends: Backends, name: str) -> None:
    """Five connections to the backend fail."""
    others = [other for other in backends.config.snapshot.backends if other != name]
    for _ in range(5):
        await _call(backends, "unreachable", *others)


async def test_a_broken_backend_is_not_called_while_its_breaker_is_open() -> None:
    """All calls go to the other one."""
    backends = _backends(a=10, b=10)
    await _break(backends, "a")

    assert {await _call(backends, "succeeded") for _ in range(50)} == {"b"}


async def test_nobody_is_called_when_every_breaker_is_open() -> None:
    """At once, however much time is left."""
    backends = _backends(a=10)
    await _break(backends, "a")

    assert await backends.take("echo", (), _ENOUGH_S) is ErrorCode.NO_BACKEND


async def test_a_half_open_backend_gets_one_call_and_returns_with_its_success() -> None:
    """While the trial runs all others go elsewhere."""
    clock = _SetClock()
    backends = _backends(clock, a=10, b=10)
    await _break(backends, "a")
    clock.now_s += OPEN_S
    trial = await _slot(backends, "b")

    assert {await _call(backends, "succeeded") for _ in range(50)} == {"b"}
    backends.give_back(trial, "succeeded")
    assert {await _call(backends, "succeeded") for _ in range(50)} == {"a", "b"}


async def test_a_backend_that_only_fails_probes_is_the_last_resort() -> None:
    """It comes last, but it comes before a refusal."""
    backends = _backends(a=10, b=10)
    for _ in range(2):
        backends.probed("a", answered=False)

    assert {await _call(backends, "succeeded") for _ in range(50)} == {"b"}
    assert await _call(backends, "succeeded", "b") == "a"


async def test_whoever_finds_all_full_gets_the_next_slot_that_is_given_back() -> None:
    """In the order in which they came."""
    backends = _backends(a=1)
    first = await _slot(backends)
    waiting = [asyncio.create_task(backends.take("echo", (), _ENOUGH_S)) for _ in range(2)]
    await asyncio.sleep(0)
    backends.give_back(first, "succeeded")
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    assert done == {waiting[0]}
    second = waiting[0].result()
    assert isinstance(second, Slot)
    backends.give_back(second, "succeeded")
    assert isinstance(await waiting[1], Slot)


async def test_nobody_waits_longer_than_the_time_left() -> None:
    """The gateway is full, and says so."""
    backends = _backends(Clock(), a=1)
    await _slot(backends)

    assert await backends.take("echo", (), 0.01) is ErrorCode.OVERLOADED
    assert SLOT_WAIT_S == 2.0


async def test_second_attempts_are_a_fifth_of_the_calls_and_three() -> None:
    """Beyond that they wait for one another."""
    backends = _backends(Clock(), a=100, b=100)
    calls = [await _slot(backends) for _ in range(10)]
    retries = [await _slot(backends, "a", is_retry=True) for _ in range(6)]

    assert await backends.take("echo", ("a",), 0.01, is_retry=True) is ErrorCode.OVERLOADED
    backends.give_back(retries[0], "succeeded")
    assert isinstance(await backends.take("echo", ("a",), 0.01, is_retry=True), Slot)
    assert (backends.calls, backends.retries) == (len(calls) + 6, 6)


async def test_a_call_without_a_verdict_leaves_the_breaker_alone() -> None:
    """Clients that leave must not close a backend to others."""
    backends = _backends(a=10)
    for _ in range(50):
        await _call(backends, "undecided")

    assert await _call(backends, "succeeded") == "a"
    assert backends.lanes["a"].in_flight == 0


async def test_changes_of_state_are_seen_once_with_their_time() -> None:
    """Also those that time alone brings about, and backends that come and go."""
    clock = _SetClock()
    backends = _backends(clock, a=10, b=10)

    assert sorted(backends.observe()) == ["a", "b"]
    await _break(backends, "a")
    assert backends.observe() == ["a"]
    assert backends.observe() == []
    clock.now_s += OPEN_S
    assert backends.observe() == ["a"]
    lane = backends.lanes["a"]
    assert (lane.shown, lane.since_ms) == ("half_open", clock.now_ms())


@pytest.mark.parametrize("model", ["echo", "unknown"])
async def test_a_model_without_backends_leads_nowhere(model: str) -> None:
    """Both may have been removed since admission."""
    assert await _backends().take(model, (), _ENOUGH_S) is ErrorCode.NO_BACKEND
