"""Faust's consumer without its thread: it starts, fails, ends and stops as a plain service of this loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import MagicMock

import pytest
from mode import Service

from schemas.runtime.kafka.consume import main_loop_consumer
from schemas.runtime.kafka.consume.main_loop_consumer import ConsumerEnded, MainLoopConsumer


class _Kafka:
    """As much of aiokafka's consumer as is used here."""

    def __init__(self, refuses: Exception | None = None) -> None:
        self._refuses = refuses
        self.stopped = 0
        self.hangs = False

    async def start(self) -> None:
        if self._refuses:
            raise self._refuses
        loop = asyncio.get_running_loop()
        self._coordinator = MagicMock(
            _coordination_task=loop.create_future(), _closing=loop.create_future()
        )
        self._fetcher = MagicMock(_fetch_task=loop.create_future())

    async def stop(self) -> None:
        self.stopped += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()


class _Consumer(MainLoopConsumer):
    kafka: _Kafka

    def _create_consumer(self, loop: Any) -> Any:
        del loop
        return self.kafka


class _App(Service):
    """The parent, whose crash ends the process."""


@asynccontextmanager
async def _started(kafka: _Kafka) -> AsyncIterator[tuple[_App, _Consumer]]:
    app = _App()
    consumer = _Consumer(MagicMock(), beacon=app.beacon)
    consumer.kafka = kafka
    app.add_dependency(consumer)
    threads = threading.active_count()
    await app.start()
    try:
        assert threading.active_count() == threads
        yield app, consumer
    finally:
        await app.stop()


async def test_it_starts_and_stops_with_its_parent() -> None:
    """Without a thread of its own."""
    kafka = _Kafka()
    async with _started(kafka) as (_, consumer):
        assert consumer.started
        assert kafka.stopped == 0
    assert kafka.stopped == 1
    assert not consumer._futures


async def test_a_broker_that_refuses_fails_the_start() -> None:
    """Whoever starts the worker hears of it at once."""
    with pytest.raises(OSError, match="refused"):
        async with _started(_Kafka(OSError("refused"))):
            pass


@pytest.mark.parametrize("ends", ["_coordinator._coordination_task", "_fetcher._fetch_task"])
@pytest.mark.parametrize("error", [OSError("broken"), None])
async def test_the_end_of_its_own_work_ends_the_process(ends: str, error: OSError | None) -> None:
    """A member that heartbeats or fetches no more would look alive and read nothing."""
    kafka = _Kafka()
    async with _started(kafka) as (app, _):
        part, task = ends.split(".")
        future = getattr(getattr(kafka, part), task)
        if error:
            future.set_exception(error)
        else:
            future.cancel()

        async with asyncio.timeout(2.0):
            await app.wait_until_stopped()

        assert isinstance(app.crash_reason, ConsumerEnded)


async def test_leaving_the_group_is_no_such_end() -> None:
    """The hand-over at a stop closes the member while the rest goes on."""
    kafka = _Kafka()
    async with _started(kafka) as (app, _):
        kafka._coordinator._closing.set_result(None)
        kafka._coordinator._coordination_task.set_result(None)
        await asyncio.sleep(0.05)

        assert not app.should_stop


async def test_a_stop_waits_for_no_rebalance_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's drain has a deadline of its own."""
    monkeypatch.setattr(main_loop_consumer, "_STOPS_WITHIN_S", 0.05)
    kafka = _Kafka()
    kafka.hangs = True
    async with asyncio.timeout(2.0):
        async with _started(kafka):
            pass
    assert kafka.stopped == 1


async def test_a_rebalance_that_meets_the_stop_leaves_the_connections_to_it() -> None:
    """Faust would close them while the member still speaks."""
    kafka = _Kafka()
    async with _started(kafka) as (_, consumer):
        consumer.close()
        await asyncio.sleep(0.01)

        assert not kafka._coordinator.close.called


async def test_a_call_is_a_call() -> None:
    """In the caller's own task, whether the function waits or not."""
    async with _started(_Kafka()) as (_, consumer):

        async def waits(value: int) -> tuple[int, Any]:
            return value, asyncio.current_task()

        assert await consumer.call_thread(waits, 1) == (1, asyncio.current_task())
        assert await consumer.call_thread(int, "2") == 2  # type: ignore[arg-type]  # Faust calls such, too
