"""The one consume loop: Faust delivers records as they were fetched, handlers get them in natural batches.

What arrives while a batch is under way is the next batch. No exception leaves the loop: a batch that
fails is taken apart until the one record at fault is found, and only that one ends as a defect.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from faust import Stream

from schemas.codec import unknown_schema
from schemas.failures import Transient
from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.ack_window import AckWindow, Partition
from schemas.runtime.kafka.consume.dead_letters import TooManyDeadLetters
from schemas.runtime.kafka.consume.faust_app import WorkerApp
from schemas.runtime.kafka.consume.flow import Bounds, Flow
from schemas.runtime.kafka.consume.lanes import Lanes
from schemas.runtime.kafka.consume.record_lists import RecordLists
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.event_log import EventLog, place_of, traced
from schemas.runtime.process.retry import retry_until
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL

_LOG = EventLog(__name__)

EXIT_STUCK = 70

Handler = Callable[[list[Record]], Awaitable[None]]
"""Works through a batch. It calls ``finish`` on every record sooner or later, on its own. When it
raises, those that are not finished are handed to it again, in smaller batches."""

OnDefect = Callable[[Record, Exception], Awaitable[None]]
"""Ends the one record that no handling mends, with a typed outcome; the inbox finishes it then."""


class _FaustGroup:
    def __init__(self, app: WorkerApp) -> None:
        self._app = app

    def generation(self) -> int:
        return int(self._app.consumer_generation_id)


class _FaustTap:
    def __init__(self, app: WorkerApp) -> None:
        self._app = app

    def pause(self, partition: Partition) -> None:
        self._app.direct_consumer.pause_reading(partition)

    def resume(self, partition: Partition) -> None:
        self._app.direct_consumer.resume_reading(partition)

    def hold(self, partition: Partition, cause: str) -> None:
        self._app.direct_consumer.hold(partition, cause)


class Inbox:
    """Feeds one topic to one handler.

    ``batches_under_way`` bounds how many batches are handled at once; 1 keeps their order. With
    ``by_partition`` each partition has batches of its own, under that bound: handlers that book need its
    order, and none waits for another. ``waits`` is the handler's: partitions whose batch waits for
    something that is away, with the cause. ``bounds`` limit what is taken and not finished. A batch that
    fails for something that was away is tried again for ``transient_max_s``; then the process ends, as it
    does for a record that cannot be handled without ``on_defect``. ``on_delivered`` is told each record that is to be handled.
    """

    def __init__(
        self,
        app: WorkerApp,
        topic: str,
        handler: Handler,
        *,
        on_defect: OnDefect | None = None,
        bounds: Bounds | None = None,
        batch_max: int = 256,
        batches_under_way: int = 1,
        by_partition: bool = False,
        waits: Mapping[Partition, str] = MappingProxyType({}),
        transient_max_s: float = FULL.transient_max_ms / 1000,
        on_delivered: Callable[[Record], None] | None = None,
    ) -> None:
        self.topic = topic
        self._on_delivered = on_delivered
        self._group, self._tap, self._held = _FaustGroup(app), _FaustTap(app), app.held
        self.window = AckWindow(self._group, self._on_gap, self._on_late_start)
        self.flow = Flow(self.window, bounds or Bounds(), self._tap)
        self._handler = handler
        self._on_defect = on_defect
        self._transient_max_s = transient_max_s
        self._lanes = Lanes(batch_max, batches_under_way, by_partition)
        self._waits = waits
        self._may_begin = asyncio.Event()
        """Set when a lane may begin a batch."""
        self._under_way: set[asyncio.Task[None]] = set()
        self._batches = self._records = 0
        app.windows[topic] = self.window
        app.on_partitions_revoked.connect(self._on_rebalance, weak=False)
        app.on_partitions_assigned.connect(self._on_rebalance, weak=False)
        source = app.topic(topic, schema=RecordLists())
        app.agent(source, name=f"inbox.{topic}")(self._take)  # type: ignore[arg-type]  # noack() is the Stream's
        app.task(self._pump)

    @property
    def paused(self) -> dict[Partition, str]:
        """Partitions that are not read now, or not handled, with the cause."""
        held = {p: cause for p, cause in self._held.items() if p[0] == self.topic}
        return {**self.flow.paused, **self._waiting_for(), **held}

    @property
    def excused(self) -> set[Partition]:
        """Partitions whose old records have a stated cause that nobody mends by ending the process."""
        return self.flow.excused() | set(self._waiting_for())

    def _waiting_for(self) -> dict[Partition, str]:
        """What the handler waits for; a batch of an older generation says nothing of who owns it now."""
        return {p: cause for p, cause in self._waits.items() if self.window.load_of(p).records}

    def expose(self, metrics: Metrics) -> None:
        """Export how many batches were handed over, and how many records in them."""
        metrics.total("tallygate_inbox_batches_total", lambda: self._batches, self.topic)
        metrics.total("tallygate_inbox_records_total", lambda: self._records, self.topic)

    def drop_waiting(self) -> None:
        """Forget what was not handed to the handler yet: whoever owns the partitions reads it again."""
        for record in self._lanes.clear():
            self.window.drop(
                (record.topic, record.partition),
                record.generation,
                record.offset,
                record.size_bytes,
            )

    async def wait_for_batches(self, deadline_s: float) -> None:
        """Return when no batch is with the handler, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._under_way:
                    await asyncio.wait(self._under_way)

    async def _take(self, stream: Stream[Any]) -> None:
        """The agent: register the records of each list, put them into the waiting batch."""
        async for event in stream.noack().events():
            # By the list's own generation: a rebalance may have begun since it was fetched.
            generation, now_s = event.message.generation_id, time.monotonic()
            partitions = set()
            for fetched in event.value:
                record = Record(fetched, generation, self._finished, self._hold, self._rest)
                if self._add(record, now_s):
                    partitions.add((record.topic, record.partition))
            for partition in partitions:
                self.flow.after_delivery(partition)

    def _add(self, record: Record, now_s: float) -> bool:
        """The record waits for a batch; False when it is not to be handled here."""
        if not self.window.add(
            (record.topic, record.partition),
            record.generation,
            record.offset,
            record.size_bytes,
            now_s,
            record.timestamp_ms,
        ):
            return False
        if (newer := unknown_schema(record.value)) is not None:
            record.hold(str(newer))
            return False
        if self._on_delivered is not None:
            self._on_delivered(record)
        if self._lanes.add(record):
            self._may_begin.set()
        return True

    def _finished(self, record: Record) -> None:
        partition = record.topic, record.partition
        self.window.finish(partition, record.generation, record.offset, record.size_bytes)
        self.flow.after_finish()

    def _rest(self, record: Record, now_ms: int) -> None:
        partition = record.topic, record.partition
        now_s = time.monotonic()
        self.window.rest(partition, record.generation, record.offset, now_s, now_ms)

    def _hold(self, record: Record, cause: str) -> None:
        """Its partition stands still at it: whoever can read it begins there."""
        partition = record.topic, record.partition
        self.window.block(partition, record.generation, record.offset, record.size_bytes)
        if record.generation == self._group.generation():
            self._tap.hold(partition, f"{cause}, at offset {record.offset}")

    async def _pump(self) -> None:
        """Hand the waiting records to the handler, batch by batch."""
        while True:
            await self._may_begin.wait()
            self._may_begin.clear()
            while batch := self._lanes.take():
                self._batches += 1
                self._records += len(batch)
                task = asyncio.create_task(self._run(batch))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _run(self, batch: list[Record]) -> None:
        try:
            await self._handle(batch)
        except asyncio.CancelledError:
            raise
        except Exception as defect:  # noqa: BLE001  # total: what cannot be contained ends the process
            _LOG.event(LogEvent.PROCESS_ENDS, topic=self.topic, defect=defect)
            os._exit(EXIT_STUCK)
        finally:
            if self._lanes.end(batch):
                self._may_begin.set()

    async def _handle(self, batch: list[Record]) -> None:
        """Hand the batch over; if that fails, its halves, down to the one record at fault."""
        error = await self._attempt(batch)
        left = [record for record in batch if not record.is_finished]
        if error is None or not left:
            return
        if len(batch) == 1:
            await self._end_defect(left[0], error)
            return
        middle = (len(left) + 1) // 2
        await self._handle(left[:middle])
        if left[middle:]:
            await self._handle(left[middle:])

    async def _attempt(self, batch: list[Record]) -> Exception | None:
        """The handler's error, once what was merely away has been waited for."""

        async def handle() -> None:
            await self._handler([record for record in batch if not record.is_finished])

        try:
            await retry_until(handle, deadline_s=time.monotonic() + self._transient_max_s)
        except (Transient, TooManyDeadLetters):
            raise
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return RuntimeError("the handler let a cancellation out that was not its own")
        except Exception as error:  # noqa: BLE001  # total: the boundary around a batch
            _LOG.event(LogEvent.BATCH_FAILED, topic=self.topic, count=len(batch), defect=error)
            return error
        return None

    async def _end_defect(self, record: Record, error: Exception) -> None:
        if self._on_defect is None:
            raise error
        _LOG.event(
            LogEvent.RECORD_DEFECT, **place_of(record), **traced(record.headers), error=error
        )
        await self._on_defect(record, error)
        record.finish()

    async def _on_rebalance(self, *_: Any, **__: Any) -> None:
        self.drop_waiting()
        self.window.forget_older()
        self.flow.forget()

    def _on_gap(self, partition: Partition, expected: int, got: int) -> None:
        """Skipped records are read again after a restart."""
        topic, number = partition
        _LOG.event(
            LogEvent.OFFSET_GAP, topic=topic, partition=number, offset=got, expected=expected
        )
        os._exit(EXIT_STUCK)

    def _on_late_start(self, partition: Partition, expected: int, got: int) -> None:
        """Retention removed records before they were read, which a restart cannot mend."""
        topic, number = partition
        _LOG.event(
            LogEvent.RECORDS_GONE, topic=topic, partition=number, offset=got, expected=expected
        )
