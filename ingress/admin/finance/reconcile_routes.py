"""``/admin/v1/reconcile``: which requests do not fit between log, usage lines and ledger, by their ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.finance.reconcile import Span
from ingress.admin.finance.reconciliation import ReconcileJob
from ingress.admin.http.bodies import span_of
from ingress.admin.http.presence import while_present
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.scans import Scans
from schemas.errors import ErrorCode

KIND: Final = "reconcile"
_PARAMETERS: Final = {"from", "to"}
_DEFAULT_SPAN: Final = timedelta(hours=1)
_EARLIER_MS: Final = 15 * 60_000
"""So much earlier reading begins, for what is appended late and for clocks that differ."""
_WITHIN_S: Final = 110.0


@dataclass(frozen=True, slots=True)
class ReconcileRoutes:
    """The handler of reconciliation."""

    deps: AdminDeps
    scans: Scans

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/reconcile", self.reconcile, methods=["GET"])]

    async def reconcile(self, request: Request) -> Response:
        """Everything that does not fit among what was appended in a time; the default is the last hour."""
        now_ms = self.deps.clock.now_ms()
        span = parse_span(request.query_params, now_ms)
        if isinstance(span, Refusal):
            return problem_response(span)
        return await while_present(request, self._answer(span, now_ms))

    async def _answer(self, span: Span, now_ms: int) -> Response:
        settings, clock = self.deps.settings, self.deps.clock
        job = ReconcileJob(
            brokers=settings.kafka_brokers,
            ledger_url=settings.ledger_url,
            shards=self.deps.shards.count,
            now_ms=now_ms,
            start_ms=span.start,
            end_ms=span.end,
            read_from_ms=span.read_from,
            from_ms=clock.appended_span_ms(span.read_from, now_ms)[0],
        )
        return JSONResponse(await self.scans.run(KIND, job, _WITHIN_S))


def parse_span(params: QueryParams, now_ms: int) -> Span | Refusal:
    """The span in the URL."""
    unknown = set(params) - _PARAMETERS
    if unknown:
        detail = f"unknown parameters: {', '.join(sorted(unknown))}"
        return Refusal(ErrorCode.INVALID_REQUEST, detail)
    span = span_of(params, now_ms, _DEFAULT_SPAN)
    if isinstance(span, Refusal):
        return span
    start, end = span
    if start >= end:
        return Refusal(ErrorCode.INVALID_REQUEST, "'to' must be after 'from'")
    start_ms, end_ms = int(start.timestamp() * 1_000), int(end.timestamp() * 1_000) + 1
    return Span(start_ms, end_ms, max(0, start_ms - _EARLIER_MS))
