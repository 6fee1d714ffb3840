"""Jobs: requests that were answered at once with a promise, and are fetched later.

One job is told from the request's traces, with its result; a list is one reading of the ledger. Jobs of other
organizations look like none, and to a user those of others and of programs do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingress.auth.caller import Caller
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.request import page_limit
from ingress.http.responses import refusal_response
from ingress.requests.job_desk import AWAY, JobDesk, is_job_id
from ingress.requests.job_document import OPEN, RETRY_AFTER, Job, JobList, listed_job
from schemas.errors import ErrorCode
from schemas.job_facts import read_facts
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import JOBS
from schemas.runtime.ledger.client import LedgerClient

_LIMIT_DEFAULT: Final = 20
_LIMIT_MAX: Final = 100
_READINGS_MAX: Final = 20
"""Of a user's list: it covers the newest 2 000 jobs of the organization."""


class JobRoutes:
    """The jobs of the caller: a program's are those of its organization."""

    def __init__(self, gatekeeper: Gatekeeper, ledger: LedgerClient, desk: JobDesk) -> None:
        self._gatekeeper = gatekeeper
        self._ledger = ledger
        self._desk = desk

    async def show(self, request: Request) -> Response:
        """One job, with its result or error once it has ended."""
        return await self._answer(request, is_cancelled=False)

    async def cancel(self, request: Request) -> Response:
        """Cancel a job; the answer is what it is now, which of a running one is still running."""
        return await self._answer(request, is_cancelled=True)

    async def list_all(self, request: Request) -> Response:
        """A page of jobs without their results, newest first."""
        caller = await self._gatekeeper.caller(request.scope, JOBS.scope)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        page = _page(request, caller)
        if isinstance(page, Refusal):
            return refusal_response(request, page)
        try:
            entries, has_more = await self._page(caller, page)
        except LedgerUnavailable:
            return refusal_response(request, AWAY)
        now_ms = self._gatekeeper.clock.now_ms()
        jobs = [job for entry in entries if (job := listed_job(entry, now_ms)) is not None]
        return _json({"object": "list", "data": jobs, "has_more": has_more})

    async def _page(
        self, caller: Caller, page: documents.ListJobs
    ) -> tuple[Sequence[answers.JobEntry], bool]:
        """The page, and whether there are more. What a user owns is picked from the list of the organization, of
        which so much is read. Raises ``LedgerUnavailable``."""
        if caller.owner is None:
            listed = await self._ledger.jobs(page)
            return listed.entries, listed.more
        own: list[answers.JobEntry] = []
        after = page.after
        for _ in range(_READINGS_MAX):
            listed = await self._ledger.jobs(
                documents.ListJobs(org=page.org, limit=_LIMIT_MAX, after=after)
            )
            own += [entry for entry in listed.entries if _is_of(entry, caller.owner)]
            if len(own) > page.limit or not listed.more or not listed.entries:
                break
            after = listed.entries[-1].req
        return own[: page.limit], len(own) > page.limit

    async def _answer(self, request: Request, *, is_cancelled: bool) -> Response:
        caller = await self._gatekeeper.caller(request.scope, JOBS.scope)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        job = await self._desk.find(
            caller, request.path_params["job_id"], is_cancelled=is_cancelled
        )
        if isinstance(job, Refusal):
            return refusal_response(request, job)
        response = _json(job)
        if job["status"] in OPEN:
            response.headers["retry-after"] = RETRY_AFTER.decode()
        return response


def _json(fields: Job | JobList) -> Response:
    return Response(msgspec.json.encode(fields), media_type="application/json")


def _page(request: Request, caller: Caller) -> documents.ListJobs | Refusal:
    """The page that the query asks for."""
    after = request.query_params.get("after")
    wanted = page_limit(request.query_params.get("limit"), _LIMIT_DEFAULT, _LIMIT_MAX)
    if isinstance(wanted, Refusal):
        return wanted
    if after is not None and not is_job_id(after):
        message = "after must be the id of a job."
        return Refusal(ErrorCode.INVALID_REQUEST, message, param="after")
    return documents.ListJobs(org=caller.org, limit=wanted, after=after)


def _is_of(entry: answers.JobEntry, owner: str) -> bool:
    facts = read_facts(entry.info)
    return facts is not None and facts.is_open_to(owner)
