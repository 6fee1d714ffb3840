"""``/admin/v1/audit``: refusals, deferrals and administrative writes, newest first."""

from __future__ import annotations

import heapq
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import msgspec
from aiokafka import TopicPartition
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import instant, number, organization
from ingress.admin.http.presence import while_present
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.search import Bounds, search_log
from schemas.audit import is_about
from schemas.codec import UNDECODABLE, decode_as
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded
from schemas.ids import uuid7_time_ms
from schemas.partitions import partition_of
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.topics import AUDIT

_PARAMETERS = {"org", "request_id", "from", "to", "limit"}
_DEFAULT_SPAN_MS = 24 * 3_600_000
_CLOCK_SKEW_MS = 2_000
_LATENESS_MS = 3_600_000
"""Events are appended this much after they happened at most: while Kafka is away they wait."""
_DEFAULT_LIMIT = 100
_LIMIT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which events: of whom, of which request, in which time (Unix milliseconds), how many."""

    from_ms: int
    to_ms: int
    limit: int
    org: str | None = None
    request_id: str | None = None

    def wants(self, event: AuditRecorded) -> bool:
        """Whether the event is asked for; a record may be appended later than it happened."""
        return (
            self.from_ms <= event.at_ms < self.to_ms
            and self.org in (None, event.org)
            and (self.request_id is None or is_about(event, self.request_id))
        )


class Newest:
    """Keeps the newest events, each once, however often it was written."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[int, str, AuditRecorded]] = []
        self._kept: set[str] = set()

    def add(self, event: AuditRecorded) -> None:
        """Take the event in; the oldest makes room for it."""
        if event.audit_id in self._kept:
            return
        self._kept.add(event.audit_id)
        heapq.heappush(self._heap, (event.at_ms, event.audit_id, event))
        if len(self._heap) > self._limit:
            self._kept.discard(heapq.heappop(self._heap)[1])

    def events(self) -> list[AuditRecorded]:
        """The events, newest first."""
        return [event for _, _, event in sorted(self._heap, reverse=True)]


def parse_query(params: QueryParams, now_ms: int) -> AuditQuery | Refusal:
    """The query in the URL; the default is the last 24 hours, or since the request was made."""
    unknown = set(params) - _PARAMETERS
    if unknown:
        return _invalid(f"unknown parameters: {', '.join(sorted(unknown))}")
    limit = number(params.get("limit", str(_DEFAULT_LIMIT)), "limit", 1, _LIMIT_MAX)
    if isinstance(limit, Refusal):
        return limit
    org = organization(params)
    if isinstance(org, Refusal):
        return org
    request_id = params.get("request_id")
    to_ms = _time_ms(params, "to", now_ms + _CLOCK_SKEW_MS)
    if isinstance(to_ms, Refusal):
        return to_ms
    try:
        made_ms = None if request_id is None else uuid7_time_ms(request_id) - _CLOCK_SKEW_MS
    except ValueError:
        return _invalid("'request_id' is the UUIDv7 in the x-request-id header of an answer")
    from_ms = _time_ms(params, "from", made_ms or to_ms - _DEFAULT_SPAN_MS)
    if isinstance(from_ms, Refusal):
        return from_ms
    if from_ms >= to_ms:
        return _invalid("'to' must be after 'from'")
    return AuditQuery(from_ms, to_ms, limit, org, request_id)


class AuditShown(TypedDict):
    """An audit event; `detail` has the facts of its action."""

    audit_id: str
    org: str
    action: str
    actor: str
    request_id: str | None
    at_ms: int
    detail: Any


class SearchShown(TypedDict):
    """How many records were read, and why no further, where the end was not reached."""

    records: int
    gave_up: str | None


class AuditAnswer(TypedDict):
    """The newest events, the query as it was understood, and how complete the search was."""

    items: list[AuditShown]
    query: AuditQuery
    search: SearchShown


def view(event: AuditRecorded) -> AuditShown:
    """The event with its detail as JSON, not as text."""
    try:
        detail = msgspec.json.decode(event.detail)
    except (msgspec.DecodeError, RecursionError):
        detail = event.detail
    return {
        "audit_id": event.audit_id,
        "org": event.org,
        "action": event.action,
        "actor": event.actor,
        "request_id": event.request_id,
        "at_ms": event.at_ms,
        "detail": detail,
    }


def _time_ms(params: QueryParams, name: str, default: int) -> int | Refusal:
    if name not in params:
        return default
    moment = instant(params[name])
    return moment if isinstance(moment, Refusal) else int(moment.timestamp() * 1_000)


def _invalid(detail: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, detail)


@dataclass(frozen=True, slots=True)
class AuditRoutes:
    """The handler of audit look-ups."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/audit", self.find, methods=["GET"])]

    async def find(self, request: Request) -> Response:
        """The newest events that the query asks for, and whether the search got to its end."""
        query = parse_query(request.query_params, self.deps.clock.now_ms())
        if isinstance(query, Refusal):
            return problem_response(query)
        return await while_present(request, self._answer(query))

    async def _answer(self, query: AuditQuery) -> Response:
        newest = Newest(query.limit)
        partitions = await self._partitions(query.org)
        brokers, clock = self.deps.settings.kafka_brokers, self.deps.clock
        span_ms = clock.appended_span_ms(query.from_ms, query.to_ms + _LATENESS_MS)
        async with search_log(brokers, partitions, span_ms, clock, Bounds()) as search:
            async for batch in search.batches():
                for record in batch:
                    event = _event(record.value)
                    if event is not None and query.wants(event):
                        newest.add(event)
        return JSONResponse(
            {
                "items": [view(event) for event in newest.events()],
                "query": asdict(query),
                "search": {"records": search.records, "gave_up": search.gave_up},
            }
        )

    async def _partitions(self, org: str | None) -> list[TopicPartition]:
        states = await list_topics(self.deps.settings.kafka_brokers)
        count = next((state.partitions for state in states if state.name == AUDIT), 0)
        if org is not None and count:
            return [TopicPartition(AUDIT, partition_of(org.encode(), count))]
        return [TopicPartition(AUDIT, number) for number in range(count)]


def _event(value: bytes | None) -> AuditRecorded | None:
    try:
        return decode_as(value, AuditRecorded)
    except UNDECODABLE:
        return None
