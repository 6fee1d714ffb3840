"""``/admin/v1/ledger/verify``: proves that the ledger and the log agree, or says where they do not.

Accounting may be behind the calls, therefore both sides are read again until they are equal or the
deadline passed.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.finance.ledger_tables import (
    find_tables,
    list_unbooked,
    open_attempts,
    read_tables,
)
from ingress.admin.finance.verify import Difference, UsageFold, compare
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.reader import LogReader, read_topic
from schemas.codec import UNDECODABLE, decode_as
from schemas.errors import ErrorCode
from schemas.events import UsageRecorded
from schemas.topics import USAGE_RECORDS

_DEADLINE_DEFAULT_S = 15.0
_DEADLINE_MAX_S = 600.0
_PAUSE_S = 0.25
# One reading may outlast the deadline by this; a broker that is away must not hold the request.
_READ_MARGIN_S = 20.0
_LISTED_MAX = 1_000
# Tables leave the store forty days after their hour; nearly all of that time is compared.
_COMPARED_SPAN = timedelta(days=39)


@dataclass(frozen=True, slots=True)
class LedgerRoutes:
    """The handler of verification."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/ledger/verify", self.verify, methods=["GET"])]

    async def verify(self, request: Request) -> Response:
        """The comparison, repeated until nothing differs or the deadline passed."""
        deadline_s = _deadline_s(request)
        if isinstance(deadline_s, Refusal):
            return problem_response(deadline_s)
        began_ms = self.deps.clock.now_ms()
        now = datetime.fromtimestamp(began_ms / 1_000, UTC)
        oldest = (now - _COMPARED_SPAN).replace(minute=0, second=0, microsecond=0)
        fold = UsageFold(oldest_hour_ms=int(oldest.timestamp() * 1_000))
        give_up_s = self.deps.clock.monotonic_s() + deadline_s
        async with (
            asyncio.timeout(deadline_s + _READ_MARGIN_S),
            read_topic(self.deps.settings.kafka_brokers, USAGE_RECORDS) as log,
        ):
            while True:
                organizations, differences = await self._compare_once(log, fold, oldest)
                if not differences or self.deps.clock.monotonic_s() >= give_up_s:
                    break
                await asyncio.sleep(_PAUSE_S)
        attempts = await open_attempts(self.deps.ledger_store)
        # What was finished before all this began has had its time to be booked.
        unbooked = await list_unbooked(self.deps.ledger_store, began_ms, _LISTED_MAX)
        return JSONResponse(
            {
                **report(differences),
                "organizations": organizations,
                "usage_lines": fold.lines,
                "malformed_lines": fold.malformed,
                "since": oldest.isoformat(),
                "open_attempts": attempts,
                "settled_not_booked": [msgspec.structs.asdict(entry) for entry in unbooked],
            }
        )

    async def _compare_once(
        self, log: LogReader, fold: UsageFold, oldest: datetime
    ) -> tuple[int, list[Difference]]:
        store = self.deps.ledger_store
        found = await find_tables(store, oldest.strftime("%Y-%m-%dT%H"))
        tables = await read_tables(store, found)
        async for values in log.values_to_end():
            fold.add(line for value in values if (line := _line(value, fold)) is not None)
        return len(tables.keys() | fold.sums.keys()), compare(tables, fold.sums)


def _line(value: bytes, fold: UsageFold) -> UsageRecorded | None:
    """The line; one that is none is counted, for it hides nothing and ends no verification."""
    try:
        return decode_as(value, UsageRecorded)
    except UNDECODABLE:
        fold.malformed += 1
        return None


def report(differences: list[Difference]) -> dict[str, Any]:
    """The verdict: ``difference`` is the sum of all without their signs, 0 when they agree."""
    return {
        "difference": sum(abs(d.difference) for d in differences),
        "differences": [
            asdict(d) | {"difference": d.difference} for d in differences[:_LISTED_MAX]
        ],
        "differences_total": len(differences),
    }


def _deadline_s(request: Request) -> float | Refusal:
    given = request.query_params.get("deadline_s")
    if given is None:
        return _DEADLINE_DEFAULT_S
    try:
        deadline_s = float(given)
    except ValueError:
        deadline_s = -1.0
    if not 0 <= deadline_s <= _DEADLINE_MAX_S:
        return Refusal(ErrorCode.INVALID_REQUEST, f"deadline_s is 0 to {_DEADLINE_MAX_S:.0f}")
    return deadline_s
