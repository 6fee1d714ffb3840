"""What the admin API reads of backends: one line per instance and backend, gone with its backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from dispatcher.abort import Abort, DrainCap
from dispatcher.backends.health_report import HealthReport
from dispatcher.backends.registry import Backends, Slot
from dispatcher.backends.slots import SlotRequest, Slots
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.overrides import Drain
from schemas.reports import Excess
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store
from tests.support.events import NOW_MS, accepted

_BACKEND = Backend(url="http://127.0.0.1:1/v1")
_KEYED = Backend(url="http://127.0.0.1:1/v1", api_key_env="BACKEND_B_API_KEY")


class _FixedClock(Clock):
    def now_ms(self) -> int:
        return NOW_MS


@dataclass
class _FakeStore:
    """A hash, and a bell that rings at every write."""

    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def call(self, command: str, *arguments: Any) -> Awaitable[None]:
        if command == "EVAL":
            _, _, key, *fields = arguments
            self.lines |= {
                name: json.loads(line) for name, line in zip(fields[::2], fields[1::2], strict=True)
            }
        else:
            key, *fields = arguments
            assert command == "HDEL"
            self.lines = {name: line for name, line in self.lines.items() if name not in fields}
        assert key == "{cfg}|health"
        self.written.set()
        return asyncio.sleep(0)


def _excess_at(backend: str) -> dict[str, Excess]:
    return {"m": Excess(700)} if backend == "a" else {}


async def test_every_change_of_a_backend_is_told() -> None:
    """Its state with its time, the calls under way, the gauge; a removed backend leaves no line."""
    feed = SimpleNamespace(snapshot=Snapshot(backends={"a": _BACKEND, "b": _KEYED}))
    backends = Backends(cast("ConfigFeed", feed), _FixedClock())
    store, metrics = _FakeStore(), Metrics()
    slots = Slots(backends, metrics, _FixedClock())
    report = HealthReport(
        slots,
        cast("Store", store),
        metrics,
        _FixedClock(),
        "dispatcher-0",
        _excess_at,
        {"b": "status 503"},
        lambda variable: variable == "BACKEND_B_API_KEY",
    )
    backends.states["a"].in_flight = 3
    for _ in range(2):
        backends.probed("b", answered=False)
    reporting = asyncio.create_task(report.run())
    await asyncio.wait_for(store.written.wait(), 5)
    told = dict(store.lines)
    store.written.clear()
    feed.snapshot = Snapshot(backends={"b": _KEYED})
    backends.probed("b", answered=True)
    backends.probed("b", answered=True)
    await asyncio.wait_for(store.written.wait(), 5)
    await asyncio.sleep(0)
    reporting.cancel()

    at = {
        "since_ms": NOW_MS,
        "at_ms": NOW_MS,
        "limit": 256,
        "open_models": [],
        "queued": {},
        "excess": {},
        "breaker": "closed",
        "is_alive": True,
        "lanes": {},
        "lacks_key": False,
        "probe": "",
    }
    at_b = at | {"lacks_key": True, "probe": "status 503"}
    assert told == {
        "dispatcher-0|a": {"state": "healthy", "inflight": 3, **at, "excess": {"m": [700, 0]}},
        "dispatcher-0|b": {"state": "unhealthy", "inflight": 0, **at_b, "is_alive": False},
    }
    assert store.lines == {"dispatcher-0|b": {"state": "healthy", "inflight": 0, **at_b}}
    assert b'tallygate_backend_healthy{backend="b"} 1.0' in metrics.page()


async def test_breakers_are_told_by_backend_and_by_model() -> None:
    """Those who explain a route say which of the two forbids a call."""
    models = {"m": Model(backends=(Target(backend="a"),))}
    feed = SimpleNamespace(snapshot=Snapshot(models=models, backends={"a": _BACKEND}))
    backends = Backends(cast("ConfigFeed", feed), _FixedClock())
    store, metrics = _FakeStore(), Metrics()
    slots = Slots(backends, metrics, _FixedClock())
    report = HealthReport(
        slots,
        cast("Store", store),
        metrics,
        _FixedClock(),
        "dispatcher-0",
        _excess_at,
        {"b": "status 503"},
        lambda variable: variable == "BACKEND_B_API_KEY",
    )
    for _ in range(5):
        slot = backends.take("m")
        assert isinstance(slot, Slot)
        backends.give_back(slot, "unreachable")
    feed.snapshot = replace(feed.snapshot, drains={"a": Drain()})
    running = backends.states["a"].models["m"]
    running.in_flight += 1
    reporting = asyncio.create_task(report.run())
    await asyncio.wait_for(store.written.wait(), 5)
    reporting.cancel()

    told = store.lines["dispatcher-0|a"]
    assert (told["breaker"], told["lanes"]["m"][:2]) == ("open", ["closed", 1])
    assert b"tallygate_overrides_in_force 1.0" in metrics.page()


async def test_what_is_free_is_told_more_often_while_background_work_comes() -> None:
    """Whoever lets flex in goes by it; of interactive requests nobody is told more often."""
    feed = SimpleNamespace(snapshot=Snapshot(backends={"a": _BACKEND}))
    slots = Slots(Backends(cast("ConfigFeed", feed), _FixedClock()), Metrics(), _FixedClock())
    looks: list[bool] = []

    class _Counted(HealthReport):
        async def _look(self, *, is_due: bool) -> None:
            looks.append(is_due)
            if len(looks) == 8:
                raise asyncio.CancelledError

    report = _Counted(
        slots,
        cast("Store", _FakeStore()),
        Metrics(),
        _FixedClock(),
        "d",
        _excess_at,
        {},
        lambda _: False,
    )
    with (
        patch("dispatcher.backends.health_report._LOOK_S", 0.0),
        suppress(asyncio.CancelledError),
    ):
        await report.run()
    assert looks == [True, *[False] * 7]
    looks.clear()
    await slots.take(_asking(background=True))
    with (
        patch("dispatcher.backends.health_report._LOOK_S", 0.0),
        suppress(asyncio.CancelledError),
    ):
        await report.run()

    assert looks == [True, False] * 4


def _asking(**more: Any) -> SlotRequest:
    return SlotRequest(accepted(**more), Abort(DrainCap(1.0, 1)), NOW_MS)
