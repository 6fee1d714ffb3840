"""``/admin/v1/usage``: what was booked, read from the usage tables of the ledger store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.finance.ledger_tables import steps
from ingress.admin.finance.usage_table import (
    DIMENSIONS,
    Cell,
    Rows,
    cells_of,
)
from ingress.admin.http.bodies import organization, span_of
from ingress.admin.http.refusal import Refusal, problem_response
from schemas.errors import ErrorCode
from schemas.ledger import keys
from schemas.usage import hours_between

_PARAMETERS = {"from", "to", "by", "org"}
_DEFAULT_SPAN = timedelta(hours=24)
_SPAN_MAX = timedelta(days=40)
_HOUR = timedelta(hours=1)
# The store answers others between two steps.
_HOURS_PER_STEP = 24
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which whole hours, grouped by what, of which organization (``None``: all)."""

    start: datetime
    end: datetime
    by: Sequence[str]
    org: str | None


UsageAnswer = TypedDict(
    "UsageAnswer",
    {
        "from": str,
        "to": str,
        "by": list[str],
        "rows": list[dict[str, Any]],
        "total": dict[str, Any] | None,
    },
)
"""Rows with the dimensions that were asked for and all measures, and their total."""


def parse_query(params: QueryParams, now_ms: int) -> UsageQuery | Refusal:
    """The query in the URL; the default is the last 24 hours by org, key and model."""
    unknown = set(params) - _PARAMETERS
    if unknown:
        return _invalid(f"unknown parameters: {', '.join(sorted(unknown))}")
    span = span_of(params, now_ms, _DEFAULT_SPAN)
    if isinstance(span, Refusal):
        return span
    start, end = span
    if not timedelta(0) < end - start <= _SPAN_MAX:
        return _invalid("'to' must be after 'from', by 40 days at most")
    by = tuple(params.get("by", "org,key,model").split(","))
    if not set(by) <= set(DIMENSIONS) or len(set(by)) != len(by):
        return _invalid(f"'by' takes, once each: {', '.join(DIMENSIONS)}")
    org = organization(params)
    if isinstance(org, Refusal):
        return org
    return UsageQuery(_hour_of(start), _hour_of(end - _TICK) + _HOUR, by, org)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _invalid(detail: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, detail)


@dataclass(frozen=True, slots=True)
class UsageRoutes:
    """The handler of usage reports."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/usage", self.report, methods=["GET"])]

    async def report(self, request: Request) -> Response:
        """Rows by the dimensions asked for, and their total."""
        query = parse_query(request.query_params, self.deps.clock.now_ms())
        if isinstance(query, Refusal):
            return problem_response(query)
        if missing := await self._incomplete():
            told = ", ".join(map(str, missing))
            detail = f"usage is being made again from the log in ledger shards {told}; come again"
            return problem_response(Refusal(ErrorCode.SERVICE_UNAVAILABLE, detail))
        rows, total = Rows(query.by), Rows(())
        hours = hours_between(query.start, query.end)
        for org in self._organizations() if query.org is None else [query.org]:
            for some in steps(hours, _HOURS_PER_STEP):
                cells = await self._read(org, some)
                rows.add(cells)
                total.add(cells)
        totals = total.listed()
        return JSONResponse(
            {
                "from": query.start.isoformat(),
                "to": query.end.isoformat(),
                "by": list(query.by),
                "rows": rows.listed(),
                "total": totals[0] if totals else None,
            }
        )

    async def _incomplete(self) -> list[int]:
        """Shards whose rebuild has not brought the usage hours back yet."""
        store, shards = self.deps.ledger_store, list(self.deps.shards)
        flags = await asyncio.gather(
            *(store.call("HGET", keys.of_shard(shard, keys.META), "complete") for shard in shards)
        )
        return [shard for shard, flag in zip(shards, flags, strict=True) if flag == b"0"]

    def _organizations(self) -> list[str]:
        """Deleted ones too: what they used stays on record."""
        return sorted(e.id for e in self.deps.config.entries() if e.kind == "organization")

    async def _read(self, org: str, hours: Sequence[str]) -> list[Cell]:
        store = self.deps.ledger_store
        shard = self.deps.shards.of(org)
        names = [keys.of_org(shard, org, keys.usage_suffix(hour)) for hour in hours]
        tables = await asyncio.gather(*(store.call("HGETALL", name) for name in names))
        cells: list[Cell] = []
        for hour, flat in zip(hours, tables, strict=True):
            fields = [field.decode() for field in flat[::2]]
            table = dict(zip(fields, map(int, flat[1::2]), strict=True))
            cells += cells_of(org, hour, table)
        return cells
