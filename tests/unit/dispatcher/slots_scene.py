"""Backends by name, and calls that take and give back their slots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dispatcher.backends.breaker import CallEnd
from dispatcher.backends.registry import Backends, Slot
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock


class SetClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


def backends_of(
    clock: Clock | None = None, models: tuple[str, ...] = ("echo",), **limits: int
) -> Backends:
    """Backends by name, with the calls each may have at once, all on the model echo."""
    targets = tuple(Target(backend=name) for name in limits)
    snapshot = Snapshot(
        models={model: Model(backends=targets) for model in models} if targets else {},
        backends={
            name: Backend(url="http://127.0.0.1:1/v1", max_concurrency=limit)
            for name, limit in limits.items()
        },
    )
    feed = cast("ConfigFeed", SimpleNamespace(snapshot=snapshot))
    return Backends(feed, clock or SetClock())


def slot_of(backends: Backends, *tried: str, model: str = "echo", **more: Any) -> Slot:
    slot = backends.take(model, tried, **more)
    assert isinstance(slot, Slot)
    return slot


def call(backends: Backends, end: CallEnd, *tried: str, model: str = "echo") -> str:
    """One call that ends like this; the backend that got it."""
    slot = slot_of(backends, *tried, model=model)
    backends.give_back(slot, end)
    return slot.choice.backend_id


def break_down(backends: Backends, name: str) -> None:
    """Five connections to the backend fail."""
    others = [other for other in backends.config.snapshot.backends if other != name]
    for _ in range(5):
        call(backends, "unreachable", *others)
