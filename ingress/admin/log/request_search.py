"""Finds every record of one request, by the time inside its id: there is no index to keep.

Org-keyed topics are read in the organization's partition only; when it is not known, in all of them
until the request itself names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.deps import AdminDeps
from ingress.admin.log.search import Bounds, LogSearch, search_log
from ingress.admin.log.timeline import Found
from schemas.audit import is_about
from schemas.codec import UNDECODABLE, decode
from schemas.events import AuditRecorded, RecordRef, RequestAccepted
from schemas.runtime.kafka.produce import partition_of
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.topics import TOPICS

_CLOCK_SKEW_MS = 2_000
_DEADLINE_MAX_MS = 600_000
_AFTERMATH_MS = 15 * 60_000
"""Outcomes of attempts that nobody finished, and their corrections, come this much later at most."""


@dataclass(frozen=True, slots=True)
class RequestRecords:
    """What was found of a request, how far was looked, and why not further."""

    found: list[Found]
    records: int
    from_ms: int
    until_ms: int
    gave_up: str | None


async def find_request(
    deps: AdminDeps, request_id: str, made_at_ms: int, org: str | None
) -> RequestRecords:
    """All records of the request that was made at that time. Raises ``KafkaError`` without Kafka."""
    brokers = deps.settings.kafka_brokers
    counts = {state.name: state.partitions for state in await list_topics(brokers)}
    partitions = partitions_of(request_id, org, counts)
    span_ms = made_at_ms - _CLOCK_SKEW_MS, made_at_ms + _DEADLINE_MAX_MS + _AFTERMATH_MS
    found: list[Found] = []
    async with search_log(brokers, partitions, span_ms, deps.clock, Bounds()) as search:
        async for batch in search.batches():
            news = [f for record in batch if (f := found_in(record, request_id)) is not None]
            found += news
            for one in news:
                if isinstance(one.event, RequestAccepted):
                    _narrow(search, one.event, counts)
    return RequestRecords(found, search.records, search.from_ms, search.until_ms, search.gave_up)


def partitions_of(
    request_id: str, org: str | None, counts: Mapping[str, int]
) -> set[TopicPartition]:
    """The partitions in which records of the request can stand; ``counts`` is by topic."""
    keys = {"request_id": request_id, "org_id": org}
    partitions: set[TopicPartition] = set()
    for topic in TOPICS:
        count = counts.get(topic.name, 0)
        if topic.key not in keys or count == 0 or not topic.holds_events:
            continue
        key = keys[topic.key]
        numbers = range(count) if key is None else [partition_of(key.encode(), count)]
        partitions |= {TopicPartition(topic.name, number) for number in numbers}
    return partitions


def found_in(record: ConsumerRecord, request_id: str) -> Found | None:
    """The event in the record, if it is about the request."""
    # Ids stand in Avro as their own bytes, so most records need not be decoded.
    if record.value is None or request_id.encode() not in record.value:
        return None
    try:
        event = decode(record.value)
    except UNDECODABLE:
        return None
    if isinstance(event, AuditRecorded):
        is_wanted = is_about(event, request_id)
    else:
        is_wanted = getattr(event, "request_id", None) == request_id
    if not is_wanted:
        return None
    ref = RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)
    return Found(ref, record.timestamp, event)


def _narrow(search: LogSearch, accepted: RequestAccepted, counts: Mapping[str, int]) -> None:
    """The request says who pays and when it is over, which spares the search the rest."""
    search.end_at(accepted.deadline_ms + _AFTERMATH_MS)
    wanted = partitions_of(accepted.request_id, accepted.org, counts)
    for partition in search.ends.keys() - wanted:
        search.leave(partition)
