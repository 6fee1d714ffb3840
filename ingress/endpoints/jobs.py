"""Jobs: requests that are answered at once with a promise, and fetched later.

The promise is given only after the log has the request. One job is told from the request's traces, with
its result; a list is one reading of the ledger. Jobs of other organizations look like none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingress.auth.api_key import Caller
from ingress.http.paths import job_path
from ingress.http.refusals import Headers, Refusal
from ingress.http.responses import limit_headers, refusal_response, refuse, respond
from ingress.requests.claims import Acquired, ClaimRequest, Existing
from ingress.requests.intake import Entered, Intake
from ingress.requests.job_document import QUEUED, JobFacts, job_document, listed_job, read_facts
from ingress.requests.lookup import Indeterminate, Open, RequestState
from ingress.requests.validation import ValidatedRequest, Way, event_of, validate
from schemas.errors import ErrorCode
from schemas.ids import uuid7_time_ms
from schemas.ledger import documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import JOBS

_RETRY_AFTER: Final = b"2"
_LIMIT_DEFAULT: Final = 20
_LIMIT_MAX: Final = 100


async def respond_queued(send: Send, job_id: str, facts: JobFacts, more: Headers) -> None:
    """202: the request runs as a job, found at ``Location``."""
    headers = [
        (b"location", job_path(job_id).encode()),
        (b"retry-after", _RETRY_AFTER),
        *more,
    ]
    body = msgspec.json.encode(job_document(job_id, facts, QUEUED))
    await respond(send, 202, b"application/json", body, headers)


class JobSubmission:
    """``POST /v1/jobs``, as an ASGI application."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state = scope["state"]
        entered = self._intake.enter(scope, is_background=True)
        if isinstance(entered, Refusal):
            refusal: Refusal | None = entered
        else:
            refusal = await self._take_and_submit(state, entered, receive, send)
        if refusal is not None:
            await refuse(send, refusal, JOBS.surface, state["request_id"], limit_headers(refusal))

    async def _take_and_submit(
        self, state: dict[str, Any], entered: Entered, receive: Receive, send: Send
    ) -> Refusal | None:
        try:
            taken = await validate(self._intake, JOBS, entered, receive)
            if isinstance(taken, ValidatedRequest):
                return await self._submit(state, taken, send)
        finally:
            self._intake.leave(entered)
        return taken

    async def _submit(
        self, state: dict[str, Any], taken: ValidatedRequest, send: Send
    ) -> Refusal | None:
        """Answer a job that was taken; what comes back is to be refused."""
        standing: Acquired | Existing | Refusal = Acquired(state["request_id"], taken.deadline_ms)
        if taken.key is not None:
            wish = ClaimRequest(taken.caller.org, taken.key, state["request_id"], taken.deadline_ms)
            standing = await self._intake.claims.claim(wish)
        if isinstance(standing, Refusal):
            return standing
        state["request_id"] = standing.request_id
        facts = JobFacts(taken.parsed.model, standing.deadline_ms)
        if isinstance(standing, Existing):
            replayed = [(b"idempotent-replayed", b"true")]
            await respond_queued(send, standing.request_id, facts, replayed)
            return None
        now_ms = self._intake.clock.now_ms()
        taken = replace(taken, deadline_ms=standing.deadline_ms, received_at_ms=now_ms)
        way = Way(reply_to=None, keep_result=True)
        event, headers = event_of(self._intake, JOBS.name, standing.request_id, taken, way)
        refusal = await self._intake.publisher.place_job(event, headers)
        if refusal is None:
            await respond_queued(send, standing.request_id, facts, [])
        return refusal


class JobRoutes:
    """The jobs of the caller's organization."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def show(self, request: Request) -> Response:
        """One job, with its result or error once it has ended."""
        return await self._answer(request, is_cancelled=False)

    async def cancel(self, request: Request) -> Response:
        """Cancel a job; the answer is what it is now, which of a running one is still running."""
        return await self._answer(request, is_cancelled=True)

    async def list_all(self, request: Request) -> Response:
        """A page of jobs without their results, newest first."""
        caller = self._intake.caller_now(dict(request.scope["headers"]))
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        page = _page(request, caller)
        if isinstance(page, Refusal):
            return refusal_response(request, page)
        try:
            listed = await self._intake.ledger.jobs(page)
        except LedgerUnavailable:
            return refusal_response(request, _away())
        now_ms = self._intake.clock.now_ms()
        jobs = [job for entry in listed.entries if (job := listed_job(entry, now_ms)) is not None]
        return _json({"object": "list", "data": jobs, "has_more": listed.more})

    async def _answer(self, request: Request, *, is_cancelled: bool) -> Response:
        caller = self._intake.caller_now(dict(request.scope["headers"]))
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        job_id = request.path_params["job_id"]
        try:
            facts = await self._facts(caller, job_id)
            if facts is None:
                refusal = Refusal(ErrorCode.NOT_FOUND, "There is no such job.")
                return refusal_response(request, refusal)
            if is_cancelled:
                cancel = self._intake.cancellations.cancel
                await cancel(caller.org, job_id, facts.deadline_ms)
            memory = await self._intake.lookup.find(caller.org, job_id, facts.deadline_ms)
        except LedgerUnavailable:
            return refusal_response(request, _away())
        return _job_response(request, job_id, facts, memory)

    async def _facts(self, caller: Caller, job_id: str) -> JobFacts | None:
        """What is kept of a job; ``None`` when the organization has none of this id."""
        if not _is_uuid7(job_id):
            return None
        known = await self._intake.ledger.look(documents.Look(org=caller.org, req=job_id))
        return None if known.job is None else read_facts(known.job)


def _job_response(request: Request, job_id: str, facts: JobFacts, memory: RequestState) -> Response:
    if isinstance(memory, Indeterminate):
        return refusal_response(request, _away())
    response = _json(job_document(job_id, facts, memory))
    if isinstance(memory, Open):
        response.headers["retry-after"] = _RETRY_AFTER.decode()
    return response


def _json(fields: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(fields), media_type="application/json")


def _page(request: Request, caller: Caller) -> documents.ListJobs | Refusal:
    """The page that the query asks for."""
    limit, after = request.query_params.get("limit"), request.query_params.get("after")
    wanted = _LIMIT_DEFAULT
    if limit is not None:
        wanted = int(limit) if limit.isascii() and limit.isdigit() and len(limit) <= 3 else 0  # noqa: PLR2004
        if not 1 <= wanted <= _LIMIT_MAX:
            message = f"limit must be an integer from 1 to {_LIMIT_MAX}."
            return Refusal(ErrorCode.INVALID_REQUEST, message, param="limit")
    if after is not None and not _is_uuid7(after):
        message = "after must be the id of a job."
        return Refusal(ErrorCode.INVALID_REQUEST, message, param="after")
    return documents.ListJobs(org=caller.org, limit=wanted, after=after)


def _is_uuid7(text: str) -> bool:
    try:
        uuid7_time_ms(text)
    except ValueError:
        return False
    return True


def _away() -> Refusal:
    return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "What became of it cannot be told now.")
