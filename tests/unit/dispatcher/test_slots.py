"""Slots are given out in turn: who waits for whom, who is told to come back, and who leaves."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispatcher.abort import Abort, DrainCap
from dispatcher.backends import slots as slots_module
from dispatcher.backends.registry import Backends, Slot
from dispatcher.backends.slots import NoSlot, SlotRequest, Slots
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.errors import ErrorCode
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from tests.support.events import accepted


class _Clock(Clock):
    """Real time, and what the test adds to it."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def _slots(routes: dict[str, tuple[str, ...]], *, total: int = 512, **limits: int) -> Slots:
    snapshot = Snapshot(
        models={
            model: Model(backends=tuple(Target(backend=name) for name in names))
            for model, names in routes.items()
        },
        backends={
            name: Backend(url="http://127.0.0.1:1/v1", max_concurrency=limit)
            for name, limit in limits.items()
        },
    )
    clock = _Clock()
    config = cast("ConfigFeed", SimpleNamespace(snapshot=snapshot))
    return Slots(Backends(config, clock, total), Metrics(), clock)


def _wish(
    model: str, *tried: str, org: str = "acme", in_log_s: float = 0.0, **more: Any
) -> SlotRequest:
    now_ms = Clock().now_ms()
    fields = {"accepted_at_ms": now_ms, "deadline_ms": now_ms + 60_000} | more
    request = accepted(model=model, org=org, **fields)
    admitted_at_ms = now_ms - round(in_log_s * 1000)
    return SlotRequest(request, Abort(DrainCap(1.0, 1)), admitted_at_ms, tried)


def _asks(slots: Slots, model: str, *tried: str, **more: Any) -> asyncio.Task[Slot | NoSlot]:
    return asyncio.create_task(slots.take(_wish(model, *tried, **more)))


async def _taken(slots: Slots, model: str) -> Slot:
    slot = await slots.take(_wish(model))
    assert isinstance(slot, Slot)
    return slot


async def _settled(*tasks: asyncio.Task[Slot | NoSlot]) -> list[bool]:
    """Who has an answer once everything that could run has run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


async def test_a_model_whose_backend_is_full_holds_up_nobody_else() -> None:
    """It waits without a slot of the process."""
    slots = _slots({"full": ("a",), "free": ("b",)}, a=1, b=1, total=4)
    await _taken(slots, "full")
    waiting = [_asks(slots, "full") for _ in range(10)]
    other = _asks(slots, "free")

    assert not any(await _settled(*waiting))
    assert isinstance(await asyncio.wait_for(other, 1), Slot)
    for task in waiting:
        task.cancel()


async def test_a_slot_that_is_given_back_goes_to_whose_turn_it_is() -> None:
    """The loud organization came first, with more; the quiet one is next all the same."""
    slots = _slots({"echo": ("a",)}, a=1)
    held = await _taken(slots, "echo")
    loud = [_asks(slots, "echo", org="loud") for _ in range(5)]
    await _settled()
    quiet = _asks(slots, "echo", org="quiet")
    await _settled()
    for _ in range(3):
        slots.give_back(held, "succeeded")
        await _settled()
        if quiet.done():
            break
        held = cast("Slot", next(t for t in loud if t.done() and t.result() is not held).result())
        loud = [task for task in loud if not task.done()]

    assert quiet.done()
    for task in loud:
        task.cancel()


async def test_models_are_served_in_turn_when_the_process_is_full() -> None:
    """One that has many waiting does not get every slot."""
    slots = _slots({"many": ("a",), "one": ("b",)}, a=100, b=100, total=2)
    held = [await _taken(slots, "many"), await _taken(slots, "one")]
    many = [_asks(slots, "many") for _ in range(10)]
    await _settled()
    one = _asks(slots, "one")
    await _settled()
    slots.give_back(held[0], "succeeded")
    slots.give_back(held[1], "succeeded")

    assert await _settled(one) == [True]
    assert sum(task.done() for task in many) == 1
    for task in many:
        task.cancel()


async def test_whoever_waits_too_long_is_told_when_to_come_back() -> None:
    """OVERLOADED, with a hint; background work waits on."""
    slots = _slots({"echo": ("a",)}, a=1)
    await _taken(slots, "echo")
    call, job = _asks(slots, "echo"), _asks(slots, "echo", background=True)
    await _settled()
    cast("_Clock", slots.clock).ahead_s += 5.1
    refused = await asyncio.wait_for(call, 2)

    assert isinstance(refused, NoSlot)
    assert refused.code is ErrorCode.OVERLOADED
    assert (refused.retry_after_ms or 0) >= 100
    assert not job.done()
    assert slots.component().startswith("degraded: shedding")
    job.cancel()


async def test_what_was_waited_in_the_log_counts() -> None:
    """A request that comes late has one more second, not five."""
    slots = _slots({"echo": ("a",)}, a=1)
    await _taken(slots, "echo")
    late, fresh = _asks(slots, "echo", in_log_s=60.0), _asks(slots, "echo")
    await _settled()
    cast("_Clock", slots.clock).ahead_s += 1.1

    assert cast("NoSlot", await asyncio.wait_for(late, 1)).code is ErrorCode.OVERLOADED
    assert not fresh.done()
    fresh.cancel()


async def test_a_second_attempt_waits_two_seconds_at_most() -> None:
    """The failure of the first is an answer, too."""
    slots = _slots({"echo": ("a", "b")}, a=1, b=1)
    held = [await _taken(slots, "echo"), await _taken(slots, "echo")]
    second = _asks(slots, "echo", "a")
    await _settled()
    cast("_Clock", slots.clock).ahead_s += 2.1

    assert cast("NoSlot", await asyncio.wait_for(second, 2)).code is ErrorCode.OVERLOADED
    assert len(held) == 2


async def test_a_client_that_leaves_while_it_waits_is_let_go() -> None:
    """Within a tick, and its place is free."""
    slots = _slots({"echo": ("a",)}, a=1)
    held = await _taken(slots, "echo")
    wish = _wish("echo")
    waiting = asyncio.create_task(slots.take(wish))
    await _settled()
    wish.abort.end("cancelled")

    assert await asyncio.wait_for(waiting, 1) == NoSlot(None)
    assert slots.waiting == 0
    slots.give_back(held, "succeeded")
    assert isinstance(slots.backends.take("echo"), Slot)


async def test_a_deadline_ends_the_wait() -> None:
    """Also of background work."""
    slots = _slots({"echo": ("a",)}, a=1)
    await _taken(slots, "echo")
    now_ms = Clock().now_ms()
    late = _asks(slots, "echo", background=True, deadline_ms=now_ms + 50)

    assert await asyncio.wait_for(late, 1) == NoSlot(None)


async def test_a_wait_that_is_cancelled_leaves_no_slot_behind() -> None:
    """Whether its slot was there already or not."""
    slots = _slots({"echo": ("a",)}, a=1)
    held = await _taken(slots, "echo")
    first, second = _asks(slots, "echo"), _asks(slots, "echo")
    await _settled()
    slots.give_back(held, "succeeded")  # the first one's now, before it wakes up
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    assert isinstance(await asyncio.wait_for(second, 1), Slot)
    assert slots.backends.calls == 1


async def test_nobody_waits_for_a_backend_that_must_not_be_called() -> None:
    """Whoever waited when its breaker opened is told at once; a job waits until it is well again."""
    slots = _slots({"echo": ("a",)}, a=5)
    held = [await _taken(slots, "echo") for _ in range(5)]
    call, job = _asks(slots, "echo"), _asks(slots, "echo", background=True)
    await _settled()
    for slot in held:
        slots.backends.give_back(slot, "unreachable")
    refused = await asyncio.wait_for(call, 1)

    assert cast("NoSlot", refused).code is ErrorCode.NO_BACKEND
    assert not job.done()
    cast("_Clock", slots.clock).ahead_s += 5.1
    assert isinstance(await asyncio.wait_for(job, 1), Slot)


async def test_a_job_of_a_model_without_a_route_does_not_wait() -> None:
    """Nothing that heals by itself would ever end that."""
    slots = _slots({})

    assert await slots.take(_wish("echo", background=True)) == NoSlot(ErrorCode.NO_BACKEND)


async def test_a_bound_that_is_reached_is_said() -> None:
    """All slots taken, for whoever asks whether the process is ready."""
    slots = _slots({"echo": ("a", "b")}, a=100, b=100, total=2)

    assert slots.component() == "ok"
    await _taken(slots, "echo")
    await _taken(slots, "echo")
    assert slots.component() == "degraded: all 2 slots taken"


async def test_a_defect_while_slots_are_looked_after_ends_no_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next tick goes on."""
    slots = _slots({"echo": ("a",)}, a=1)
    held = await _taken(slots, "echo")
    waiting = _asks(slots, "echo")
    await _settled()
    looks: list[int] = []

    def broken() -> None:
        looks.append(1)
        raise RuntimeError("a defect")

    monkeypatch.setattr(slots_module, "TICK_S", 0.01)
    monkeypatch.setattr(Backends, "look", lambda _: broken())
    await asyncio.sleep(0.3)
    slots.give_back(held, "succeeded")

    assert len(looks) > 2
    assert isinstance(await asyncio.wait_for(waiting, 1), Slot)


async def test_the_quiet_are_served_while_the_loud_are_refused() -> None:
    """A backend of eight slots and 50 ms, five times as much asked for as it can do, by one."""
    slots = _slots({"echo": ("a",)}, a=8)
    ends: dict[str, list[Slot | NoSlot]] = {"loud": [], "quiet": []}

    async def call(org: str) -> None:
        found = await slots.take(_wish("echo", org=org))
        ends[org].append(found)
        if isinstance(found, Slot):
            await asyncio.sleep(0.05)
            slots.give_back(found, "succeeded")

    calls: list[asyncio.Task[None]] = []
    for step in range(300):
        calls += [asyncio.create_task(call("loud")) for _ in range(8)]
        if step % 10 == 0:
            calls.append(asyncio.create_task(call("quiet")))
        await asyncio.sleep(0.01)
    await asyncio.gather(*calls)

    assert all(isinstance(end, Slot) for end in ends["quiet"])
    refused = [end for end in ends["loud"] if isinstance(end, NoSlot)]
    assert len(refused) > 1_000
    assert all(100 <= (end.retry_after_ms or 0) <= 5_000 for end in refused)
    assert slots.backends.calls == slots.waiting == 0
