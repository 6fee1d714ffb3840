"""Asks the log whether a record is the first of its request, where the ledger may have forgotten that.

Only a record appended more than a quarter of an hour after its deadline is asked for, so a whole reading
of the partition since the request was made is affordable; it ends only when it is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from accounting.booking import entry_of
from schemas.codec import MalformedRecord, decode, decode_as
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.failures import Transient
from schemas.ids import made_at_ms
from schemas.runtime.kafka.free_consumer import free_consumer
from schemas.topics import MAX_RECORD_BYTES, OUTCOMES

_SKEW_MS = 15 * 60_000
"""Ids carry the clock of an ingress, records that of a broker."""
_POLL_MS = 200
_RECORDS_PER_POLL = 500


class AskedRow(Protocol):
    """A row of which it is asked whether it is the first of its request and reference."""

    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def req(self) -> str: ...  # noqa: D102
    @property
    def ref(self) -> str | None: ...  # noqa: D102


class Earlier(NamedTuple):
    """The outcome of a request that was booked, and where it stands."""

    outcome: RequestFinished
    place: RecordRef


class LogUnreadable(Transient):
    """The broker did not answer."""


def copies_among(rows: Sequence[AskedRow], read: Iterable[ConsumerRecord]) -> set[int]:
    """Offsets of the rows of which a record that was read is an earlier one. Pure."""
    wanted: dict[tuple[str, str | None], list[int]] = {}
    for row in rows:
        wanted.setdefault((row.req, row.ref), []).append(row.offset)
    ids = {row.req for row in rows}
    copies: set[int] = set()
    for record in read:
        named = dict(record.headers).get("request_id")
        if named is None or named.decode("ascii", "replace") in ids:
            found = _identity(record)
            copies |= {offset for offset in wanted.get(found, ()) if offset > record.offset}
    return copies


def first_among(row: AskedRow, read: Iterable[ConsumerRecord]) -> Earlier | None:
    """The first outcome of the row's request among the records, if it stands before the row. Pure."""
    for record in read:
        if record.offset < row.offset and _identity(record) == (row.req, None):
            place = RecordRef(topic=OUTCOMES, partition=record.partition, offset=record.offset)
            return Earlier(decode_as(record.value, RequestFinished), place)
    return None


def _identity(record: ConsumerRecord) -> tuple[str, str | None]:
    """Request and reference of the outcome; empty for what is none."""
    try:
        event = decode(record.value)
    except MalformedRecord:
        return "", None
    if not isinstance(event, RequestFinished | AttemptAdjusted):
        return "", None
    ref = RecordRef(topic=OUTCOMES, partition=record.partition, offset=record.offset)
    row = entry_of(event, ref, record.timestamp).row
    return row.req, row.ref


@dataclass(frozen=True, slots=True)
class EarlierRecords:
    """Reads the outcomes topic outside of any group."""

    brokers: str

    async def first_of(self, partition: int, row: AskedRow) -> Earlier | None:
        """The outcome of its request that stands before the row; ``None`` when the log keeps none.

        Raises ``LogUnreadable``.
        """
        since_ms = max(0, made_at_ms(row.req) - _SKEW_MS)
        try:
            async for batch in self._read(
                TopicPartition(OUTCOMES, partition), since_ms, row.offset
            ):
                if (found := first_among(row, batch)) is not None:
                    return found
        except KafkaError as error:
            raise LogUnreadable(f"{OUTCOMES}-{partition}: {error!r}") from error
        return None

    async def copies(self, partition: int, rows: Sequence[AskedRow]) -> set[int]:
        """Offsets of rows that are not the first of their request and reference.

        What the log keeps no more cannot be found; then nothing is left that could have booked it twice.
        Raises ``LogUnreadable``.
        """
        since_ms = max(0, min(made_at_ms(row.req) for row in rows) - _SKEW_MS)
        end = max(row.offset for row in rows)
        copies: set[int] = set()
        try:
            async for batch in self._read(TopicPartition(OUTCOMES, partition), since_ms, end):
                copies |= copies_among(rows, batch)
        except KafkaError as error:
            raise LogUnreadable(f"{OUTCOMES}-{partition}: {error!r}") from error
        return copies

    async def _read(
        self, partition: TopicPartition, since_ms: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        async with free_consumer(self.brokers, MAX_RECORD_BYTES) as consumer:
            consumer.assign([partition])
            first = (await consumer.offsets_for_times({partition: since_ms}))[partition]
            if first is None:
                return
            consumer.seek(partition, first.offset)
            while await consumer.position(partition) < end:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_PER_POLL)
                yield found.get(partition, [])
                await asyncio.sleep(0)
