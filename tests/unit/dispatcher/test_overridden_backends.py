"""What stands over a route or a backend, at the next call: pins and drains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from dispatcher.backends.registry import Backends
from schemas.errors import ErrorCode
from schemas.overrides import Drain, Pin, RouteOverrides
from tests.unit.dispatcher.slots_scene import SetClock, backends_of, break_down, call, slot_of


def _overridden(backends: Backends, **changes: Any) -> None:
    feed = cast("Any", backends.config)
    feed.snapshot = replace(feed.snapshot, **changes)


def test_a_pinned_model_has_no_other_backend() -> None:
    """While its backend's breaker is open nobody is called, and a client hears why."""
    backends = backends_of(a=10, b=10)
    _overridden(backends, overrides={"echo": RouteOverrides(pin=Pin(backend="a"))})
    assert {call(backends, "succeeded") for _ in range(50)} == {"a"}
    assert backends.take("echo", ("a",)) is ErrorCode.NO_BACKEND
    break_down(backends, "a")

    assert backends.take("echo") is ErrorCode.NO_BACKEND
    assert "pinned" in str(backends.why_none("echo"))


def test_a_full_pinned_backend_is_waited_for() -> None:
    """It is the only one, and its slots come back."""
    backends = backends_of(a=1, b=1)
    _overridden(backends, overrides={"echo": RouteOverrides(pin=Pin(backend="a"))})
    slot_of(backends)

    assert backends.take("echo") is ErrorCode.OVERLOADED


def test_a_drain_holds_for_the_next_call_and_ends_by_itself() -> None:
    """Calls under way keep their slots; no process has to be told of its end."""
    clock = SetClock()
    backends = backends_of(clock, a=10, b=10)
    running = slot_of(backends, "b")
    _overridden(backends, drains={"a": Drain(expires_at_ms=clock.now_ms() + 60_000)})

    assert {call(backends, "succeeded") for _ in range(50)} == {"b"}
    backends.give_back(running, "succeeded")
    clock.now_s += 60
    assert {call(backends, "succeeded") for _ in range(50)} == {"a", "b"}


def test_when_all_are_drained_nobody_is_called_and_a_client_hears_why() -> None:
    """Also work that waits for backends to be well again: drains without an end do not end by themselves."""
    backends = backends_of(a=10, b=10)
    _overridden(backends, drains={"a": Drain(), "b": Drain()})

    assert backends.take("echo") is ErrorCode.NO_BACKEND
    assert not backends.has_route("echo")
    assert "drained" in str(backends.why_none("echo"))


def test_work_that_has_time_waits_for_an_override_that_ends_by_itself() -> None:
    """Two hours of a new driver end no job that may take a day."""
    clock = SetClock()
    backends = backends_of(clock, a=10, b=10)
    soon = Drain(expires_at_ms=clock.now_ms() + 1)
    _overridden(backends, drains={"a": soon, "b": Drain()})

    assert backends.take("echo") is ErrorCode.NO_BACKEND
    assert backends.has_route("echo")
