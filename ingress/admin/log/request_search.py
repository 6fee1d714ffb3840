"""Finds every record of one request, by the time inside its id: there is no index to keep.

What is looked for where, T being the time in the id and D the request's deadline, at most ten minutes later:

1. how it came and was decided, in the topics of requests, delays and dispatch, within [T, D]; ingress gives up
   producing and the limiter admitting by then;
2. how it ended, in outcomes, usage lines and audit, within [T, D + 15 min]: so long attempts that nobody finished,
   and corrections, come late at most;
3. what is still owed after that, an outcome that was written after an outage or a usage line for an attempt, in
   the same topics from there to their end.

Two seconds and what is known of the broker's clock are added at both ends. Org-keyed topics are read in the
organization's partition only; while it is not known, in all of them, until the request itself names it.
Each search is bounded in time, records and bytes, and says when it gave up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from ingress.admin.deps import AdminDeps
from ingress.admin.log.search import (
    TO_THE_END_MS,
    Bounds,
    GaveUp,
    LogSearch,
    begin_search,
)
from schemas.events import (
    AuditRecorded,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
    UsageRecorded,
)
from schemas.partitions import partition_of
from schemas.runtime.kafka.free_consumer import free_consumer
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.timeline import Found, found_in
from schemas.times import FULL
from schemas.topics import AUDIT, OUTCOMES, TOPICS, USAGE_RECORDS

_CLOCK_SKEW_MS = 2_000
_AFTERMATH_MS = 15 * 60_000
"""Outcomes of attempts that nobody finished, and their corrections, come this much later at most."""
_ENDINGS: Final = frozenset({OUTCOMES, USAGE_RECORDS, AUDIT})


@dataclass(frozen=True, slots=True)
class RequestRecords:
    """What was found of a request, how far was looked, and why not further."""

    found: list[Found]
    records: int
    from_ms: int
    until_ms: int
    gave_up: GaveUp | None


async def find_request(
    deps: AdminDeps, request_id: str, made_at_ms: int, org: str | None
) -> RequestRecords:
    """All records of the request that was made at that time. Raises ``KafkaError`` without Kafka."""
    brokers = deps.settings.kafka_brokers
    counts = {state.name: state.partitions for state in await list_topics(brokers)}
    async with free_consumer(brokers) as consumer:
        hunt = _Hunt(deps, consumer, counts, request_id, org)
        from_ms, deadline_ms = made_at_ms - _CLOCK_SKEW_MS, made_at_ms + FULL.deadline_max_ms
        beginnings = {topic.name for topic in TOPICS} - _ENDINGS
        await hunt.search(beginnings, (from_ms, deadline_ms), after_deadline_ms=0)
        until_ms = (hunt.deadline_ms or deadline_ms) + _AFTERMATH_MS
        await hunt.search(_ENDINGS, (from_ms, until_ms), after_deadline_ms=_AFTERMATH_MS)
        if hunt.owed:
            late_ms = (hunt.deadline_ms or deadline_ms) + _AFTERMATH_MS
            await hunt.search(hunt.owed, (late_ms, TO_THE_END_MS))
    return RequestRecords(hunt.found, hunt.records, hunt.from_ms, hunt.until_ms, hunt.gave_up)


@dataclass(slots=True)
class _Hunt:
    """One look-up: searches one after another, within bounds that they share."""

    deps: AdminDeps
    consumer: AIOKafkaConsumer
    counts: Mapping[str, int]
    request_id: str
    org: str | None
    deadline_ms: int | None = None
    """Of the request, once it was found."""
    found: list[Found] = field(default_factory=list)
    records: int = 0
    from_ms: int = TO_THE_END_MS
    until_ms: int = 0
    gave_up: GaveUp | None = None
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def owed(self) -> set[str]:
        """Topics that may have more of a request that was found, however late; none once a search gave up."""
        return set() if self.gave_up else owed_by(f.event for f in self.found)

    async def search(
        self,
        topics: Collection[str],
        span_ms: tuple[int, int],
        after_deadline_ms: int | None = None,
    ) -> None:
        """Look through these topics; nothing when an earlier search gave up.

        Once the request is found they are read until so long after its deadline only.
        """
        if self.gave_up:
            return
        wanted = partitions_of(self.request_id, self.org, self.counts)
        partitions = {partition for partition in wanted if partition.topic in topics}
        clock = self.deps.clock
        appended_ms = clock.appended_span_ms(*span_ms)
        search = await begin_search(self.consumer, partitions, appended_ms, clock, self.bounds)
        async for batch in search.batches():
            news = [f for record in batch if (f := found_in(record, self.request_id)) is not None]
            self.found += news
            for one in news:
                self._learn(one, search, after_deadline_ms)
        self.bounds, self.gave_up = search.bounds_left, search.gave_up
        self.records += search.records
        self.from_ms = min(self.from_ms, search.from_ms)
        self.until_ms = max(self.until_ms, search.until_ms)

    def _learn(self, one: Found, search: LogSearch, after_deadline_ms: int | None) -> None:
        """The request says who pays and when it is over, which spares the search the rest."""
        org = getattr(one.event, "org", None)
        if org and not isinstance(one.event, AuditRecorded):
            self.org = org
            for partition in search.ends.keys() - partitions_of(self.request_id, org, self.counts):
                search.leave(partition)
        if isinstance(one.event, RequestAccepted):
            self.deadline_ms = one.event.deadline_ms
            if after_deadline_ms is not None:
                search.end_at(self.deadline_ms + after_deadline_ms)


def owed_by(events: Iterable[object]) -> set[str]:
    """Topics in which a request must have more than these records of it."""
    known = list(events)
    outcomes = [event for event in known if isinstance(event, RequestFinished)]
    lines = {(e.attempt, e.revision) for e in known if isinstance(e, UsageRecorded)}
    if outcomes:
        has_all = all((a.attempt, 0) in lines for a in outcomes[0].attempts)
        return set() if has_all else {USAGE_RECORDS}
    # A line had its outcome, which the log does not keep as long.
    is_open = not lines and any(isinstance(e, RequestAccepted | RequestAdmitted) for e in known)
    return {OUTCOMES, USAGE_RECORDS} if is_open else set()


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
