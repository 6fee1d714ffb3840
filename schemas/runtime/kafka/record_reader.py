"""Reads single records where they stand, outside of any consumer group.

One consumer of the process serves all reads, one after another: what is fetched is a whole body, and a
second consumer would only double the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.events import RecordRef
from schemas.failures import Transient
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.free_consumer import stop_consumer

_READ_WITHIN_S: Final = 5.0
_FIRST_BATCH_ONLY_BYTES: Final = 1
"""The broker sends the batch that holds the offset, however large, and no further one."""


class RecordUnreadable(Transient):
    """The record is gone, or the broker did not send it in time."""


class RecordGone(RecordUnreadable):
    """The log keeps it no more."""


class RecordReader:
    """Reads by reference."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()

    async def read(self, ref: RecordRef, within_s: float) -> bytes | None:
        """The value of the record; raises ``RecordUnreadable``. The time includes the queue."""
        value: bytes | None = (await self.record(ref, within_s)).value
        return value

    async def record(self, ref: RecordRef, within_s: float) -> Any:
        """The record itself, as aiokafka has it; the same otherwise."""
        try:
            async with asyncio.timeout(within_s), self._turn, asyncio.timeout(_READ_WITHIN_S):
                return await self._read(ref)
        except OffsetOutOfRangeError as error:
            raise RecordGone(f"{ref.topic}-{ref.partition}@{ref.offset} is gone") from error
        except (TimeoutError, KafkaError) as error:
            raise RecordUnreadable(
                f"{ref.topic}-{ref.partition}@{ref.offset}: {error!r}"
            ) from error

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    async def _read(self, ref: RecordRef) -> Any:
        consumer = await self._connected()
        partition = TopicPartition(ref.topic, ref.partition)
        consumer.assign([partition])
        try:
            consumer.seek(partition, ref.offset)
            # All of the batch: while some of it is left, aiokafka keeps it in a cycle, a whole body long.
            fetched = await consumer.getmany(partition, timeout_ms=_READ_WITHIN_S * 1_000)
        finally:
            consumer.unsubscribe()
        record = next(iter(fetched.get(partition, ())), None)
        if record is None:
            raise TimeoutError
        if record.offset != ref.offset:
            raise RecordGone(f"{ref.topic}-{ref.partition}@{ref.offset} is gone")
        return record

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **client_options(self._brokers),
                enable_auto_commit=False,
                auto_offset_reset="none",
                fetch_max_bytes=_FIRST_BATCH_ONLY_BYTES,
                max_partition_fetch_bytes=_FIRST_BATCH_ONLY_BYTES,
            )
            try:
                await consumer.start()
            except BaseException:
                await stop_consumer(consumer)
                raise
            self._consumer = consumer
        return self._consumer
