"""Usage: what the caller used by hour or day, from the usage tables of the ledger, some cells at a time.

A page ends early where its time or its rows do, and the next one goes on there. A few readings of the process run at once
and keep one pace, so that no reading of an organization is felt by another.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingress.apis.native import usage as native
from ingress.apis.openai import usage as openai
from ingress.apis.usage_pages import (
    ROWS_MAX,
    Bucket,
    ToldBucket,
    UsageForm,
    UsageQuery,
    View,
    hours_of,
    page_of,
    parse_query,
)
from ingress.auth.caller import Caller
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http import paths
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from ingress.requests.reader_shares import LookupsWait, ReaderShares, refuse_wait
from schemas.errors import ErrorCode
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import INFERENCE, KeyScope
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.pace import Pace

WITHIN_S: Final = 5.0
_READER_WITHIN_S: Final = 5.0
_READERS: Final = 2
_WAITING_MAX: Final = 8
_HOURS_AT_ONCE: Final = 12
_CELLS_AT_ONCE: Final = 250
"""About; an hour of fewer comes whole. The store answers nobody else meanwhile, for a tenth of a millisecond."""
_CELLS_PER_S: Final = 30_000
_CELLS_PER_CALL: Final = 10
"""What a call takes of the event loop, beside the cells that it brings."""
_WHOLE: Final[KeyScope] = "usage:read"
"""What a key of limited scopes needs to see what its whole organization used."""
_EITHER: Final[tuple[KeyScope, ...]] = (INFERENCE.scope, _WHOLE)

_AWAY: Final = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "Usage cannot be told now.")
_TOO_LONG: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE,
    "One bucket takes too long to read; ask for shorter ones, by bucket_width or end_time.",
)
_TOO_WIDE: Final = Refusal(
    ErrorCode.INVALID_REQUEST,
    f"One bucket has more than {ROWS_MAX} results; group by less.",
    param="group_by",
)


def _shares() -> ReaderShares:
    return ReaderShares(readers=_READERS, org_readers=1, org_waiting=_WAITING_MAX)


@dataclass(slots=True)
class UsageRoutes:
    """The usage of the caller: a program's is that of its organization, as far as its scopes go."""

    gatekeeper: Gatekeeper
    ledger: LedgerClient
    shares: ReaderShares = field(default_factory=_shares)
    pace: Pace = field(default_factory=lambda: Pace(records_per_s=_CELLS_PER_S))
    within_s: float = WITHIN_S

    async def show(self, request: Request) -> Response:
        """A page of buckets, with every measure."""
        return await self._page(request, native.FORM)

    async def completions(self, request: Request) -> Response:
        """A page of what models were asked, as OpenAI has it."""
        return await self._page(request, openai.COMPLETIONS)

    async def costs(self, request: Request) -> Response:
        """A page of what that cost, as OpenAI has it."""
        return await self._page(request, openai.COSTS)

    async def unkept(self, request: Request) -> Response:
        """Usage by anything that OpenAI tells apart and nobody keeps here."""
        caller = await self.gatekeeper.caller(request.scope, _EITHER)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        what = request.path_params["name"][:64]
        where = f"{paths.COMPLETIONS_USAGE} has all of it, by model"
        message = f"Usage is not kept as {what}: {where}."
        return refusal_response(request, Refusal(ErrorCode.NOT_FOUND, message))

    async def _page(self, request: Request, form: UsageForm) -> Response:
        caller = await self.gatekeeper.caller(request.scope, _EITHER)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        said = request.query_params.multi_items()
        query = parse_query(form, said, self.gatekeeper.clock.now_ms())
        if isinstance(query, Refusal):
            return refusal_response(request, query)
        buckets = await self._in_turn(caller, query)
        if isinstance(buckets, Refusal):
            return refusal_response(request, buckets)
        body = msgspec.json.encode(page_of(query, buckets))
        return Response(body, media_type="application/json")

    async def _in_turn(self, caller: Caller, query: UsageQuery) -> list[ToldBucket] | Refusal:
        try:
            async with asyncio.timeout(_READER_WITHIN_S) as queueing:
                async with self.shares.reader(caller.org):
                    queueing.reschedule(None)  # What is read has a bound of its own.
                    return await self._read(caller, query)
        except (LookupsWait, TimeoutError):
            return refuse_wait(_WAITING_MAX)
        except LedgerUnavailable:
            return _AWAY

    async def _read(self, caller: Caller, query: UsageQuery) -> list[ToldBucket] | Refusal:
        """As many whole buckets as the time and the rows of a page allow. Raises ``LedgerUnavailable``."""
        told: list[ToldBucket] = []
        rows, view = 0, View.of(caller, _WHOLE)
        try:
            async with asyncio.timeout(self.within_s):
                for span in query.buckets():
                    bucket = Bucket(span, query, view, self._project_of)
                    await self._fill(caller.org, bucket)
                    rows += len(bucket.sums)
                    if rows > ROWS_MAX:
                        return told or _TOO_WIDE
                    told.append(bucket.told())
        except TimeoutError:
            return told or _TOO_LONG
        return told

    def _project_of(self, key_id: str) -> str | None:
        key = self.gatekeeper.config.snapshot.keys.get(key_id)
        return None if key is None else key.project

    async def _fill(self, org: str, bucket: Bucket) -> None:
        hours = list(hours_of(bucket.span))
        for at in range(0, len(hours), _HOURS_AT_ONCE):
            some = hours[at : at + _HOURS_AT_ONCE]
            begun = await asyncio.gather(
                *(self.ledger.usage(org, hour, 0, _CELLS_AT_ONCE) for hour in some)
            )
            cells = sum(len(each.cells) for each in begun)
            await self.pace.rest(cells + len(some) * _CELLS_PER_CALL, 0)
            for hour, first in zip(some, begun, strict=True):
                # A table may tell a cell twice while it grows, so an hour is added up once it is whole.
                table, cursor = dict(first.cells), first.cursor
                while cursor:
                    more = await self.ledger.usage(org, hour, cursor, _CELLS_AT_ONCE)
                    table |= more.cells
                    cursor = more.cursor
                    await self.pace.rest(len(more.cells) + _CELLS_PER_CALL, 0)
                cells_read = [*table.items()]
                for done in range(0, len(cells_read), _CELLS_AT_ONCE):
                    bucket.add(cells_read[done : done + _CELLS_AT_ONCE])
                    await asyncio.sleep(0)
