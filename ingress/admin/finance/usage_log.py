"""Folds the usage log into verification's checkpoint, from where that one ends to what is the end now.

It goes on only where it can be shown that the log is still the one that was folded: the last folded record of
each partition stands where it stood, with its time and content. A topic that was made anew, one that lost
records, and one whose retention passed the checkpoint are told by that, and everything is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from ingress.admin.finance.checkpoint import Checkpoint, Place, digest_of
from ingress.admin.finance.hour_sums import SUMS, sums_of_line, without
from ingress.admin.log.scans import Tell
from schemas.codec import UNDECODABLE, decode_as
from schemas.events import UsageRecorded
from schemas.failures import Transient
from schemas.runtime.kafka.free_consumer import Positions, free_consumer, positions_in
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.topics import USAGE_RECORDS
from schemas.usage import hour_of

_POLL_MS: Final = 200
_RECORDS_PER_POLL: Final = 1_000
_FETCH_BYTES: Final = 1024 * 1024
"""Of all partitions in one answer of the broker; a larger batch comes alone."""
_COMMIT_EVERY: Final = 50_000


class LogReplaced(Transient):
    """What stands in the log is not what was folded; read it anew."""


def doubt(places: Mapping[int, Place], bounds: Mapping[int, Positions]) -> str | None:
    """Why reading cannot go on from these places; ``None`` if nothing speaks against it."""
    if not places:
        return "there was none"
    for number, place in places.items():
        at = bounds.get(number)
        name = f"{USAGE_RECORDS}-{number}"
        if at is None:
            return f"{name} is gone"
        if place.next_offset > at.end:
            return f"{name} ends at {at.end}, before {place.next_offset}: it was made anew or lost records"
        witness_at = place.next_offset - 1
        if at.begin > witness_at:
            return f"{name} begins at {at.begin}: retention passed {witness_at}"
    return None


@dataclass(slots=True)
class UsageLog:
    """The usage topic, all partitions, and the checkpoint it is folded into."""

    consumer: AIOKafkaConsumer
    checkpoint: Checkpoint
    tell: Tell
    _places: dict[int, Place] = field(default_factory=dict)
    """Of partitions of which a record was folded."""
    _unproved: set[int] = field(default_factory=set)
    """Partitions whose next record has to be the last one that was folded."""
    _uncommitted: int = 0
    records: int = 0
    """How many were read since it was opened."""
    _recent: list[UsageRecorded] | None = None
    """Lines that were taken in since ``remember``."""

    def remember(self) -> None:
        """Keep apart what is folded from now on: tables that were read now may not have it yet."""
        self._recent = []

    def sums_until(
        self, org: str, reached: int, hours: Collection[str]
    ) -> dict[str, dict[str, int]]:
        """By hour, what the log has of outcomes up to that offset; of lines folded before ``remember``, all.

        A line is appended after its outcome was booked, so those had been booked by then.
        """
        later: dict[str, Counter[str]] = {}
        for line in self._recent or ():
            if line.org == org and line.outcome.offset > reached:
                sums = dict(zip(SUMS, sums_of_line(line), strict=True))
                later.setdefault(hour_of(line.finished_at_ms), Counter()).update(sums)
        found, nothing = self.checkpoint.sums([org])[org], Counter[str]()
        return {hour: without(found.get(hour, nothing), later.get(hour, nothing)) for hour in hours}

    async def resume(self, brokers: str, from_ms: int, why_anew: str | None) -> str | None:
        """Go to where the checkpoint ends; why it begins anew, if it does.

        A new fold begins at the last record that was appended before ``from_ms``, by the broker's clock.
        """
        bounds = await self._bounds(brokers)
        self._places = self.checkpoint.places
        why_anew = why_anew or doubt(self._places, bounds)
        if why_anew is None:
            # A partition without a place had no record yet.
            starts = {number: at.begin for number, at in bounds.items()}
            starts |= {number: place.next_offset - 1 for number, place in self._places.items()}
        else:
            self.checkpoint.clear()
            self._places = {}
            starts = await self._starts(bounds, from_ms)
        self._unproved = set(self._places)
        self.consumer.assign([TopicPartition(USAGE_RECORDS, number) for number in starts])
        for number, offset in starts.items():
            self.consumer.seek(TopicPartition(USAGE_RECORDS, number), offset)
        return why_anew

    async def fold_to_end(self) -> None:
        """Take in and commit everything up to what is the end now. Raises ``LogReplaced``.

        It goes on for as long as the broker is away; callers set the deadline.
        """
        ends = await self.consumer.end_offsets(list(self.consumer.assignment()))
        total, done = await self._left(ends), 0
        try:
            while left := await self._left(ends):
                done = max(done, total - left)
                self.tell(done, total)
                batches = await self.consumer.getmany(
                    timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL
                )
                for partition, records in batches.items():
                    self._take(partition.partition, records)
                if self._uncommitted >= _COMMIT_EVERY:
                    self._commit()
        except OffsetOutOfRangeError as error:
            raise LogReplaced(f"retention passed what was being read: {error}") from error
        if self._uncommitted:
            self._commit()
        self.tell(total, total)

    async def _left(self, ends: Mapping[TopicPartition, int]) -> int:
        """How many records there are still to be read."""
        positions = {partition: await self.consumer.position(partition) for partition in ends}
        return sum(max(0, end - positions[partition]) for partition, end in ends.items())

    def _take(self, number: int, records: Sequence[ConsumerRecord]) -> None:
        if number in self._unproved:
            self._unproved.discard(number)
            witness, records = records[0], records[1:]
            if _digest(witness) != self._places[number].witness:
                where = f"{USAGE_RECORDS}-{number}@{witness.offset}"
                raise LogReplaced(f"{where} is not the record that was folded there")
        for record in records:
            try:
                line = decode_as(record.value, UsageRecorded)
            except UNDECODABLE:
                self.checkpoint.add_malformed(record.timestamp)
                continue
            if self.checkpoint.add(line) and self._recent is not None:
                self._recent.append(line)
        if records:
            self._places[number] = Place(records[-1].offset + 1, _digest(records[-1]))
            self._uncommitted += len(records)
            self.records += len(records)

    def _commit(self) -> None:
        self.checkpoint.commit(self._places)
        self._uncommitted = 0

    async def _bounds(self, brokers: str) -> dict[int, Positions]:
        counts = {state.name: state.partitions for state in await list_topics(brokers)}
        partitions = [TopicPartition(USAGE_RECORDS, n) for n in range(counts[USAGE_RECORDS])]
        found = await positions_in(self.consumer, partitions)
        return {partition.partition: at for partition, at in found.items()}

    async def _starts(self, bounds: Mapping[int, Positions], from_ms: int) -> dict[int, int]:
        """The last record of each partition before that time: a witness, folded without effect."""
        wanted = {TopicPartition(USAGE_RECORDS, number): max(0, from_ms) for number in bounds}
        found = await self.consumer.offsets_for_times(wanted)
        starts = {}
        for partition, first in found.items():
            at = bounds[partition.partition]
            offset = at.end if first is None else first.offset
            starts[partition.partition] = max(at.begin, offset - 1)
        return starts


def _digest(record: ConsumerRecord) -> bytes:
    return digest_of(record.offset, record.timestamp, record.value)


@asynccontextmanager
async def open_usage_log(
    brokers: str, checkpoint: Checkpoint, tell: Tell
) -> AsyncIterator[UsageLog]:
    """The log; ``resume`` comes first. Raises ``KafkaError`` when no broker answers."""
    async with free_consumer(brokers, fetch_bytes=_FETCH_BYTES, resets=False) as consumer:
        yield UsageLog(consumer, checkpoint, tell)
