"""The one consume loop: Faust delivers events one by one, handlers get them in natural batches.

What arrives while a batch is under way is the next batch. No exception leaves the loop: a failed batch
is taken apart and its poison is dead-lettered, or the process ends and the records are read again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from faust import Stream
from faust.types import TP

from schemas.runtime.consume.ack_window import AckWindow, Entry, Lane
from schemas.runtime.consume.faust_app import WorkerApp
from schemas.runtime.consume.records import Record
from schemas.runtime.telemetry import Metrics

_LOG = logging.getLogger(__name__)

EXIT_STUCK = 70

Handler = Callable[[list[Record]], Awaitable[None]]
"""Works through a batch. It calls ``finish`` on every record sooner or later, on its own; what it
raises ends the process, so everything expected must be handled inside."""


class _FaustGroup:
    def __init__(self, app: WorkerApp) -> None:
        self._app = app

    def generation(self) -> int:
        return int(self._app.consumer_generation_id)

    def committed(self, partition: TP) -> int | None:
        consumer: Any = self._app.consumer
        offset: int | None = consumer._committed_offset.get(partition)  # noqa: SLF001
        return offset


class Inbox:
    """Feeds one topic to one handler.

    ``batches_under_way`` bounds how many batches are handled at once; 1 keeps partition order, which
    handlers that book need. ``unfinished_max`` bounds the events taken and not finished. ``linger_s``
    is waited for more to arrive, where nobody waits for the effect and larger batches cost less.
    """

    def __init__(
        self,
        app: WorkerApp,
        topic: str,
        handler: Handler,
        *,
        batch_max: int = 256,
        batches_under_way: int = 1,
        unfinished_max: int = 4_096,
        linger_s: float = 0.0,
    ) -> None:
        self.topic = topic
        self.window = AckWindow(_FaustGroup(app), self._on_gap)
        self.last_progress_s = time.monotonic()
        self._handler = handler
        self._batch_max = batch_max
        self._unfinished_max = unfinished_max
        self._linger_s = linger_s
        self._waiting: list[Record] = []
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(batches_under_way)
        self._under_way: set[asyncio.Task[None]] = set()
        self._batches = self._records = 0
        app.on_partitions_revoked.connect(self._on_rebalance, weak=False)
        app.on_partitions_assigned.connect(self._on_rebalance, weak=False)
        source = app.topic(
            topic, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw"
        )
        app.agent(source, name=f"inbox.{topic}")(self._take)  # type: ignore[arg-type]  # noack() is the Stream's
        app.task(self._pump)

    def expose(self, metrics: Metrics) -> None:
        """Export how many batches were handed over, and how many records in them."""
        metrics.total("tallygate_inbox_batches_total", lambda: self._batches, self.topic)
        metrics.total("tallygate_inbox_records_total", lambda: self._records, self.topic)

    async def _take(self, stream: Stream[Any]) -> None:
        """The agent: register each event, put it into the waiting batch."""
        async for event in stream.noack().events():
            entry: Entry = self.window.add(event, time.monotonic())
            self._waiting.append(Record(entry, self.window))
            self._arrived.set()
            while self.window.unfinished >= self._unfinished_max:  # noqa: ASYNC110  # rare
                await asyncio.sleep(0.01)

    async def _pump(self) -> None:
        """Hand the waiting records to the handler, batch by batch."""
        while True:
            await self._arrived.wait()
            await self._slots.acquire()
            if self._linger_s:
                await asyncio.sleep(self._linger_s)
            batch = self._waiting[: self._batch_max]
            del self._waiting[: self._batch_max]
            if not self._waiting:
                self._arrived.clear()
            self._batches += 1
            self._records += len(batch)
            task = asyncio.create_task(self._run(batch))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _run(self, batch: list[Record]) -> None:
        try:
            await self._handler(batch)
            self.last_progress_s = time.monotonic()
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001  # total: what handlers do not expect ends the process
            _LOG.exception("handler of %s failed; the process ends and reads again", self.topic)
            os._exit(EXIT_STUCK)
        finally:
            self._slots.release()

    async def _on_rebalance(self, *_: Any, **__: Any) -> None:
        self.window.forget_older()

    def _on_gap(self, lane: Lane, expected: int, got: int) -> None:
        """Skipped events are read again after a restart. At the very start of a partition a gap means
        that retention removed them, which a restart cannot mend: that is only reported."""
        _LOG.error("offset gap on %s: expected %d, got %d", lane[0], expected, got)
        if lane in self.window._next_offset:  # noqa: SLF001
            os._exit(EXIT_STUCK)
