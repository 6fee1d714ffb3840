"""The consumer as a member of its group: commits, seeks, the log's extent, and leaving the group.

It leans on the internals of Faust and aiokafka; both versions are pinned exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.ack_window import Partition
from schemas.runtime.kafka.consume.fetch_sessions import FetchSessions
from schemas.runtime.kafka.consume.main_loop_consumer import MainLoopConsumer
from schemas.runtime.kafka.consume.offsets import Mark, encode_mark
from schemas.runtime.kafka.consume.starting import Extent
from schemas.runtime.process.event_log import EventLog

__all__ = ["GroupMember"]

_LOG = EventLog(__name__)
_LEAVE_WITHIN_S = 3.0
_EXTENTS_WITHIN_S = 10.0


class GroupMember(MainLoopConsumer):
    """One member of the consumer group."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        app: Any = self.app
        client: Any = consumer._client
        client.send = FetchSessions(client, app.fetch_pause_s).send
        return consumer

    async def committed(self, partitions: Collection[TP]) -> Mapping[Partition, tuple[int, str]]:
        """Offset and metadata of each commit that the group has."""
        asked = [TopicPartition(*tp) for tp in partitions]
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(asked)
        return {TP(*tp): (commit.offset, commit.metadata or "") for tp, commit in found.items()}

    async def extents(self, newest_ms: Mapping[TP, int]) -> Mapping[Partition, Extent]:
        """What the log holds of each partition now; the times are those to look up. Raises
        ``KafkaError`` or ``TimeoutError``."""
        consumer = self._ensure_consumer()
        asked = [TopicPartition(*tp) for tp in newest_ms]
        times = {TopicPartition(*tp): at_ms for tp, at_ms in newest_ms.items() if at_ms}
        async with asyncio.timeout(_EXTENTS_WITHIN_S):
            begins, ends, seen = await asyncio.gather(
                consumer.beginning_offsets(asked),
                consumer.end_offsets(asked),
                consumer.offsets_for_times(times),
            )
        return {
            TP(*tp): Extent(begins[tp], ends[tp], None if (at := seen.get(tp)) is None else at[1])
            for tp in asked
        }

    def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Read on from these offsets; those of partitions that are ours no more are left out."""
        consumer = self._ensure_consumer()
        ours = consumer.assignment()
        for tp, offset in offsets.items():
            if (partition := TopicPartition(*tp)) in ours:
                consumer._fetcher.seek_to(partition, offset)

    def unread(self, topic: str) -> Mapping[Partition, int]:
        """By partition of the topic that is ours, how many records the broker has that it did not give us yet."""
        if self._consumer is None:
            return {}
        found: dict[Partition, int] = {}
        for partition in self._consumer.assignment():
            if partition.topic == topic:
                state = self._consumer._subscription.subscription.assignment.state_value(partition)
                end, is_known = state.highwater, state.has_valid_position
                unread = max(0, end - state.position) if end is not None and is_known else 0
                found[partition.topic, partition.partition] = unread
        return found

    async def commit_positions(self, marks: Mapping[Partition, Mark], generation: int) -> bool:
        """Commit what was finished in this generation; False when it is not committed."""
        consumer = self._ensure_consumer()
        if consumer._coordinator.generation != generation:
            return False
        ours = consumer.assignment()
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(mark.offset, encode_mark(mark))
            for partition, mark in marks.items()
            if partition in ours
        }
        try:
            if offsets:
                await consumer.commit(offsets)
        except KafkaError as error:
            # A rebalance came first, or the broker refuses: it is tried again with the next commit, and
            # whoever owns the partitions then reads again, which is harmless.
            _LOG.event(LogEvent.COMMIT_FAILED, error=error)
            return False
        return True

    def wake_reader(self) -> None:
        """Let a fetch that waits for data look at the partitions again."""
        if (consumer := self._consumer) is not None:
            for waiter in list(consumer._fetcher._fetch_waiters):
                consumer._fetcher._notify(waiter)

    async def leave(self) -> bool:
        """Leave the group if somebody else is in it; whether we left."""
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
        coordinator = self._consumer and self._consumer._coordinator
        return coordinator is not None and coordinator.coordinator_id is not None
