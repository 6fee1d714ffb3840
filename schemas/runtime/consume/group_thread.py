"""The consumer's own thread: its side of commits, seeks and leaving the group.

It leans on the internals of Faust and aiokafka; both versions are pinned exactly. Public methods are called
from the main thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from schemas.runtime.consume.ack_window import Partition, Position

__all__ = ["GroupThread"]

_LOG = logging.getLogger(__name__)
_LEAVE_WITHIN_S = 3.0


class GroupThread(AIOKafkaConsumerThread):
    """One member of the consumer group."""

    async def seek_to_committed(self) -> Mapping[TP, OffsetAndMetadata]:
        """Seek all partitions to their commits, which are returned whole."""
        committed: Mapping[TP, OffsetAndMetadata] = await self.call_thread(self._seek_to_committed)
        return committed

    async def _seek_to_committed(self) -> Mapping[TP, OffsetAndMetadata]:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        found = await consumer._coordinator.fetch_committed_offsets(list(assigned))
        for partition, committed in found.items():
            consumer._fetcher.seek_to(partition, committed.offset)
        if fresh := assigned - found.keys():
            await consumer.seek_to_beginning(*fresh)
        return {TP(tp.topic, tp.partition): committed for tp, committed in found.items()}

    async def commit_positions(
        self, positions: Mapping[Partition, Position], generation: int
    ) -> bool:
        """Commit what was finished in this generation; False when it is not committed."""
        return bool(await self.call_thread(self._commit_positions, positions, generation))

    async def _commit_positions(
        self, positions: Mapping[Partition, Position], generation: int
    ) -> bool:
        consumer = self._ensure_consumer()
        if consumer._coordinator.generation != generation:
            return False
        ours = consumer.assignment()
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(position.offset, position.metadata)
            for partition, position in positions.items()
            if partition in ours
        }
        try:
            if offsets:
                await consumer.commit(offsets)
        except KafkaError as error:
            # A rebalance came first, or the broker refuses: it is tried again with the next commit, and
            # whoever owns the partitions then reads again, which is harmless.
            _LOG.warning("not committed: %r", error)
            return False
        return True

    def wake_reader(self) -> None:
        """Let a fetch that waits for data look at the partitions again."""
        consumer = self._consumer
        if consumer is not None and self.thread_loop is not None:
            self.thread_loop.call_soon_threadsafe(_notify_readers, consumer._fetcher)

    async def leave(self) -> bool:
        """Leave the group if somebody else is in it; whether we left."""
        return bool(await self.call_thread(self._leave))

    async def _leave(self) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                if await self._members(coordinator) < 2:  # noqa: PLR2004  # ourselves, and another
                    return False
                # A static member does not leave by itself; one without a name does, by its member id.
                coordinator._group_instance_id = None
                await coordinator.close()
                return True
        return False

    async def _members(self, coordinator: Any) -> int:
        response = await coordinator._send_req(DescribeGroupsRequest([coordinator.group_id]))
        ((error, _, _, _, _, members, *_),) = response.groups
        return 0 if error else len(members)

    @property
    def has_coordinator(self) -> bool:
        """Whether the broker that coordinates the group answers."""
        consumer = self._consumer
        return consumer is not None and consumer._coordinator.coordinator_id is not None


def _notify_readers(fetcher: Any) -> None:
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)
