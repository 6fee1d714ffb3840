"""``/admin/v1/requests/{id}``: why a request ended as it did, told by its own records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import organization
from ingress.admin.http.presence import while_present
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.request_search import RequestRecords, find_request
from schemas.errors import ERRORS, ErrorCode
from schemas.ids import uuid7_time_ms
from schemas.timeline import (
    Step,
    assemble,
    effective_outcome,
    refused_before_the_log,
    trace_of,
)

_ANSWER_DEADLINE_S = 25.0


class TimelineSearch(TypedDict):
    """Which time was searched, and how completely."""

    records: int
    from_ms: int
    until_ms: int
    gave_up: str | None


class TraceShown(TypedDict):
    """The trace of a request, and whether its spans are recorded."""

    trace_id: str
    is_recorded: bool


class Timeline(TypedDict):
    """What became of a request, by its own records; `status` is `open` while it has no end."""

    request_id: str
    org: str | None
    status: str
    http_status: int | None
    error_code: str | None
    trace: TraceShown | None
    steps: list[Step]
    search: TimelineSearch


@dataclass(frozen=True, slots=True)
class RequestRoutes:
    """The handler of timelines."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/requests/{id}", self.show, methods=["GET"])]

    async def show(self, request: Request) -> Response:
        """The timeline; ``?org=`` makes the search shorter, ``?payload=true`` shows texts."""
        request_id = request.path_params["id"].lower()
        org = organization(request.query_params)
        if isinstance(org, Refusal):
            return problem_response(org)
        try:
            made_at_ms = uuid7_time_ms(request_id)
            # In the form in which it stands in records.
            request_id = str(UUID(request_id))
        except ValueError:
            detail = "a request's id is the UUIDv7 in the x-request-id header of its answer"
            return problem_response(Refusal(ErrorCode.INVALID_REQUEST, detail))
        with_payload = request.query_params.get("payload") == "true"
        work = self._answer(request_id, made_at_ms, org, with_payload=with_payload)
        return await while_present(request, work)

    async def _answer(
        self, request_id: str, made_at_ms: int, org: str | None, *, with_payload: bool
    ) -> Response:
        async with asyncio.timeout(_ANSWER_DEADLINE_S):
            records = await find_request(self.deps, request_id, made_at_ms, org)
        if not records.found:
            return problem_response(_nothing(request_id, records))
        return JSONResponse(timeline_body(request_id, records, with_payload=with_payload))


def timeline_body(
    request_id: str, records: RequestRecords, *, with_payload: bool
) -> dict[str, Any]:
    """The answer: what became of the request, its steps, and how complete the search was."""
    steps = assemble(records.found, with_payload=with_payload)
    outcome = effective_outcome(steps)
    ended = _refused_at_the_door(steps) if outcome is None else outcome.facts
    return {
        "request_id": request_id,
        "org": next((org for f in records.found if (org := getattr(f.event, "org", None))), None),
        "status": ended.get("status", "open"),
        "http_status": ended.get("http_status"),
        "error_code": ended.get("error_code"),
        "trace": trace_of(records.found),
        "steps": [asdict(step) for step in steps],
        "search": {
            "records": records.records,
            "from_ms": records.from_ms,
            "until_ms": records.until_ms,
            "gave_up": records.gave_up,
        },
    }


def _refused_at_the_door(steps: Sequence[Step]) -> dict[str, Any]:
    code = refused_before_the_log(steps)
    if code is None:
        return {}
    known = ERRORS.get(code)  # type: ignore[call-overload]  # any text may be asked for
    status = known.status if known is not None else None
    return {"status": "refused", "http_status": status, "error_code": code}


def _nothing(request_id: str, records: RequestRecords) -> Refusal:
    detail = f"no record of {request_id} among {records.records} of its time"
    if records.gave_up is not None:
        detail += "; the search gave up before the end, so name the organization with ?org="
    return Refusal(ErrorCode.NOT_FOUND, detail)
