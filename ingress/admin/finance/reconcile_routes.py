"""``/admin/v1/reconcile``: which requests do not fit between log, usage lines and ledger, by their ids."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.finance.ledger_tables import (
    attempt_fields,
    find_tables,
    list_unbooked,
    read_tables,
    steps,
)
from ingress.admin.finance.reconcile import (
    HARMLESS,
    Finding,
    Reading,
    Span,
    Standing,
    judge,
    summary,
)
from ingress.admin.finance.verify import balance_differences
from ingress.admin.http.bodies import instant
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.search import Bounds, search_log
from schemas.codec import UNDECODABLE, decode
from schemas.errors import ErrorCode
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished, UsageRecorded
from schemas.ledger import keys
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.runtime.valkey.cold_store import ColdStore, open_cold_store
from schemas.topics import OUTCOMES, USAGE_RECORDS

_PARAMETERS: Final = {"from", "to"}
_DEFAULT_SPAN: Final = timedelta(hours=1)
_BOUNDS: Final = Bounds(deadline_s=40.0, records_max=200_000)
_EARLIER_MS: Final = 15 * 60_000
"""So much earlier reading begins, for what is appended late and for clocks that differ."""
_LISTED_MAX: Final = 1_000
_ATTEMPTS_PER_STEP: Final = 100
_BALANCES_WITHIN_S: Final = 5.0
_PAUSE_S: Final = 0.25
_NO_HOURS: Final = "9999"


@dataclass(frozen=True, slots=True)
class ReconcileRoutes:
    """The handler of reconciliation."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/reconcile", self.reconcile, methods=["GET"])]

    async def reconcile(self, request: Request) -> Response:
        """Everything that does not fit among what was appended in a time; the default is the last hour."""
        now_ms = self.deps.clock.now_ms()
        span = parse_span(request.query_params, now_ms)
        if isinstance(span, Refusal):
            return problem_response(span)
        reading = Reading(span)
        gave_up = {OUTCOMES: await self._read(OUTCOMES, reading)}
        # What is processed has its lines in the log, so it is asked for before these are read.
        async with open_cold_store(self.deps.settings.ledger_url) as store:
            processed = await _processed(store, reading)
        gave_up[USAGE_RECORDS] = await self._read(USAGE_RECORDS, reading)
        reading.is_complete = not any(gave_up.values())
        async with open_cold_store(self.deps.settings.ledger_url) as store:
            findings, waiting = judge(reading, processed, await _known(store, reading))
            findings += await self._balances(store)
            unbooked = await list_unbooked(store, min(now_ms, span.end), _LISTED_MAX)
        findings += [
            Finding("settled_not_booked", e.org, e.req, e.req, f"finished at {e.finished_ms}")
            for e in unbooked
            if e.finished_ms in span
        ]
        counted = [finding for finding in findings if finding.kind not in HARMLESS]
        return JSONResponse(
            {
                "from": _time(span.start),
                "to": _time(span.end),
                "gave_up": {topic: why for topic, why in gave_up.items() if why},
                "outcomes": len(reading.outcomes),
                "usage_lines": len(reading.lines),
                "waiting": waiting,
                "difference": len(counted),
                "kinds": summary(findings),
                "findings": [asdict(finding) for finding in findings[:_LISTED_MAX]],
                "findings_total": len(findings),
            }
        )

    async def _read(self, topic: str, reading: Reading) -> str | None:
        """Read the topic from the span's begin; why it was not read to its end, if it was not.

        Lines come later than their outcomes, so both are read to what is the end now.
        """
        brokers = self.deps.settings.kafka_brokers
        partitions = [
            TopicPartition(topic, number)
            for state in await list_topics(brokers)
            if state.name == topic
            for number in range(state.partitions)
        ]
        until_ms = 2**53
        span_ms = reading.span.read_from, until_ms
        async with search_log(brokers, partitions, span_ms, self.deps.clock, _BOUNDS) as search:
            async for batch in search.batches():
                for record in batch:
                    take_in(reading, record)
        return search.gave_up

    async def _balances(self, store: ColdStore) -> list[Finding]:
        """Balances whose fields nothing speaks for; read again for a while, since accounting is behind."""
        clock = self.deps.clock
        give_up_s = clock.monotonic_s() + _BALANCES_WITHIN_S
        while True:
            tables = await read_tables(store, await find_tables(store, _NO_HOURS))
            differences = balance_differences(tables)
            if not differences or clock.monotonic_s() >= give_up_s:
                break
            await asyncio.sleep(_PAUSE_S)
        return [
            Finding(
                "balance_differs",
                d.org,
                None,
                f"{d.what} {d.field}",
                f"the balance says {d.ledger}, what speaks for it {d.log}",
            )
            for d in differences
        ]


async def _processed(store: ColdStore, reading: Reading) -> dict[int, int]:
    """How far accounting is in each partition of the outcomes that were read."""
    done: dict[int, int] = {}
    for number in sorted({outcome.place[0] for outcome in reading.outcomes.values()}):
        offset = await store.hget(keys.processed(OUTCOMES, number), "offset")
        if offset is not None:
            done[number] = int(offset)
    return done


async def _known(store: ColdStore, reading: Reading) -> dict[str, Standing]:
    wanted = [(o.org, o.request_id) for o in reading.outcomes.values() if not o.is_correction]
    known: dict[str, Standing] = {}
    for asked in steps(wanted, _ATTEMPTS_PER_STEP):
        found = await attempt_fields(store, asked, ("state", "booked"))
        for (_, request_id), (state, booked) in zip(asked, found, strict=True):
            known[request_id] = Standing((state or b"").decode(), (booked or b"").decode())
    return known


def parse_span(params: QueryParams, now_ms: int) -> Span | Refusal:
    """The span in the URL."""
    unknown = set(params) - _PARAMETERS
    if unknown:
        detail = f"unknown parameters: {', '.join(sorted(unknown))}"
        return Refusal(ErrorCode.INVALID_REQUEST, detail)
    end = instant(params["to"]) if "to" in params else datetime.fromtimestamp(now_ms / 1_000, UTC)
    if isinstance(end, Refusal):
        return end
    start = instant(params["from"]) if "from" in params else end - _DEFAULT_SPAN
    if isinstance(start, Refusal):
        return start
    if start >= end:
        return Refusal(ErrorCode.INVALID_REQUEST, "'to' must be after 'from'")
    start_ms, end_ms = int(start.timestamp() * 1_000), int(end.timestamp() * 1_000) + 1
    return Span(start_ms, end_ms, max(0, start_ms - _EARLIER_MS))


def take_in(reading: Reading, record: ConsumerRecord) -> None:
    """Add what the record says; one that says nothing of this is left out."""
    try:
        event: Any = decode(record.value)
    except UNDECODABLE:
        return
    match event:
        case RequestFinished() | AttemptAdjusted():
            ref = RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)
            reading.add_outcome(event, ref, record.timestamp)
        case UsageRecorded():
            reading.add_line(event, record.timestamp, record.value)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()
