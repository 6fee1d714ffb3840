"""Faust's consumer with what it lacks: deliveries without detours, commits of exactly what is finished,
partitions that are paused alone, and a way to leave the group.

Kept apart from the app, because it leans on the internals of Faust and aiokafka; both versions are pinned
exactly. ``group_member`` is what it knows of the group, ``main_loop_consumer`` where that runs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP

from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.ack_window import Partition
from schemas.runtime.kafka.consume.group_member import GroupMember
from schemas.runtime.kafka.consume.record_lists import list_message
from schemas.runtime.kafka.consume.starts import Starts
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)
_LIST_MAX = 256
"""Records of a list: the agent takes one in a turn of the loop."""
_FETCH_WAIT_S = 1.0


class DirectConsumer(Consumer):
    """Delivers lists of records by awaiting the conductor; commits what the windows say."""

    app: Any
    """A ``WorkerApp``; Faust's own type knows no windows."""
    _thread: GroupMember

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._resumed = asyncio.Event()
        self.starts = Starts(self)

    @property
    def member(self) -> GroupMember:
        """Our place in the group; a thread only by Faust's name for it."""
        return self._thread

    def _new_consumer_thread(self) -> GroupMember:
        return GroupMember(self, loop=self.loop, beacon=self.beacon)

    # Partitions that are paused alone

    def pause_reading(self, partition: Partition) -> None:
        """Fetch no more of the partition; what was fetched is still delivered."""
        self._active_partitions.discard(TP(*partition))
        self._buffered_partitions.add(TP(*partition))

    def hold(self, partition: Partition, cause: str) -> None:
        """Read no more of the partition in this generation of the group, and say why."""
        if self.app.held.get(partition) != cause:
            topic, number = partition
            _LOG.event(LogEvent.PARTITION_HELD, topic=topic, partition=number, cause=cause)
        self.app.held[partition] = cause
        self.pause_reading(partition)

    def release(self, partition: Partition) -> None:
        """Its cause is gone."""
        self.app.held.pop(partition, None)
        self.resume_reading(partition)

    def resume_reading(self, partition: Partition) -> None:
        """Fetch it again, at once: a reader that waits is woken. One that stands still stays so."""
        if partition in self.app.held:
            return
        tp = TP(*partition)
        self._buffered_partitions.discard(tp)
        if tp not in self._paused_partitions:
            self._active_partitions.add(tp)
        self._resumed.set()
        self._thread.wake_reader()

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP]]:  # noqa: ASYNC109  # Faust's name
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = self._get_active_partitions()
        if active:
            return await self._getmany(active_partitions=active, timeout=timeout), active
        # Faust sleeps a second here; a partition that is resumed must not wait for it.
        self._resumed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._resumed.wait(), timeout)
        return {}, active

    # What is committed, and where reading begins

    async def force_commit(self, topics: Any = None, start_new_transaction: Any = True) -> bool:  # noqa: FBT002
        """Commit what every window has finished; the arguments are Faust's and mean nothing here."""
        del topics, start_new_transaction
        generation = self.app.consumer_generation_id
        windows = self.app.windows
        marks = {p: at for w in windows.values() for p, at in w.to_commit().items()}
        versions = {topic: window.versions() for topic, window in windows.items()}
        if not marks:
            return False
        if not await self._thread.commit_positions(marks, generation):
            return False
        self.app.marks.note(marks)
        if generation == self.app.consumer_generation_id:
            for topic, seen in versions.items():
                windows[topic].note_committed(seen)
        return True

    async def perform_seek(self) -> None:
        """Begin each partition above what was processed of it, and tell its window."""
        self._read_offset.clear()
        await self.starts.begin(self._thread.assignment())

    def read_from(self, partition: TP, offset: int) -> None:
        """The partition was sought to the offset: what comes from below it is of another log."""
        self._read_offset[partition] = offset

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit before the partitions go (FS#502).

        A failure costs redeliveries, which are harmless, so it only is logged.
        """
        try:
            await self.commit()
        except Exception as defect:  # noqa: BLE001  # Faust's driver raises anything here; the rebalance goes on
            _LOG.event(LogEvent.COMMIT_FAILED, defect=defect)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Every partition that comes is read, until its window says otherwise."""
        self._buffered_partitions.clear()
        self.app.held.clear()
        self.starts.waiting.clear()
        self.starts.ends.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def verify_all_partitions_active(self) -> None:
        """Faust's own look for what is stuck; ours is the watchdog, which knows what is paused."""

    async def leave_group(self) -> bool:
        """Hand the partitions to the other members at once; False when there is none."""
        return await self._thread.leave()

    @property
    def has_coordinator(self) -> bool:
        """Whether the broker that coordinates the group answers."""
        return self._thread.has_coordinator

    # Delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and deliver until stopped.

        Faust delivers each record through conductor, stream and agent, which costs more than all that is
        done with it. Here that way is taken by lists of records, as they were fetched. A list that a
        rebalance overtakes ends in the stream, which skips events of older generations; the read offset of
        the new generation is left alone.
        """
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)
                await self._deliver_fetched()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _deliver_fetched(self) -> None:
        records, _ = await self._wait_next_records(_FETCH_WAIT_S)
        if not self.flow_active:
            await self._seek_back()
            return
        generation = self.app.consumer_generation_id
        for fetched in self._lists(records):
            if self.suspend_flow.is_set() or generation != self.app.consumer_generation_id:
                return
            await self.callback(list_message(fetched, generation))

    async def _seek_back(self) -> None:
        """What was just fetched is dropped, maybe after its partition was begun: begin it again."""
        try:
            await self.perform_seek()
        except KafkaError as error:
            # The rebalance that stopped the flow begins every partition.
            _LOG.event(LogEvent.ROUND_WAITS, step="seek back", error=error)

    def _lists(self, records: Any) -> list[list[Any]]:
        """What may be taken, by topic; its partitions take turns."""
        open_lists: dict[str, list[Any]] = {}
        lists: list[list[Any]] = []
        for partition, record in self.scheduler.iterate(records):
            if not self._may_take(partition, record.offset):
                continue
            found = open_lists.get(partition.topic)
            if found is None or len(found) == _LIST_MAX:
                found = open_lists[partition.topic] = []
                lists.append(found)
            found.append(record)
        return lists

    def _may_take(self, partition: TP, offset: int) -> bool:
        """Whether the record is of the log that is read; its partition then was read up to it."""
        if partition in self.starts.waiting:
            return False
        read = self._read_offset[partition]
        if read is not None and offset < read:
            self.starts.waiting.add(partition)
            self.hold(partition, f"offset {offset} came after {read}: the log was made anew")
            return False
        self._read_offset[partition] = offset
        return True


class DirectTransport(Transport):
    """aiokafka through the consumer above."""

    Consumer = DirectConsumer
